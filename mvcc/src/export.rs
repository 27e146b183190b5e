//! The whole replicated state as a stream of chunks, and back.
//!
//! Owns: the snapshot that a member sends to one that lags too far behind. Independent of the engine: rows, not
//! files. Called by: `raftstore`. Invariants: all rows come from one engine snapshot; dead rows and facts of one
//! member alone are left out; every chunk carries its number and a checksum, the last one the totals, so a missing,
//! repeated, swapped or damaged chunk is found before anything is replaced.
//!
//! Chunk: `number u32 | kind u8 | body | crc32c u32 of everything before`, big endian.
//! Head (kind 1): `format u8 | layout format u8`. Rows (kind 2): `(family u8 | key | value)*`, byte strings behind a
//! varint length. End (kind 3): `rows u64 | state row`.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{
    CursorOptions, EngineBatch, EngineCursor, EngineError, EngineSnapshot, Family, KvEngine,
};
use crate::error::StoreError;
use crate::hash::is_replicated;
use crate::layout::{Fields, put_varint};
use crate::state::{self, State};
use crate::types::{LogPosition, ReadError, Revision};
use crate::view::{Pin, ReadView};

/// Version of the chunk format.
const FORMAT: u8 = 1;
const HEAD: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;
/// Target of a chunk of rows; one large row may exceed it.
const CHUNK_BYTES: usize = 256 << 10;
/// Received rows are written in batches of about this size.
const BATCH_BYTES: usize = 1 << 20;

/// Where the export stands.
enum Next {
    Head,
    Rows { family: usize, from: Vec<u8> },
    End,
    Nothing,
}

/// An iterator over the chunks of a snapshot. While it lives, history it needs is kept.
pub struct Export<E: KvEngine> {
    view: Arc<ReadView<E>>,
    _pin: Pin<E>,
    next: Next,
    number: u32,
    rows: u64,
}

impl<E: KvEngine> Export<E> {
    /// `None` if rows the view needs may already be gone: take the newest view.
    pub fn new(view: Arc<ReadView<E>>) -> Option<Self> {
        let pin = view.common.pin(view.state.mark)?;
        Some(Export { view, _pin: pin, next: Next::Head, number: 0, rows: 0 })
    }

    /// Position of the last entry the snapshot covers.
    pub fn applied(&self) -> Option<LogPosition> {
        self.view.applied()
    }

    /// The membership it carries.
    pub fn membership(&self) -> Option<(LogPosition, Bytes)> {
        self.view.membership()
    }

    /// Its revision.
    pub fn revision(&self) -> Revision {
        self.view.revision()
    }

    fn chunk(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut chunk = self.number.to_be_bytes().to_vec();
        chunk.push(kind);
        fill(&mut chunk);
        let crc = crc32c::crc32c(&chunk);
        chunk.extend_from_slice(&crc.to_be_bytes());
        self.number += 1;
        Bytes::from(chunk)
    }

    fn rows(&mut self, mut family: usize, from: Vec<u8>) -> Result<Bytes, EngineError> {
        let view = self.view.clone();
        let (mut body, mut from, mut count) = (Vec::new(), from, 0);
        let next = 'families: loop {
            let Some(&current) = Family::ALL.get(family) else { break Next::End };
            let mut cursor = view.snapshot.cursor(current, CursorOptions { upper: None, bulk: true });
            cursor.seek(&from);
            while let Some((key, value)) = cursor.item() {
                if body.len() >= CHUNK_BYTES {
                    break 'families Next::Rows { family, from: key.to_vec() };
                }
                if is_replicated(current, key, value, view.state.mark) {
                    body.push(current as u8);
                    for part in [key, value] {
                        put_varint(part.len() as u64, &mut body);
                        body.extend_from_slice(part);
                    }
                    count += 1;
                }
                cursor.next();
            }
            cursor.check()?;
            family += 1;
            from.clear();
        };
        self.next = next;
        self.rows += count;
        Ok(self.chunk(ROWS, |chunk| chunk.extend_from_slice(&body)))
    }
}

