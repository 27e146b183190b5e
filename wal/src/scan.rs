//! Reads a segment block by block, and judges what is found where a block should be and is not.
//!
//! Owns: `Scan` (one segment, read through a window) and `Verdict` (clean end, tear or damage).
//! Invariant: nothing here writes. Called by: `recovery`.
//!
//! The judgement rests on three facts. A sector is written wholly or not at all. Only the last block was ever
//! not synced. What lies where the next block goes is zeros or content with lower block numbers. So a sector
//! *from before* inside a block proves that its write never finished and was never acknowledged: a tear. A
//! sector of a *later* block proves that this one was synced: damage. And a block all of whose sectors belong
//! to its write, but which does not check, was finished and changed since: damage, not a tear.

use std::io;
use std::sync::Arc;

use crate::block::{self, BODY_BYTES_MAX, BlockHeader};
use crate::disk::DiskFile;
use crate::disk::aligned::Aligned;
use crate::error::{OpenError, WalError};
use crate::sector::{self, SECTOR_BYTES, SectorState};
use crate::segment::Segment;

const SECTOR: u64 = SECTOR_BYTES as u64;
/// Read-ahead: large enough to keep a disk busy, small enough not to matter.
const WINDOW_BYTES: u64 = 1 << 20;

/// A complete, checked block.
pub(crate) struct Block<'a> {
    pub(crate) header: BlockHeader,
    pub(crate) number: u64,
    pub(crate) link: u32,
    /// Its sectors.
    pub(crate) bytes: &'a [u8],
}

/// What is to say about the place where a block is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing of the block was ever written here.
    Clean,
    /// Its write was cut off; the sectors in `from..to` hold what is left of it.
    Torn { from: u64, to: u64 },
    /// It was written wholly and has changed since.
    Damaged,
    /// A later block exists. `remains`: this place holds something of the missing one.
    Succeeded { remains: bool },
}

pub(crate) struct Scan<F> {
    pub(crate) segment: Arc<Segment<F>>,
    window: Aligned,
    /// So much of the window is filled.
    window_bytes: usize,
    window_start: u64,
}

impl<F: DiskFile> Scan<F> {
    pub(crate) fn new(segment: Arc<Segment<F>>) -> Self {
        Scan { segment, window: Aligned::default(), window_bytes: 0, window_start: 0 }
    }

    fn failed(&self, error: io::Error) -> OpenError {
        WalError::io("read", &self.segment.path, error).into()
    }

    /// Bytes from `offset`, fewer than `count` only at the end of the file.
    fn bytes(&mut self, offset: u64, count: u64) -> Result<&[u8], OpenError> {
        let end = offset + count;
        let have = self.window_start..self.window_start + self.window_bytes as u64;
        if offset < have.start || end > have.end {
            let wanted = count.max(WINDOW_BYTES) as usize;
            if self.window.len() < wanted {
                self.window = Aligned::zeroed(wanted);
            }
            let read = self.segment.file.read_at(&mut self.window[..wanted], offset);
            self.window_bytes = read.map_err(|error| self.failed(error))?;
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        let end = (start + count as usize).min(self.window_bytes);
        Ok(&self.window[start.min(end)..end])
    }

    /// Whether the sector at `offset` is as it was pre-written.
    pub(crate) fn is_zero(&mut self, offset: u64) -> Result<bool, OpenError> {
        Ok(sector::is_zero(self.bytes(offset, SECTOR)?))
    }

    /// The block at `offset`, if there is a complete and correct one: number `expected` after a block with
    /// `link`, or whatever number it says if `expected` is `None`.
    pub(crate) fn block(
        &mut self,
        offset: u64,
        expected: Option<(u64, u32)>,
    ) -> Result<Option<Block<'_>>, OpenError> {
        let (file_salt, segment_salt) = (self.segment.file_salt, self.segment.segment_salt);
        let first = self.bytes(offset, SECTOR)?;
        if first.len() < SECTOR_BYTES || sector::is_zero(first) || !sector::is_valid(first, file_salt, offset)
        {
            return Ok(None);
        }
        let number = sector::block_number(first);
        let header = BlockHeader::decode(first);
        let follows = expected.is_none_or(|(expected, link)| number == expected && header.previous == link);
        if !follows || u64::from(header.body_bytes) > BODY_BYTES_MAX {
            return Ok(None);
        }
        let wanted = header.sectors() * SECTOR;
        let bytes = self.bytes(offset, wanted)?;
        let whole = bytes.len() as u64 == wanted
            && bytes.chunks_exact(SECTOR_BYTES).zip(0..).all(|(sector, ordinal)| {
                sector::block_number(sector) == number
                    && sector::is_valid(sector, file_salt, offset + ordinal * SECTOR)
            })
            && header.binds(bytes, segment_salt, number);
        #[cfg(feature = "planted")]
        let whole = whole || crate::planted::torn_blocks_accepted();
        if !whole {
            return Ok(None);
        }
        let link = sector::crc(bytes);
        Ok(Some(Block { header, number, link, bytes }))
    }

    /// Judges the place where block `expected` should start and no correct block does.
    pub(crate) fn judge(&mut self, offset: u64, expected: u64) -> Result<Verdict, OpenError> {
        let file_salt = self.segment.file_salt;
        let (mut first, mut announced_end) = (SectorState::Before, offset);
        let (mut before, mut last_expected) = (None, None);
        let mut later = false;
        let mut at = offset;
        loop {
            let sector = self.bytes(at, SECTOR)?;
            // The end of the file, or a file that was cut: a sector that is not there was not written.
            if sector.len() < SECTOR_BYTES {
                before.get_or_insert(at);
                break;
            }
            let state = sector::classify(sector, file_salt, at, expected);
            if at == offset {
                first = state;
                if state == SectorState::Expected {
                    let body_bytes = u64::from(BlockHeader::decode(sector).body_bytes);
                    announced_end = offset + block::sectors(body_bytes) * SECTOR;
                }
            }
            match state {
                SectorState::Before => {
                    before.get_or_insert(at);
                }
                SectorState::Expected => last_expected = Some(at),
                SectorState::After => later = true,
                SectorState::Garbage => {}
            }
            at += SECTOR;
        }
        let remains =
            matches!(first, SectorState::Expected | SectorState::Garbage) || last_expected.is_some();
        if later {
            return Ok(Verdict::Succeeded { remains });
        }
        let before = before.expect("the end of the file counts as one");
        let torn = match first {
            SectorState::Expected => before < announced_end,
            // The length is unknown; what is certain reaches to the last sector of the block.
            SectorState::Garbage => last_expected.is_some_and(|last| before < last),
            SectorState::Before | SectorState::After => true,
        };
        Ok(match last_expected {
            Some(last) if torn => Verdict::Torn { from: offset, to: last + SECTOR },
            None if first == SectorState::Before => Verdict::Clean,
            _ => Verdict::Damaged,
        })
    }
}
