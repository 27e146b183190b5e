//! The simulated disk as a plain value: names, files, faults, and the image a crash leaves.
//!
//! Owns: every decision of `SimDisk`; no locks, no hooks. Called by: `SimDisk` under its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::inode::{Inode, SECTOR};
use super::{Crash, Fault, OpInfo, powered_off};

/// A small seeded generator (splitmix64).
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A change of the name space that is not durable yet.
#[derive(Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Rename(path, _) | NameChange::Unlink(path) => {
                path.parent()
            }
        }
    }

    /// Changes that rest on one that was lost have no effect.
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
        }
    }
}

/// The fate of one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Fail(Fault),
}

#[derive(Clone)]
pub(super) struct State {
    random: Random,
    pub(super) powered: bool,
    pub(super) ops: u64,
    pub(super) reads: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) read_faults: BTreeSet<u64>,
    pub(super) error_ppm: u32,
    pub(super) capacity: Option<u64>,
    pub(super) trace: Option<Vec<OpInfo>>,
    pub(super) locks: BTreeSet<PathBuf>,
    dirs: BTreeSet<PathBuf>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        State {
            random: Random(seed),
            powered: true,
            ops: 0,
            reads: 0,
            faults: BTreeMap::new(),
            read_faults: BTreeSet::new(),
            error_ppm: 0,
            capacity: None,
            trace: None,
            locks: BTreeSet::new(),
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            inodes: BTreeMap::new(),
            inode_next: 0,
        }
    }

    pub(super) fn verdict(&mut self, number: u64) -> Verdict {
        if let Some(fault) = self.faults.remove(&number) {
            return Verdict::Fail(fault);
        }
        if self.error_ppm > 0 && self.random.below(1_000_000) < u64::from(self.error_ppm) {
            return Verdict::Fail(Fault::Io);
        }
        Verdict::Pass
    }

    /// For operations that either happen or not: names and their sync.
    fn all_or_nothing(&mut self, verdict: Verdict) -> io::Result<()> {
        match verdict {
            Verdict::Fail(Fault::Io) => Err(eio()),
            Verdict::Fail(Fault::NoSpace) => Err(enospc()),
            Verdict::Fail(Fault::PowerCut) => {
                self.powered = false;
                Err(powered_off())
            }
            Verdict::Pass | Verdict::Fail(Fault::Lost | Fault::Misdirected(_)) => Ok(()),
        }
    }

    /// A change of names that power loss catches in flight may survive, like any unsynced one.
    fn change(&mut self, change: NameChange, verdict: Verdict) -> io::Result<()> {
        if verdict == Verdict::Fail(Fault::PowerCut) {
            self.changes.push(change);
            return self.all_or_nothing(verdict);
        }
        self.all_or_nothing(verdict)?;
        change.apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    pub(super) fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.powered {
            return Err(powered_off());
        }
        for ancestor in dir.ancestors() {
            self.dirs.insert(ancestor.to_path_buf());
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.powered {
            return Err(powered_off());
        }
        if !self.dirs.contains(dir) {
            return Err(not_found());
        }
        let names = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect())
    }

    pub(super) fn create(&mut self, path: &Path, verdict: Verdict) -> io::Result<u64> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(not_found());
        }
        let inode = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(NameChange::Link(path.to_path_buf(), inode), verdict)?;
        Ok(inode)
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<u64> {
        if !self.powered {
            return Err(powered_off());
        }
        self.names.get(path).copied().ok_or_else(not_found)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, verdict: Verdict) -> io::Result<()> {
        if !self.names.contains_key(from) {
            return Err(not_found());
        }
        self.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()), verdict)
    }

    pub(super) fn remove(&mut self, path: &Path, verdict: Verdict) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(not_found());
        }
        self.change(NameChange::Unlink(path.to_path_buf()), verdict)
    }

    pub(super) fn sync_dir(&mut self, dir: &Path, verdict: Verdict) -> io::Result<()> {
        self.all_or_nothing(verdict)?;
        let (synced, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| change.dir() == Some(dir));
        for change in synced {
            change.apply(&mut self.durable_names);
        }
        self.changes = left;
        Ok(())
    }

    pub(super) fn read(&mut self, inode: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.powered {
            return Err(powered_off());
        }
        let number = self.reads;
        self.reads += 1;
        if self.read_faults.remove(&number) {
            return Err(eio());
        }
        let visible = &self.inodes[&inode].visible;
        let start = (offset as usize).min(visible.len());
        let end = (start + buffer.len()).min(visible.len());
        buffer[..end - start].copy_from_slice(&visible[start..end]);
        Ok(end - start)
    }

    pub(super) fn write(
        &mut self,
        inode: u64,
        bytes: &[u8],
        offset: u64,
        verdict: Verdict,
    ) -> io::Result<()> {
        let length = self.inodes[&inode].visible.len() as u64;
        let grown = (offset + bytes.len() as u64).saturating_sub(length);
        if self.capacity.is_some_and(|capacity| grown > 0 && self.used_bytes() + grown > capacity) {
            return Err(enospc());
        }
        let sectors = bytes.len().div_ceil(SECTOR) as u64;
        let part = (self.random.below(sectors + 1) as usize * SECTOR).min(bytes.len());
        let file = self.inodes.get_mut(&inode).expect("an open file has an inode");
        match verdict {
            Verdict::Pass => file.write(bytes, offset),
            Verdict::Fail(Fault::Lost) => {}
            Verdict::Fail(Fault::Misdirected(by)) => file.write(bytes, offset.saturating_add_signed(by)),
            Verdict::Fail(Fault::Io | Fault::NoSpace) => file.write(&bytes[..part], offset),
            Verdict::Fail(Fault::PowerCut) => file.write(bytes, offset),
        }
        self.all_or_nothing(verdict)
    }

    pub(super) fn sync(&mut self, inode: u64, verdict: Verdict) -> io::Result<()> {
        let file = self.inodes.get_mut(&inode).expect("an open file has an inode");
        match verdict {
            Verdict::Pass | Verdict::Fail(Fault::Misdirected(_)) => file.sync(),
            Verdict::Fail(Fault::Io | Fault::NoSpace) => file.sync_failed(),
            // A sync that lies, or one that power loss catches: whatever is dirty stays uncertain.
            Verdict::Fail(Fault::Lost | Fault::PowerCut) => {}
        }
        self.all_or_nothing(verdict)
    }

    pub(super) fn length(&self, inode: u64) -> io::Result<u64> {
        if !self.powered {
            return Err(powered_off());
        }
        Ok(self.inodes[&inode].visible.len() as u64)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].visible.len() as u64).sum()
    }

    pub(super) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.inodes[self.names.get(path)?].visible.clone())
    }

    pub(super) fn edit(&mut self, path: &Path, edit: impl Fn(&mut Vec<u8>)) {
        let inode = self.names[path];
        self.inodes.get_mut(&inode).expect("a name has an inode").edit(edit);
    }

    pub(super) fn lose_file(&mut self, path: &Path) {
        self.names.remove(path);
        self.durable_names.remove(path);
        let path = path.to_path_buf();
        self.changes.retain(|change| {
            !matches!(change, NameChange::Link(other, _) | NameChange::Rename(_, other) if *other == path)
        });
    }

    pub(super) fn after_crash(&mut self, how: Crash) -> State {
        let mut random = Random(self.random.next());
        let mut names = self.durable_names.clone();
        for change in &self.changes {
            let kept = match how {
                Crash::Seeded => random.below(2) == 0,
                Crash::LoseAll => false,
                Crash::KeepAll => true,
            };
            if kept {
                change.apply(&mut names);
            }
        }
        let inodes =
            names.values().map(|inode| (*inode, self.inodes[inode].after_crash(how, &mut random))).collect();
        State {
            random,
            capacity: self.capacity,
            dirs: self.dirs.clone(),
            durable_names: names.clone(),
            names,
            inodes,
            inode_next: self.inode_next,
            ..State::new(0)
        }
    }

    pub(super) fn fork(&self) -> State {
        State {
            powered: true,
            faults: BTreeMap::new(),
            read_faults: BTreeSet::new(),
            error_ppm: 0,
            trace: None,
            locks: BTreeSet::new(),
            ..self.clone()
        }
    }
}
