//! Turns a group of operations into a written block.
//!
//! Owns: what is pending between blocks, the choice of the segment, the order of records in a block.
//! Invariants: nothing is written before the whole group is known to be legal; a group never spans segments.
//! Called by: `Wal::stage` and `Wal::seal`.

use std::sync::Arc;

use crate::block::{BLOCK_HEAD, BODY_BYTES_MAX, FLAG_OPENS, FLAG_SEAL, Place, sectors};
use crate::disk::Disk;
use crate::error::WalError;
use crate::header::BODY_OFFSET;
use crate::index::{Edit, Location, lock};
use crate::meta::Meta;
use crate::record::{self, KIND_COMMITTED, KIND_STATE, KIND_VOTE, Op};
use crate::sector::SECTOR_BYTES;
use crate::wal::{Lanes, Stage, Wal};

/// Operations that were accepted but wait for the next block. Between appends their order does not matter as
/// long as truncation comes first, so one of each kind is enough.
#[derive(Default)]
pub(crate) struct Pending {
    truncate_next: Option<u64>,
    purge: bool,
    committed: bool,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.truncate_next.is_none() && !self.purge && !self.committed
    }
}

pub(crate) struct Staged {
    /// What will be durable.
    pub(crate) meta: Meta,
    pub(crate) next_offset: u64,
    pub(crate) link: u32,
    pub(crate) bytes: u64,
    pub(crate) seal: bool,
}

impl<D: Disk> Wal<D> {
    /// Accepts operations that need no durability.
    pub(crate) fn note(&mut self, ops: &[Op]) -> Result<(), WalError> {
        let mut index = lock(&self.index);
        for op in ops {
            let pending = &mut self.lanes.pending;
            match op {
                Op::Truncate { after } => {
                    if let Some(next) = self.accepted.truncate(*after)? {
                        pending.truncate_next =
                            Some(pending.truncate_next.map_or(next, |other| other.min(next)));
                        index.apply(Edit::Truncate { next });
                    }
                }
                Op::Purge { through, position } => {
                    if self.accepted.purge(*through, position) {
                        pending.purge = true;
                        index.apply(Edit::Purge { first: self.accepted.first });
                    }
                }
                Op::Committed(committed) => {
                    self.accepted.committed = Some(committed.clone());
                    pending.committed = true;
                }
                Op::Append(_) | Op::Vote(_) => assert!(!op.needs_sync()),
            }
        }
        Ok(())
    }

    /// Builds and writes the block of a group.
    pub(crate) fn stage_block(&mut self, ops: &[Op], flags: u32) -> Result<Stage, WalError> {
        let mut meta = self.accepted.clone();
        let mut body_bytes = self.pending_bytes();
        for op in ops {
            follow(&mut meta, op)?;
            body_bytes += op.encoded_bytes();
        }
        if body_bytes > BODY_BYTES_MAX {
            return Err(WalError::TooLarge { bytes: body_bytes, bytes_max: BODY_BYTES_MAX });
        }
        let has_entries = ops.iter().any(|op| matches!(op, Op::Append(entries) if !entries.is_empty()));
        // The reserve is there for votes alone.
        let may_use_reserve = !has_entries && ops.iter().any(Op::needs_sync);
        let end = self.offset + sectors(body_bytes) * SECTOR_BYTES as u64;
        let mut state = None;
        if end > self.active.length() || (self.lanes.on_reserve && has_entries) {
            if self.next.is_none() && self.lanes.preparing {
                return Ok(Stage::AwaitPrepare);
            }
            if self.next.is_none() && flags & FLAG_SEAL != 0 && self.lanes.low {
                return Err(WalError::NoSpace { dir: self.dir.clone() });
            }
            let encoded = self.durable.encode();
            body_bytes += (record::BLOB_HEAD + encoded.len()) as u64;
            self.roll(body_bytes, may_use_reserve)?;
            state = Some(encoded);
        }
        self.number += 1;
        let place = Place {
            offset: self.offset,
            file_salt: self.active.file_salt,
            segment_salt: self.active.segment_salt,
            number: self.number,
            previous: self.link,
        };
        let flags = if state.is_some() { flags | FLAG_OPENS } else { flags };
        self.fill_buffer(ops, state.as_deref(), body_bytes);
        let built = self.lanes.buffer.finish(place, body_bytes, flags, self.active.within());
        self.active.write(built.bytes, place.offset)?;
        let block_end = place.offset + built.block_bytes;
        self.lanes.staged = Some(Staged {
            meta,
            next_offset: block_end.next_multiple_of(self.active.block_align_bytes),
            link: built.link,
            bytes: built.bytes.len() as u64,
            seal: flags & FLAG_SEAL != 0,
        });
        Ok(Stage::Written)
    }

