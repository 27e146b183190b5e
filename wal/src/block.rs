//! One group commit: records laid out over stamped sectors.
//!
//! Owns: the reused buffer a group is built in, the block header, and the check of a complete block.
//! Invariants: a block fills whole sectors, all with its number; `bind` ties the sectors to each other, to this
//! use of the file and to the block before, so that sectors of different writes never pass as one block.
//! Called by: `wal` (building), `scan` (checking).
//!
//! Block header, at the start of the first sector's payload, little endian:
//! `body_bytes u32 | records u32 | flags u32 | previous u32 | bind u32`, then `body_bytes` of records.

use crate::disk::PAGE_BYTES;
use crate::disk::aligned::Aligned;
use crate::record::Cursor;
use crate::sector::{self, PAYLOAD_BYTES, SECTOR_BYTES, STAMP_BYTES};

pub(crate) const BLOCK_HEAD: usize = 20;
/// Largest body: positions in a segment are 32 bits wide, and a segment may hold one block of any size.
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 30;
/// The block carries no operation of a caller; it gives its predecessor a successor.
pub(crate) const FLAG_SEAL: u32 = 1;
/// The block opens its segment; its first record is STATE.
pub(crate) const FLAG_OPENS: u32 = 2;

/// A buffer larger than this is given back after use.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Sectors of a block with this body.
pub(crate) fn sectors(body_bytes: u64) -> u64 {
    (BLOCK_HEAD as u64 + body_bytes).div_ceil(PAYLOAD_BYTES as u64)
}

/// Where a block goes and what it follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) file_salt: u64,
    pub(crate) segment_salt: u64,
    /// Its number; one more than its predecessor's.
    pub(crate) number: u64,
    /// Checksum of the predecessor's first sector.
    pub(crate) previous: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    pub(crate) flags: u32,
    pub(crate) previous: u32,
    bind: u32,
}

impl BlockHeader {
    /// Reads the header from a valid first sector.
    pub(crate) fn decode(first_sector: &[u8]) -> BlockHeader {
        let mut cursor = Cursor(&first_sector[STAMP_BYTES..]);
        let mut field = || cursor.u32().expect("a sector is longer than a block header");
        BlockHeader {
            body_bytes: field(),
            records: field(),
            flags: field(),
            previous: field(),
            bind: field(),
        }
    }

    pub(crate) fn sectors(&self) -> u64 {
        sectors(u64::from(self.body_bytes))
    }

    fn encode(&self) -> [u8; BLOCK_HEAD] {
        let mut out = [0; BLOCK_HEAD];
        let fields = [self.body_bytes, self.records, self.flags, self.previous, self.bind];
        for (slot, field) in out.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        out
    }

    /// The checksum over everything that makes this block this block, except the first sector's own.
    fn bind(&self, segment_salt: u64, number: u64, sector_crcs: impl Iterator<Item = u32>) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&segment_salt.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(&BlockHeader { bind: 0, ..*self }.encode());
        for crc in sector_crcs {
            hasher.update(&crc.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Whether `bytes` (whole, valid sectors) are one write.
    pub(crate) fn binds(&self, bytes: &[u8], segment_salt: u64, number: u64) -> bool {
        let crcs = bytes.chunks_exact(SECTOR_BYTES).skip(1).map(sector::crc);
        self.bind == self.bind(segment_salt, number, crcs)
    }
}

/// Copies the body out of the sectors of a block.
pub(crate) fn body(bytes: &[u8], body_bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(body_bytes);
    let mut skip = BLOCK_HEAD;
    for sector in bytes.chunks_exact(SECTOR_BYTES) {
        let payload = &sector[STAMP_BYTES + skip..];
        let count = payload.len().min(body_bytes - out.len());
        out.extend_from_slice(&payload[..count]);
        skip = 0;
    }
    assert_eq!(out.len(), body_bytes, "the sectors hold the body");
}

/// The buffer a block is built in. Payloads are copied once, here.
#[derive(Default)]
pub(crate) struct BlockBuffer {
    bytes: Aligned,
    /// Where the next byte goes; always inside a sector's payload, or at the start of the next sector.
    at: usize,
    records: u32,
}

impl BlockBuffer {
    /// Starts a block of `body_bytes`.
    pub(crate) fn begin(&mut self, body_bytes: u64) {
        assert!(body_bytes <= BODY_BYTES_MAX);
        let length = (sectors(body_bytes) as usize) * SECTOR_BYTES + PAGE_BYTES as usize;
        if self.bytes.len() < length || self.bytes.len() > length.max(BUFFER_BYTES_KEPT) {
            self.bytes = Aligned::zeroed(length.next_power_of_two());
        }
        self.at = STAMP_BYTES + BLOCK_HEAD;
        self.records = 0;
    }

    /// Position in the block where the next record will start.
    pub(crate) fn position(&self) -> u64 {
        let within = self.at % SECTOR_BYTES;
        (if within == 0 { self.at + STAMP_BYTES } else { self.at }) as u64
    }

    /// Adds one record, given as its head and its content.
    pub(crate) fn record(&mut self, head: &[u8], content: &[u8]) {
        self.put(head);
        self.put(content);
        self.records += 1;
    }

    fn put(&mut self, mut from: &[u8]) {
        while !from.is_empty() {
            let mut within = self.at % SECTOR_BYTES;
            if within == 0 {
                self.at += STAMP_BYTES;
                within = STAMP_BYTES;
            }
            let count = from.len().min(SECTOR_BYTES - within);
            let (now, rest) = from.split_at(count);
            self.bytes[self.at..self.at + count].copy_from_slice(now);
            self.at += count;
            from = rest;
        }
    }

    /// Stamps all sectors. Returns the bytes of the block and, after them, zeros to the end of the last unit in
    /// which the disk is written (no further than the file), and the checksum that its successor will name.
    pub(crate) fn finish(&mut self, place: Place, body_bytes: u64, flags: u32, within: Within) -> Built<'_> {
        let block_bytes = sectors(body_bytes) as usize * SECTOR_BYTES;
        assert_eq!(self.position(), position_after(body_bytes), "the announced size was filled exactly");
        let end = place.offset + block_bytes as u64;
        let padded_end = end.next_multiple_of(within.write_unit).min(within.file_bytes.max(end));
        let padded_bytes = (padded_end - place.offset) as usize;
        self.bytes[self.at..padded_bytes].fill(0);

        let (first, rest) = self.bytes[..block_bytes].split_at_mut(SECTOR_BYTES);
        let mut header = BlockHeader {
            body_bytes: body_bytes as u32,
            records: self.records,
            flags,
            previous: place.previous,
            bind: 0,
        };
        let crcs = rest.chunks_exact_mut(SECTOR_BYTES).zip(1..).map(|(sector, ordinal)| {
            let offset = place.offset + ordinal * SECTOR_BYTES as u64;
            sector::seal(sector, place.file_salt, offset, place.number)
        });
        header.bind = header.bind(place.segment_salt, place.number, crcs);
        first[STAMP_BYTES..STAMP_BYTES + BLOCK_HEAD].copy_from_slice(&header.encode());
        let link = sector::seal(first, place.file_salt, place.offset, place.number);
        Built { bytes: &self.bytes[..padded_bytes], block_bytes: block_bytes as u64, link }
    }
}

/// The file a block goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within {
    /// Its length.
    pub(crate) file_bytes: u64,
    /// As `DiskFile::write_unit`; at most a page.
    pub(crate) write_unit: u64,
}