impl<E: KvEngine> Iterator for Export<E> {
    type Item = Result<Bytes, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Head => {
                self.next = Next::Rows { family: 0, from: Vec::new() };
                Some(Ok(self.chunk(HEAD, |chunk| chunk.extend_from_slice(&[FORMAT, state::FORMAT]))))
            }
            Next::Rows { family, from } => Some(self.rows(family, from).map_err(ReadError::from)),
            Next::End => {
                let (rows, state) = (self.rows, self.view.state.clone());
                Some(Ok(self.chunk(END, |chunk| {
                    chunk.extend_from_slice(&rows.to_be_bytes());
                    state.encode(chunk);
                })))
            }
            Next::Nothing => None,
        }
    }
}

/// Takes the chunks of a snapshot into an engine of its own.
pub struct Installer<E: KvEngine> {
    engine: E,
    batch: E::Batch,
    number: u32,
    rows: u64,
    /// Total and state row of the end chunk.
    end: Option<(u64, Bytes)>,
}

/// A snapshot that is complete and durable, but not yet in place.
pub(crate) struct Received<E> {
    pub(crate) engine: E,
    pub(crate) applied: Option<LogPosition>,
    pub(crate) revision: Revision,
}

fn bad(reason: impl std::fmt::Display) -> StoreError {
    StoreError::BadSnapshot(reason.to_string())
}

impl<E: KvEngine> Installer<E> {
    pub(crate) fn new(engine: E) -> Result<Self, StoreError> {
        let batch = engine.batch();
        Ok(Installer { engine, batch, number: 0, rows: 0, end: None })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// A chunk that is damaged, out of turn or of an unknown format; give the installer up then.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let split = chunk.len().checked_sub(4).ok_or_else(|| bad("a chunk is too short"))?;
        let (content, crc) = chunk.split_at(split);
        if crc32c::crc32c(content).to_be_bytes() != crc {
            return Err(bad(format_args!("chunk {} has a wrong checksum", self.number)));
        }
        let mut fields = Fields(content);
        let number = fields.take(4).and_then(|number| number.try_into().ok()).map(u32::from_be_bytes);
        if number != Some(self.number) {
            return Err(bad(format_args!("chunk {number:?} came where {} was due", self.number)));
        }
        let kind = fields.byte().ok_or_else(|| bad("a chunk is too short"))?;
        let body = fields.rest();
        match (kind, self.number) {
            (HEAD, 0) if body == [FORMAT, state::FORMAT] => {}
            (HEAD, 0) => return Err(bad(format_args!("unknown format {body:?}: upgrade this member"))),
            (ROWS, 1..) if self.end.is_none() => self.take_rows(body)?,
            (END, 1..) if self.end.is_none() && body.len() > 8 => {
                let (rows, state) = body.split_at(8);
                let rows = u64::from_be_bytes(rows.try_into().expect("split at 8"));
                self.end = Some((rows, Bytes::copy_from_slice(state)));
            }
            _ => return Err(bad(format_args!("chunk {} of kind {kind} is out of place", self.number))),
        }
        self.number += 1;
        Ok(())
    }

    fn take_rows(&mut self, body: &[u8]) -> Result<(), StoreError> {
        let mut fields = Fields(body);
        while let Some(family) = fields.byte() {
            let family = Family::ALL.get(usize::from(family)).copied();
            let (Some(family), Some(key), Some(value)) = (family, fields.bytes(), fields.bytes()) else {
                return Err(bad(format_args!("chunk {} holds a malformed row", self.number)));
            };
            self.batch.put(family, key, value);
            self.rows += 1;
            if self.batch.len_bytes() >= BATCH_BYTES {
                let full = std::mem::replace(&mut self.batch, self.engine.batch());
                self.engine.write(full)?;
            }
        }
        Ok(())
    }

    /// Checks that everything came and makes it durable.
    pub(crate) fn finish(self) -> Result<Received<E>, StoreError> {
        let Some((rows, expected)) = self.end else { return Err(bad("it ends without an end chunk")) };
        if rows != self.rows {
            return Err(bad(format_args!("{} rows came, {rows} were sent", self.rows)));
        }
        self.engine.write(self.batch)?;
        self.engine.flush()?;
        let state = State::load(&self.engine.snapshot())?;
        let mut found = Vec::new();
        state.encode(&mut found);
        if found != expected {
            return Err(bad("its state row is not the one announced"));
        }
        Ok(Received { engine: self.engine, applied: state.applied, revision: state.revision })
    }
}
