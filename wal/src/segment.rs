//! Segment files: their names, and how one comes into being.
//!
//! Owns: the naming scheme, `Segment`, creation and recycling. Invariant: a file bears a segment's name only
//! when its header is durable and its body holds nothing but zeros or content of earlier uses; so whoever finds
//! such a name may rely on the header.
//! Called by: `Wal` (first segment, rolling without a prepared one), `prepare`, `recovery`.
//!
//! ```text
//! 0000000000000007.wal     segment 7 of the chain
//! 0000000000000005.spare   a purged segment, waiting to be used again
//! 0000000000000008.new     being created; removed at the next start
//! reserve                  zeros, kept for votes on a full disk
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::Within;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::header::{BODY_OFFSET, Header};
use crate::options::Identity;

pub(crate) const RESERVE: &str = "reserve";
pub(crate) const RESERVE_NEW: &str = "reserve.new";

/// Zeros are written and synced in pieces of this size, so that preparing a segment never leaves so much dirty
/// data behind that a group commit waits for it.
const ZERO_BYTES: usize = 1 << 20;

pub(crate) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.wal"))
}

pub(crate) fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.spare"))
}

fn new_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.new"))
}

/// What a file name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    Spare(u64),
    Reserve,
    /// Left by a creation that a crash interrupted.
    Unfinished,
    /// Not ours; never touched.
    Other,
}

pub(crate) fn parse_name(name: &str) -> Name {
    if name == RESERVE {
        return Name::Reserve;
    }
    if name == RESERVE_NEW {
        return Name::Unfinished;
    }
    let Some((stem, extension)) = name.split_once('.') else { return Name::Other };
    let lower_hex = stem.len() == 16 && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match (lower_hex, extension, u64::from_str_radix(stem, 16)) {
        (true, "wal", Ok(sequence)) => Name::Segment(sequence),
        (true, "spare", Ok(sequence)) => Name::Spare(sequence),
        (true, "new", Ok(_)) => Name::Unfinished,
        _ => Name::Other,
    }
}

/// A segment of the chain, open.
pub(crate) struct Segment<F> {
    pub(crate) sequence: u64,
    /// Name at the time it was opened; for messages.
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    pub(crate) file_salt: u64,
    pub(crate) segment_salt: u64,
    pub(crate) block_align_bytes: u64,
    /// Length of the file; grows when one block is larger than it.
    pub(crate) bytes: AtomicU64,
}

impl<F: DiskFile> Segment<F> {
    pub(crate) fn new(path: PathBuf, file: F, header: Header, bytes: u64) -> Self {
        // Positions in memory are 32 bits wide; at 64 MiB a piece that is 2^58 bytes of log.
        assert!(header.sequence < u64::from(u32::MAX), "segment sequence is out of range");
        Segment {
            sequence: header.sequence,
            path,
            file,
            file_salt: header.file_salt,
            segment_salt: header.segment_salt,
            block_align_bytes: header.block_align_bytes,
            bytes: AtomicU64::new(bytes),
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn within(&self) -> Within {
        Within { file_bytes: self.length(), write_unit: self.file.write_unit() }
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), WalError> {
        self.file.write_at(bytes, offset).map_err(|error| WalError::io("write", &self.path, error))?;
        self.bytes.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), WalError> {
        self.file.sync_data().map_err(|error| WalError::io("fdatasync", &self.path, error))
    }
}

/// A file whose content no longer matters, except that its sectors are keyed by `file_salt`.
pub(crate) struct Spare<F> {
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    pub(crate) file_salt: u64,
    pub(crate) bytes: u64,
}

/// Everything that decides what a new segment looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlan {
    pub(crate) identity: Identity,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    pub(crate) segment_salt: u64,
    /// For a new file; a recycled one keeps its own.
    pub(crate) file_salt: u64,
    pub(crate) block_align_bytes: u64,
}

impl SegmentPlan {
    pub(crate) fn header(&self) -> Header {
        Header {
            identity: self.identity,
            sequence: self.sequence,
            segment_salt: self.segment_salt,
            file_salt: self.file_salt,
            bytes: self.bytes,
            block_align_bytes: self.block_align_bytes,
        }
    }