/// A finished block.
pub(crate) struct Built<'a> {
    /// What to write.
    pub(crate) bytes: &'a [u8],
    /// How much of it is the block itself.
    pub(crate) block_bytes: u64,
    /// What the next block names as `previous`.
    pub(crate) link: u32,
}

/// Offset from the start of a block to the byte that follows `body_bytes` of its body.
pub(crate) fn position_after(body_bytes: u64) -> u64 {
    let logical = BLOCK_HEAD as u64 + body_bytes;
    let (sector, within) = (logical / PAYLOAD_BYTES as u64, logical % PAYLOAD_BYTES as u64);
    sector * SECTOR_BYTES as u64 + STAMP_BYTES as u64 + within
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, KIND_VOTE};
    use proptest::prelude::*;

    fn place() -> Place {
        Place { offset: 4096 + 512, file_salt: 1, segment_salt: 2, number: 3, previous: 4 }
    }

    proptest! {
        #[test]
        fn a_block_of_any_size_reads_back(sizes in proptest::collection::vec(0usize..1400, 0..6)) {
            let blobs: Vec<Vec<u8>> =
                sizes.iter().zip(1u8..).map(|(size, fill)| vec![fill; *size]).collect();
            let body_bytes: u64 = blobs.iter().map(|blob| 5 + blob.len() as u64).sum();
            let mut buffer = BlockBuffer::default();
            buffer.begin(9000);
            buffer.bytes.fill(0xee);
            buffer.begin(body_bytes);
            let mut positions = Vec::new();
            for blob in &blobs {
                positions.push(buffer.position());
                buffer.record(&record::blob_head(KIND_VOTE, blob), blob);
            }
            let place = place();
            let built = buffer.finish(place, body_bytes, FLAG_SEAL, Within { file_bytes: 1 << 20, write_unit: PAGE_BYTES });
            prop_assert_eq!(built.block_bytes, sectors(body_bytes) * 512);
            prop_assert!((place.offset + built.bytes.len() as u64).is_multiple_of(4096));
            let (block, padding) = built.bytes.split_at(built.block_bytes as usize);
            prop_assert!(padding.iter().all(|byte| *byte == 0));
            for (ordinal, sector) in block.chunks(512).enumerate() {
                let offset = place.offset + ordinal as u64 * 512;
                prop_assert!(sector::is_valid(sector, 1, offset) && sector::block_number(sector) == 3);
            }
            let header = BlockHeader::decode(block);
            prop_assert_eq!((header.body_bytes as u64, header.records), (body_bytes, blobs.len() as u32));
            prop_assert_eq!((header.flags, header.previous), (FLAG_SEAL, 4));
            prop_assert!(header.binds(block, 2, 3));
            prop_assert!(!header.binds(block, 9, 3) && !header.binds(block, 2, 4));
            let mut out = Vec::new();
            body(block, body_bytes as usize, &mut out);
            let mut rest = &out[..];
            for (blob, position) in blobs.iter().zip(&positions) {
                let (found, length) = record::decode(rest).unwrap();
                prop_assert_eq!(found, record::Record::Vote(blob));
                // Where a record was said to start is where its first byte is.
                prop_assert_eq!(block[*position as usize], KIND_VOTE);
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
