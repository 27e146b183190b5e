//! Turns the blocks of the chain back into state.
//!
//! Owns: `Replay`. Invariants: it follows operations by the rules the writer used (`Meta`); the state that
//! opens a segment equals what the segments before it gave; entries that lie in segments no longer there must
//! be purged or truncated by what follows. Called by: `recovery`.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use crate::block::{self, FLAG_OPENS};
use crate::error::{OpenError, WalError};
use crate::index::{Edit, Location};
use crate::meta::Meta;
use crate::record::{self, EntryRecord, Record};
use crate::scan::Block;
use crate::segment::Segment;

pub(crate) struct Replay {
    meta: Option<Meta>,
    pub(crate) blocks: u64,
    /// Entries that were live when the oldest segment was opened; they lie in segments before it.
    owed: Range<u64>,
    locations: VecDeque<(u64, Location)>,
    tail: VecDeque<EntryRecord>,
    tail_bytes: u64,
    tail_bytes_max: u64,
    body: Vec<u8>,
}

impl Replay {
    pub(crate) fn new(tail_bytes_max: u64) -> Self {
        Replay {
            meta: None,
            blocks: 0,
            owed: 0..0,
            locations: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
            body: Vec::new(),
        }
    }

    /// Follows one block.
    ///
    /// # Errors
    /// `Damaged` if its records make no sense; that takes more than a changed byte, since it has been checked.
    pub(crate) fn block<F>(
        &mut self,
        segment: &Segment<F>,
        offset: u64,
        block: &Block<'_>,
    ) -> Result<(), OpenError> {
        let mut body = std::mem::take(&mut self.body);
        block::body(block.bytes, block.header.body_bytes as usize, &mut body);
        let result = self.records(segment, offset, block, &body);
        self.body = body;
        self.blocks += 1;
        result.map_err(|reason| OpenError::Damaged { file: segment.path.clone(), offset, reason })
    }

    fn records<F>(
        &mut self,
        segment: &Segment<F>,
        offset: u64,
        block: &Block<'_>,
        body: &[u8],
    ) -> Result<(), String> {
        let mut at = 0;
        let mut count = 0;
        while at < body.len() {
            let Some((found, length)) = record::decode(&body[at..]) else {
                return Err(format!("record {count} of a correct block makes no sense"));
            };
            let opens = block.header.flags & FLAG_OPENS != 0 && count == 0;
            if opens != matches!(found, Record::State(_)) {
                return Err("a state record is not where it belongs".to_string());
            }
            self.record(segment, offset + block::position_after(at as u64), found)?;
            at += length;
            count += 1;
        }
        if count != block.header.records {
            return Err(format!("a correct block has {count} of {} records", block.header.records));
        }
        Ok(())
    }

    fn record<F>(&mut self, segment: &Segment<F>, offset: u64, found: Record<'_>) -> Result<(), String> {
        let Some(meta) = &mut self.meta else {
            let Record::State(bytes) = found else { return Err("the first record is no state".to_string()) };
            let meta = Meta::decode(bytes).ok_or("the state record makes no sense")?;
            self.owed = meta.first..meta.next;
            self.meta = Some(meta);
            return Ok(());
        };
        let broken = |error: WalError| error.to_string();
        match found {
            Record::Entry { index, term, leader, payload } => {
                meta.append(index).map_err(broken)?;
                let location = Location {
                    segment: segment.sequence as u32,
                    offset: offset as u32,
                    payload_bytes: payload.len() as u32,
                };
                self.locations.push_back((index, location));
                let payload = Bytes::copy_from_slice(payload);
                self.remember(EntryRecord { index, term, leader, payload });
            }
            Record::Vote(vote) => meta.vote = Some(Bytes::copy_from_slice(vote)),
            Record::Committed(mark) => meta.committed = Some(Bytes::copy_from_slice(mark)),
            Record::Truncate { next } => {
                if let Some(next) = meta.truncate(next.checked_sub(1)).map_err(broken)? {
                    self.drop_from(next);
                }
            }
            Record::Purge { through, position } => {
                if meta.purge(through, &Bytes::copy_from_slice(position)) {
                    let first = meta.first;
                    self.drop_below(first);
                }
            }
            Record::State(bytes) => {
                if Meta::decode(bytes).as_ref() != Some(&*meta) {
                    return Err("its opening state does not follow from the segments before it".to_string());
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, entry: EntryRecord) {
        self.tail_bytes += entry.payload.len() as u64;
        self.tail.push_back(entry);
        while self.tail_bytes > self.tail_bytes_max && self.tail.len() > 1 {
            let oldest = self.tail.pop_front().expect("longer than one");
            self.tail_bytes -= oldest.payload.len() as u64;
        }
    }

    fn drop_from(&mut self, next: u64) {
        self.owed.end = self.owed.end.min(next);
        while self.locations.back().is_some_and(|(index, _)| *index >= next) {
            self.locations.pop_back();
        }
        while let Some(entry) = self.tail.pop_back_if(|entry| entry.index >= next) {
            self.tail_bytes -= entry.payload.len() as u64;
        }
    }

    fn drop_below(&mut self, first: u64) {
        self.owed.start = self.owed.start.max(first);
        while self.locations.front().is_some_and(|(index, _)| *index < first) {
            self.locations.pop_front();
        }
        while let Some(entry) = self.tail.pop_front_if(|entry| entry.index < first) {
            self.tail_bytes -= entry.payload.len() as u64;
        }
    }

    /// The state, the edits that fill the index, and the newest entries.
    ///
    /// # Errors
    /// `MissingSegment` if live entries lie in segments that are not there.
    pub(crate) fn finish(
        self,
        dir: &Path,
        oldest: u64,
    ) -> Result<(Meta, Vec<Edit>, Vec<EntryRecord>), OpenError> {
        if !self.owed.is_empty() {
            return Err(OpenError::MissingSegment {
                dir: dir.to_path_buf(),
                sequence: oldest.saturating_sub(1),
            });
        }
        let meta = self.meta.expect("a chain has a first block");
        assert_eq!(self.locations.len() as u64, meta.next - meta.first, "every live entry has a place");
        let mut edits = vec![Edit::Purge { first: meta.first }];
        edits.extend(self.locations.into_iter().map(|(index, location)| Edit::Entry { index, location }));
        Ok((meta, edits, self.tail.into()))
    }
}
