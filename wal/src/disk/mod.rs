//! The port to the disk: everything the log asks of a file system.
//!
//! Owns: the traits `Disk` and `DiskFile` and what their implementors promise. Implementations: `RealDisk`
//! (the operating system) and `SimDisk` (in memory, seeded, with faults). Called by: the rest of this crate.

pub(crate) mod aligned;
mod direct;
mod real;
mod sim;

use std::io;
use std::path::Path;

pub use direct::RealFile;
pub use real::{RealDisk, RealLock};
pub use sim::{Crash, Fault, OpInfo, OpKind, SimDisk, SimFile, SimLock};

/// What the kernel caches and writes of a file at once.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// A file system as the log sees it. Cloning gives another handle to the same disk.
///
/// # To ensure correctness
/// - `create` fails if the name exists.
/// - `rename` replaces atomically: after a crash the file is found under the old name or the new one.
/// - A name is certain to survive a crash only after `sync_dir` of its directory returned; before that, any
///   subset of creations, renames and removals may survive.
/// - `lock_dir` fails with `WouldBlock` while another lock on the directory lives, in this process or another.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Held while the log is open.
    type Lock: Send + Sync + 'static;

    /// Creates the directory and its parents, and makes the names durable.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Takes the directory for this process; freed by drop and by the end of the process.
    fn lock_dir(&self, dir: &Path) -> io::Result<Self::Lock>;
    /// Names of the files in `dir`, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a file that does not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name; the content lives on for those who have the file open.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file with positional access.
///
/// # To ensure correctness
/// - After a crash each 512-byte sector holds what the last `sync_data` made durable, or what one of the later
///   writes put there, each sector by itself. A sector that was not written since is not touched.
/// - `sync_data` covers every write that returned before it was called, and the length of the file.
/// - After an error of `write_at` or `sync_data` nothing is known, and calling again proves nothing.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`; a write past the end extends the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// A write that ends at a multiple of this never makes the system read what follows it: a page where writes go
    /// through the page cache, a sector where they do not.
    fn write_unit(&self) -> u64 {
        PAGE_BYTES
    }
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

#[cfg(test)]
mod conformance {
    //! One suite for both implementations.

    use super::*;

    fn check<D: Disk>(disk: D, root: &Path) {
        let dir = root.join("a/b");
        disk.create_dir_all(&dir).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());

        let lock = disk.lock_dir(&dir).unwrap();
        let second = disk.lock_dir(&dir).err().expect("a second lock must fail");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        drop(disk.lock_dir(&dir).unwrap());

        let one = dir.join("one");
        assert_eq!(disk.open(&one).err().unwrap().kind(), io::ErrorKind::NotFound);
        let file = disk.create(&one).unwrap();
        assert_eq!(disk.create(&one).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert!(file.is_empty().unwrap());

        file.write_at(b"world", 5).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 10);
        let mut buffer = [0u8; 16];
        assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 7);
        assert_eq!(&buffer[..7], b"loworld");
        assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
        file.write_at(&[1u8; 2000], 1000).unwrap();
        assert_eq!(file.len().unwrap(), 3000);
        assert_eq!(file.read_at(&mut buffer, 500).unwrap(), 16);
        assert_eq!(buffer, [0u8; 16], "a gap reads as zeros");

        // Whole sectors take another way on the real disk; both see the same bytes.
        let sectors: Vec<u8> = (0..1536u32).map(|at| at as u8).collect();
        file.write_at(&sectors, 4096).unwrap();
        file.write_at(&[7; 3], 4100).unwrap();
        file.write_at(&sectors[512..1024], 5120).unwrap();
        let mut whole = vec![0u8; 2048];
        assert_eq!(file.read_at(&mut whole, 4096).unwrap(), 1536);
        assert_eq!(whole[..8], [0, 1, 2, 3, 7, 7, 7, 7]);
        assert_eq!(whole[1024..1536], sectors[512..1024]);
        assert_eq!(file.len().unwrap(), 5632);

        let two = dir.join("two");
        disk.rename(&one, &two).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["two"]);
        assert_eq!(disk.open(&two).unwrap().len().unwrap(), 5632);
        disk.create(&one).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["one", "two"]);
        disk.remove(&two).unwrap();
        assert_eq!(disk.remove(&two).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.list(&dir).unwrap(), ["one"]);
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 16, "an open file outlives its name");
    }

    #[test]
    fn real() {
        let root = tempfile::tempdir().unwrap();
        check(RealDisk, root.path());
    }

    #[test]
    fn simulated() {
        check(SimDisk::new(1), Path::new("/sim"));
    }
}
