//! Whose log it is, and the sizes of its files.
//!
//! Owns: `Identity`, `Options` and their validation. Called by: `Wal::open`, the preparing of segments.

use crate::error::OpenError;
use crate::header::BODY_OFFSET;
use crate::sector::SECTOR_BYTES;

/// Who a log belongs to. Written into every segment; a log never opens under another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Cluster id.
    pub cluster: u64,
    /// Member id.
    pub member: u64,
}

/// Source of random salts. Injected, so that one seed replays one run; production hands in the system's
/// generator.
pub type SaltSource = Box<dyn FnMut() -> u64 + Send>;

/// How a log is laid out.
pub struct Options {
    /// Whose log it is.
    pub identity: Identity,
    /// Size of a full-grown segment file. Only files of this size are recycled.
    pub segment_bytes: u64,
    /// Size of the very first segment: small, so that a fresh node starts in milliseconds. Each later segment
    /// is `GROWTH` times its predecessor until `segment_bytes` is reached, so that a small store stays small.
    pub first_segment_bytes: u64,
    /// Size of the file kept back so that votes can be written on a full disk. 0: none.
    pub reserve_bytes: u64,
    /// Blocks start at multiples of this: the device's logical sector. 512 or 4096.
    pub block_align_bytes: u64,
    /// `Recovered::tail` holds the newest entries up to about this many payload bytes (at least the last one).
    pub tail_bytes_max: u64,
    /// Salts of new segments.
    pub salt: SaltSource,
}

/// Factor between one segment's size and the next, until the full size is reached: 1, 2, 4, 8, 16 MiB. Each is
/// written with zeros once before its use, so a young log writes at most twice what it takes in.
pub(crate) const GROWTH: u64 = 2;

impl Options {
    /// Production sizes.
    pub fn new(identity: Identity, salt: SaltSource) -> Self {
        const MIB: u64 = 1 << 20;
        Options {
            identity,
            segment_bytes: 16 * MIB,
            first_segment_bytes: MIB,
            reserve_bytes: MIB,
            block_align_bytes: SECTOR_BYTES as u64,
            tail_bytes_max: 64 * MIB,
            salt,
        }
    }

    /// Segments of a few blocks, so that tests roll, recycle and purge often.
    pub fn tiny(identity: Identity, salt: SaltSource) -> Self {
        Options {
            segment_bytes: 16 << 10,
            first_segment_bytes: 8 << 10,
            reserve_bytes: 8 << 10,
            ..Options::new(identity, salt)
        }
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let page = BODY_OFFSET;
        if !matches!(self.block_align_bytes, 512 | 4096) {
            return Err(OpenError::Options("block_align_bytes must be 512 or 4096"));
        }
        for bytes in [self.segment_bytes, self.first_segment_bytes] {
            if !bytes.is_multiple_of(page) || bytes < 2 * page || bytes > 1 << 30 {
                return Err(OpenError::Options(
                    "segment sizes must be multiples of 4096 from 8 KiB to 1 GiB",
                ));
            }
        }
        if !self.reserve_bytes.is_multiple_of(page)
            || (self.reserve_bytes != 0 && self.reserve_bytes < 2 * page)
        {
            return Err(OpenError::Options("reserve_bytes must be 0 or a multiple of 4096 from 8 KiB"));
        }
        if self.first_segment_bytes > self.segment_bytes {
            return Err(OpenError::Options("first_segment_bytes must not exceed segment_bytes"));
        }
        Ok(())
    }

    /// Size of the segment that follows one of `bytes`.
    pub(crate) fn bytes_after(&self, bytes: u64) -> u64 {
        (bytes * GROWTH).clamp(self.first_segment_bytes, self.segment_bytes)
    }
}
