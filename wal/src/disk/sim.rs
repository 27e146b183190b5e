//! A disk in memory that loses, tears and corrupts what a real one may, from a seed.
//!
//! Owns: visible and durable content of every file and of the name space, scheduled faults, the image a power
//! cut leaves. Invariant: the same seed and the same calls give the same results and the same image.
//! Called by: this crate's tests, the simulation, tests of other crates that keep files.
//!
//! Two ways for a process to die: drop the log and open the same `SimDisk` again (the process was killed, the
//! page cache lives on), or call `crash` and open the disk it returns (power was cut).

mod inode;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};
use state::{State, Verdict};

/// What a mutating operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// A file is created.
    Create,
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A file gets another name.
    Rename,
    /// A name is removed.
    Remove,
    /// A directory is synced.
    SyncDir,
}

/// One mutating operation, as the hook and the trace see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpInfo {
    /// Its number, from 0; numbers only grow.
    pub number: u64,
    /// What it does.
    pub kind: OpKind,
    /// On which file or directory (the old name, for a rename).
    pub path: PathBuf,
    /// Where, for a write.
    pub offset: u64,
    /// How much, for a write.
    pub bytes: u64,
}

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A failed write leaves a seeded prefix of its sectors; a failed sync forgets that the sectors are
    /// dirty, as file systems do, so that a later sync returns success without writing them.
    Io,
    /// ENOSPC, with the same partial effects.
    NoSpace,
    /// A write is reported as done and reaches neither cache nor disk.
    Lost,
    /// A write lands this many bytes further on in the same file.
    Misdirected(i64),
    /// Power goes at this operation: it is in flight (a write may leave any of its sectors, a sync any of the
    /// dirty ones), and every later call fails until `crash` is called.
    PowerCut,
}

/// How much of what was not synced survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Each sector and each change of a name survives or not by the seed.
    Seeded,
    /// Nothing unsynced survives.
    LoseAll,
    /// Everything survives (the cache was written back just in time).
    KeepAll,
}

type Hook = Arc<dyn Fn(&OpInfo) + Send + Sync>;
type ReadHook = Arc<dyn Fn(&Path, u64) + Send + Sync>;

struct Inner {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    read_hook: Mutex<Option<ReadHook>>,
}

/// The simulated disk. Clones share one state.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Inner>,
}

/// A file of a `SimDisk`.
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    path: PathBuf,
}

/// Holds a directory of a `SimDisk`.
pub struct SimLock {
    disk: SimDisk,
    dir: PathBuf,
}

impl SimDisk {
    /// An empty disk without scheduled faults.
    pub fn new(seed: u64) -> Self {
        SimDisk::from_state(State::new(seed))
    }

