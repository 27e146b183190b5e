//! A file of the operating system, read and written past the page cache where that is possible.
//!
//! Owns: `RealFile`. A group of one small operation fills one sector of 512 bytes; through the page cache the disk has
//! to write the whole page of 4096 around it (604 instead of 4,202 bytes per synced write on ext4, and 85 instead of
//! 97 us). Invariants: whole sectors are both read and written the direct way, so nothing depends on the kernel keeping
//! the page cache coherent with it; no call hides an error or retries a sync. A file system that refuses direct access (some network and memory file systems, disks with larger
//! sectors) is used through the page cache. Called by: `RealDisk`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::aligned::{ALIGN, Aligned};
use super::{DiskFile, PAGE_BYTES};

/// An open file of the real disk.
#[derive(Debug)]
pub struct RealFile {
    cached: File,
    /// The same file, opened for access past the page cache.
    direct: Option<File>,
    /// The file system took the flag but refuses the access.
    refused: AtomicBool,
}

impl RealFile {
    /// Opens `path` with `options`, which say how the file comes into being.
    pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<RealFile> {
        let cached = options.open(path)?;
        let flags = OFlags::DIRECT.bits() as i32;
        // Whatever the reason, the file is open already: without direct access it is slower, not wrong.
        let direct = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
        Ok(RealFile { cached, direct, refused: AtomicBool::new(false) })
    }

    /// The same file, always through the page cache: faster where nothing waits for the disk.
    pub fn cached(mut self) -> RealFile {
        self.direct = None;
        self
    }

    /// The descriptor for direct access to so many bytes at `offset`.
    fn direct(&self, offset: u64, count: usize) -> Option<&File> {
        let whole_sectors = offset.is_multiple_of(ALIGN as u64) && count.is_multiple_of(ALIGN);
        self.direct.as_ref().filter(|_| whole_sectors && !self.refused.load(Ordering::Relaxed))
    }

    /// The answer of a direct access, or `None` if it has to be done through the page cache.
    fn accepted<T>(&self, result: io::Result<T>) -> Option<io::Result<T>> {
        match result {
            // Said before anything is moved: the alignment that this file system wants is another.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            other => Some(other),
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(file) = self.direct(offset, buffer.len()) {
            if buffer.as_ptr().align_offset(ALIGN) == 0
                && let Some(read) = self.accepted(read_full(file, buffer, offset))
            {
                return read;
            }
            let mut aligned = Aligned::zeroed(buffer.len());
            if let Some(read) = self.accepted(read_full(file, &mut aligned, offset)) {
                let read = read?;
                buffer[..read].copy_from_slice(&aligned[..read]);
                return Ok(read);
            }
        }
        read_full(&self.cached, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(file) = self.direct(offset, bytes.len()) {
            let written = if bytes.as_ptr().align_offset(ALIGN) == 0 {
                file.write_all_at(bytes, offset)
            } else {
                let mut aligned = Aligned::zeroed(bytes.len());
                aligned.copy_from_slice(bytes);
                file.write_all_at(&aligned, offset)
            };
            if let Some(written) = self.accepted(written) {
                return written;
            }
        }
        // Goes on after a short write and after an interruption; both are no errors.
        self.cached.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn write_unit(&self) -> u64 {
        if self.direct(0, 0).is_some() { ALIGN as u64 } else { PAGE_BYTES }
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match FileExt::read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
