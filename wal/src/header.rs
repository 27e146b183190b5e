//! The first sector of a segment file.
//!
//! Owns: magic, format version, identity, sequence, salts, sizes. Invariant: one sector, so it is either the
//! old header or the new one after a crash; a header that does not verify is damage, never "not written yet",
//! because a file gets a segment's name only after its header is synced.
//! Called by: creating, recycling and opening segments.

use std::path::Path;

use crate::error::OpenError;
use crate::options::Identity;
use crate::sector::SECTOR_BYTES;

/// Newest format this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Blocks start here; the header sector is alone in its page, so no block write ever touches its page.
pub(crate) const BODY_OFFSET: u64 = 4096;

const MAGIC: [u8; 8] = *b"KEELWAL\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: Identity,
    /// Position in the chain; equals the number in the file's name.
    pub(crate) sequence: u64,
    /// New for each use of the file; binds blocks to this use.
    pub(crate) segment_salt: u64,
    /// Drawn when the file was created and kept for its life; keys the sector checksums, so that content of
    /// earlier uses is still recognised as content of earlier uses.
    pub(crate) file_salt: u64,
    /// Length of the file when the header was written. It may grow (one block larger than it), never shrink.
    pub(crate) bytes: u64,
    pub(crate) block_align_bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut out = [0u8; SECTOR_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let fields = [
            self.identity.cluster,
            self.identity.member,
            self.sequence,
            self.segment_salt,
            self.file_salt,
            self.bytes,
            self.block_align_bytes,
        ];
        for (slot, field) in out[16..].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// `Damaged` if the sector is not a header as written; `UnknownVersion` if a newer program wrote it.
    /// The place of magic, version and checksum is the same in every version.
    pub(crate) fn decode(sector: &[u8], file: &Path) -> Result<Header, OpenError> {
        let damaged = |reason: &str| OpenError::Damaged {
            file: file.to_path_buf(),
            offset: 0,
            reason: reason.to_string(),
        };
        if sector.len() < SECTOR_BYTES {
            return Err(damaged("the file is shorter than a segment header"));
        }
        let mut copy: [u8; SECTOR_BYTES] = sector[..SECTOR_BYTES].try_into().expect("one sector");
        if copy[..8] != MAGIC {
            return Err(damaged("no segment header"));
        }
        let crc = u32::from_le_bytes(copy[12..16].try_into().expect("four bytes"));
        copy[12..16].fill(0);
        if crc != crc32fast::hash(&copy) {
            return Err(damaged("the segment header's checksum does not match"));
        }
        let version = u32::from_le_bytes(copy[8..12].try_into().expect("four bytes"));
        if version != FORMAT_VERSION {
            return Err(OpenError::UnknownVersion {
                file: file.to_path_buf(),
                found: version,
                newest: FORMAT_VERSION,
            });
        }
        let field =
            |at: usize| u64::from_le_bytes(copy[16 + at * 8..24 + at * 8].try_into().expect("eight bytes"));
        Ok(Header {
            identity: Identity { cluster: field(0), member: field(1) },
            sequence: field(2),
            segment_salt: field(3),
            file_salt: field(4),
            bytes: field(5),
            block_align_bytes: field(6),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            identity: Identity { cluster: 1, member: 2 },
            sequence: 3,
            segment_salt: 4,
            file_salt: 5,
            bytes: 8192,
            block_align_bytes: 512,
        }
    }

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes, Path::new("x")).unwrap(), header());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let result = Header::decode(&flipped, Path::new("x"));
            assert!(matches!(result, Err(OpenError::Damaged { offset: 0, .. })), "bit {bit}: {result:?}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = header().encode();
        bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let error = Header::decode(&bytes, Path::new("x")).unwrap_err();
        assert!(matches!(error, OpenError::UnknownVersion { found: 9, newest: FORMAT_VERSION, .. }));
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}