    /// Creates a file of zeros and gives it the segment's name; `first_block` builds content that must be there
    /// before the name is (only the very first segment has some).
    pub(crate) fn create<D: Disk>(
        &self,
        disk: &D,
        dir: &Path,
        first_block: impl FnOnce(&Segment<D::File>) -> Result<(), WalError>,
    ) -> Result<Segment<D::File>, WalError> {
        let path = new_path(dir, self.sequence);
        let file = create_zeroed(disk, &path, self.bytes)?;
        let segment = Segment::new(segment_path(dir, self.sequence), file, self.header(), self.bytes);
        segment.write(&self.header().encode(), 0)?;
        first_block(&segment)?;
        segment.sync()?;
        self.publish(disk, dir, &path)?;
        Ok(segment)
    }

    /// Gives a spare file this segment's header, then its name.
    pub(crate) fn recycle<D: Disk>(
        mut self,
        disk: &D,
        dir: &Path,
        spare: Spare<D::File>,
    ) -> Result<Segment<D::File>, WalError> {
        self.file_salt = spare.file_salt;
        self.bytes = spare.bytes;
        let path = segment_path(dir, self.sequence);
        let segment = Segment::new(path, spare.file, self.header(), self.bytes);
        segment.write(&self.header().encode(), 0)?;
        segment.sync()?;
        self.publish(disk, dir, &spare.path)?;
        Ok(segment)
    }

    fn publish<D: Disk>(&self, disk: &D, dir: &Path, from: &Path) -> Result<(), WalError> {
        let to = segment_path(dir, self.sequence);
        disk.rename(from, &to).map_err(|error| WalError::io("rename", from, error))?;
        sync_dir(disk, dir)
    }
}

pub(crate) fn sync_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    disk.sync_dir(dir).map_err(|error| WalError::io("fsync of directory", dir, error))
}

/// Creates a file filled with zeros, so that later syncs of its content change no metadata. On a full disk the
/// attempt is taken back.
pub(crate) fn create_zeroed<D: Disk>(disk: &D, path: &Path, bytes: u64) -> Result<D::File, WalError> {
    let result = fill(disk, path, bytes);
    if result.as_ref().is_err_and(WalError::is_full) {
        // The error of the creation is the one to report; a leftover is removed at the next attempt.
        let _ = remove_durably(disk, path);
    }
    result
}

/// For names that are used again: were the removal undone and a later renaming kept, the old file would come up.
fn remove_durably<D: Disk>(disk: &D, path: &Path) -> Result<(), WalError> {
    disk.remove(path).map_err(|error| WalError::io("remove", path, error))?;
    sync_dir(disk, path.parent().expect("a file in a directory"))
}

fn fill<D: Disk>(disk: &D, path: &Path, bytes: u64) -> Result<D::File, WalError> {
    let file = match disk.create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            remove_durably(disk, path)?;
            disk.create(path)
        }
        other => other,
    }
    .map_err(|error| WalError::io("create", path, error))?;
    let zeros = vec![0u8; (bytes as usize).min(ZERO_BYTES)];
    let mut offset = 0;
    while offset < bytes {
        let count = (bytes - offset).min(ZERO_BYTES as u64);
        file.write_at(&zeros[..count as usize], offset)
            .map_err(|error| WalError::io("write", path, error))?;
        file.sync_data().map_err(|error| WalError::io("fdatasync", path, error))?;
        offset += count;
    }
    Ok(file)
}

const _: () = assert!(BODY_OFFSET.is_multiple_of(4096), "blocks never share a page with the header");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let dir = Path::new("/d");
        let name = |path: PathBuf| parse_name(path.file_name().unwrap().to_str().unwrap());
        assert_eq!(name(segment_path(dir, 0xab)), Name::Segment(0xab));
        assert_eq!(name(spare_path(dir, 7)), Name::Spare(7));
        assert_eq!(name(new_path(dir, 7)), Name::Unfinished);
        assert_eq!(parse_name("reserve"), Name::Reserve);
        assert_eq!(parse_name("reserve.new"), Name::Unfinished);
        for other in ["7.wal", "00000000000000AB.wal", "0000000000000007.walx", "lost+found", ""] {
            assert_eq!(parse_name(other), Name::Other, "{other}");
        }
    }
}
