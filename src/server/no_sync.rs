//! The real disk, with syncs that can be left out.
//!
//! Owns: [`OptionalSync`]. Called by: `node`, which leaves them out only with `--unsafe-no-fsync`. Invariant: nothing else
//! differs from the real disk, except that nothing then waits for it, so that a benchmark without syncs measures the rest.

use std::io;
use std::path::Path;

use keelson_wal::disk::RealFile;
use keelson_wal::{Disk, DiskFile, RealDisk};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalSync {
    pub(super) sync: bool,
}

/// An open file of such a disk.
pub(super) struct OptionalSyncFile {
    file: RealFile,
    sync: bool,
}

impl OptionalSync {
    fn wrap(self, file: RealFile) -> OptionalSyncFile {
        OptionalSyncFile { file: if self.sync { file } else { file.cached() }, sync: self.sync }
    }
}

impl Disk for OptionalSync {
    type File = OptionalSyncFile;
    type Lock = <RealDisk as Disk>::Lock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Self::Lock> {
        RealDisk.lock_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<OptionalSyncFile> {
        RealDisk.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<OptionalSyncFile> {
        RealDisk.open(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.sync { RealDisk.sync_dir(dir) } else { Ok(()) }
    }
}

impl DiskFile for OptionalSyncFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        DiskFile::write_at(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.sync { DiskFile::sync_data(&self.file) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn write_unit(&self) -> u64 {
        self.file.write_unit()
    }
}