    fn from_state(state: State) -> Self {
        let inner = Inner { state: Mutex::new(state), hook: Mutex::default(), read_hook: Mutex::default() };
        SimDisk { inner: Arc::new(inner) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of mutating operations so far, hence the number of the next one.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Schedules a fault for the mutating operation with this number.
    pub fn inject(&self, number: u64, fault: Fault) {
        self.state().faults.insert(number, fault);
    }

    /// Makes every mutating operation fail with this probability, in millionths (EIO).
    pub fn set_error_rate(&self, ppm: u32) {
        self.state().error_ppm = ppm;
    }

    /// Makes the read with this number (from 0, counted apart) fail with EIO.
    pub fn inject_read_error(&self, number: u64) {
        self.state().read_faults.insert(number);
    }

    /// Number of reads so far.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Bounds the sum of all file lengths; growing past it fails with ENOSPC. `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Sum of all file lengths.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Calls `hook` before each mutating operation, outside every lock: it may block (a stall), record, or
    /// change the disk.
    pub fn set_hook(&self, hook: impl Fn(&OpInfo) + Send + Sync + 'static) {
        *self.inner.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Calls `hook` with path and offset before each read, outside every lock.
    pub fn set_read_hook(&self, hook: impl Fn(&Path, u64) + Send + Sync + 'static) {
        *self.inner.read_hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Starts (`true`) or stops recording operations.
    pub fn set_trace(&self, on: bool) {
        self.state().trace = on.then(Vec::new);
    }

    /// Takes what was recorded since the last call.
    pub fn take_trace(&self) -> Vec<OpInfo> {
        self.state().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Flips one bit on the medium and in the cache.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        self.state().edit(path, |bytes| bytes[offset as usize] ^= 1 << (bit % 8));
    }

    /// Puts `bytes` on the medium and in the cache, without any operation: stale or foreign sectors.
    pub fn overwrite(&self, path: &Path, offset: u64, content: &[u8]) {
        self.state().edit(path, |bytes| {
            bytes[offset as usize..offset as usize + content.len()].copy_from_slice(content);
        });
    }

    /// Cuts a file short on the medium and in the cache.
    pub fn shorten(&self, path: &Path, length: u64) {
        self.state().edit(path, |bytes| bytes.truncate(length as usize));
    }

    /// Removes a file on the medium and in the cache, without any operation.
    pub fn lose_file(&self, path: &Path) {
        self.state().lose_file(path);
    }

    /// The visible content of a file, `None` if there is none.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().content(path)
    }

    /// Visible file paths, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What power loss at this moment leaves, as a new disk without locks, faults, hook or trace. This disk
    /// fails every call from now on.
    pub fn crash(&self, how: Crash) -> SimDisk {
        let mut state = self.state();
        state.powered = false;
        SimDisk::from_state(state.after_crash(how))
    }

    /// An independent copy of the whole disk (cache included), without faults, hook or trace.
    pub fn fork(&self) -> SimDisk {
        SimDisk::from_state(self.state().fork())
    }

    /// Counts the operation, runs the hook and decides its fate.
    fn enter(&self, kind: OpKind, path: &Path, offset: u64, bytes: u64) -> io::Result<Verdict> {
        let info = {
            let mut state = self.state();
            if !state.powered {
                return Err(powered_off());
            }
            let number = state.ops;
            state.ops += 1;
            let info = OpInfo { number, kind, path: path.to_path_buf(), offset, bytes };
            if let Some(trace) = &mut state.trace {
                trace.push(info.clone());
            }
            info
        };
        let hook = self.inner.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(&info);
        }
        let mut state = self.state();
        if !state.powered {
            return Err(powered_off());
        }
        Ok(state.verdict(info.number))
    }
}

pub(crate) fn powered_off() -> io::Error {
    io::Error::other("the simulated machine has no power")
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // Directories are durable at once: losing one loses a log that never existed.
        self.state().create_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<SimLock> {
        if !self.state().locks.insert(dir.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), dir: dir.to_path_buf() })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state().list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let verdict = self.enter(OpKind::Create, path, 0, 0)?;
        let inode = self.state().create(path, verdict)?;
        Ok(SimFile { disk: self.clone(), inode, path: path.to_path_buf() })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inode = self.state().open(path)?;
        Ok(SimFile { disk: self.clone(), inode, path: path.to_path_buf() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let verdict = self.enter(OpKind::Rename, from, 0, 0)?;
        self.state().rename(from, to, verdict)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let verdict = self.enter(OpKind::Remove, path, 0, 0)?;
        self.state().remove(path, verdict)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let verdict = self.enter(OpKind::SyncDir, dir, 0, 0)?;
        self.state().sync_dir(dir, verdict)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let hook = self.disk.inner.read_hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(&self.path, offset);
        }
        self.disk.state().read(self.inode, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let verdict = self.disk.enter(OpKind::Write, &self.path, offset, bytes.len() as u64)?;
        self.disk.state().write(self.inode, bytes, offset, verdict)
    }

    fn sync_data(&self) -> io::Result<()> {
        let verdict = self.disk.enter(OpKind::Sync, &self.path, 0, 0)?;
        self.disk.state().sync(self.inode, verdict)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.state().length(self.inode)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.dir);
    }
}

#[cfg(test)]
mod tests;