    fn pending_bytes(&self) -> u64 {
        let pending = &self.lanes.pending;
        let mut bytes = 0;
        if pending.truncate_next.is_some() {
            bytes += record::TRUNCATE_BYTES;
        }
        if pending.purge {
            bytes += record::PURGE_HEAD + self.accepted.purged.as_ref().map_or(0, |(_, at)| at.len());
        }
        if pending.committed {
            bytes += record::BLOB_HEAD + self.accepted.committed.as_ref().map_or(0, |mark| mark.len());
        }
        bytes as u64
    }

    /// Puts all records into the buffer and notes what they will do to the index.
    fn fill_buffer(&mut self, ops: &[Op], state: Option<&[u8]>, body_bytes: u64) {
        let Lanes { pending, edits, buffer, .. } = &mut self.lanes;
        debug_assert!(edits.is_empty());
        buffer.begin(body_bytes);
        if let Some(state) = state {
            buffer.record(&record::blob_head(KIND_STATE, state), state);
        }
        if let Some(next) = pending.truncate_next {
            buffer.record(&record::truncate_record(next), &[]);
        }
        if let (true, Some((through, position))) = (pending.purge, &self.accepted.purged) {
            buffer.record(&record::purge_head(*through, position), position);
        }
        if let (true, Some(committed)) = (pending.committed, &self.accepted.committed) {
            buffer.record(&record::blob_head(KIND_COMMITTED, committed), committed);
        }
        let segment = u32::try_from(self.active.sequence).expect("sequences are checked at creation");
        for op in ops {
            match op {
                Op::Append(entries) => {
                    for entry in entries {
                        let offset = self.offset + buffer.position();
                        let location = Location {
                            segment,
                            offset: u32::try_from(offset).expect("a segment is below 4 GiB"),
                            payload_bytes: record::length_u32(&entry.payload),
                        };
                        edits.push(Edit::Entry { index: entry.index, location });
                        buffer.record(&record::entry_head(entry), &entry.payload);
                    }
                }
                Op::Vote(vote) => buffer.record(&record::blob_head(KIND_VOTE, vote), vote),
                Op::Truncate { after } => {
                    let next = after.map_or(0, |after| after.saturating_add(1));
                    edits.push(Edit::Truncate { next });
                    buffer.record(&record::truncate_record(next), &[]);
                }
                Op::Purge { through, position } => {
                    edits.push(Edit::Purge { first: through.saturating_add(1) });
                    buffer.record(&record::purge_head(*through, position), position);
                }
                Op::Committed(committed) => {
                    buffer.record(&record::blob_head(KIND_COMMITTED, committed), committed);
                }
            }
        }
    }

    /// Makes another segment the active one.
    fn roll(&mut self, body_bytes: u64, may_use_reserve: bool) -> Result<(), WalError> {
        let sequence = self.active.sequence + 1;
        let mut on_reserve = false;
        let segment = match self.next.take() {
            Some(next) => next,
            None => {
                // Nothing was prepared, so this group waits for the file: make it no larger than it must be.
                let block_bytes = sectors(body_bytes) * SECTOR_BYTES as u64;
                let bytes = (BODY_OFFSET + block_bytes)
                    .next_multiple_of(BODY_OFFSET)
                    .max(self.options.first_segment_bytes);
                let plan = self.plan(sequence, bytes);
                match plan.create(&self.disk, &self.dir, |_| Ok(())) {
                    Err(error) if error.is_full() => {
                        self.lanes.low = true;
                        on_reserve = true;
                        let no_space = WalError::NoSpace { dir: self.dir.clone() };
                        if !may_use_reserve {
                            return Err(no_space);
                        }
                        let reserve = self.reserve.take().ok_or(no_space)?;
                        plan.recycle(&self.disk, &self.dir, reserve)?
                    }
                    other => other?,
                }
            }
        };
        assert_eq!(segment.sequence, sequence, "segments are a chain");
        self.lanes.on_reserve = on_reserve;
        self.active = Arc::new(segment);
        self.offset = BODY_OFFSET;
        lock(&self.index).push_segment(self.active.clone());
        Ok(())
    }
}

/// What an operation will have done once it is durable.
fn follow(meta: &mut Meta, op: &Op) -> Result<(), WalError> {
    match op {
        Op::Append(entries) => entries.iter().try_for_each(|entry| meta.append(entry.index))?,
        Op::Vote(vote) => meta.vote = Some(vote.clone()),
        Op::Truncate { after } => {
            meta.truncate(*after)?;
        }
        Op::Purge { through, position } => {
            meta.purge(*through, position);
        }
        Op::Committed(committed) => meta.committed = Some(committed.clone()),
    }
    Ok(())
}

const _: () = assert!(BLOCK_HEAD + 64 < SECTOR_BYTES, "a block header never leaves its sector");
