//! One revision with its events and, once somebody needs them, their encodings.
//!
//! Owns: the encoded blocks, filled lazily and shared by every stream. Called by: the recent log, catch-up, frames.
//! Invariants: an event is encoded at most twice while its entry lives, without and with its previous key-value.
//! Source: own design; protobuf repeated fields concatenate, so a slice of a block is a valid part of a message.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use keelson_mvcc::types::{Event, KeyValue, Revision, RevisionEvents};

use crate::ports::FrameCodec;

/// Events encoded together. A revision of a million deletions must not be encoded whole for a watcher of one key;
/// 64 events share one buffer, so that a prefix watcher of a common transaction still gets a single slice.
const BLOCK_EVENTS: usize = 64;

/// What an entry costs beside its keys and values: the entry itself, two blocks and the log's bookkeeping.
const ENTRY_OVERHEAD_BYTES: usize = 384;
/// What an event costs beside its keys and values: the event, which holds up to four shared byte strings.
const EVENT_OVERHEAD_BYTES: usize = std::mem::size_of::<Event>();

/// See the module.
pub(crate) struct Entry {
    events: Arc<RevisionEvents>,
    codec: Arc<dyn FrameCodec>,
    bytes: usize,
    plain: Blocks,
    with_previous: Blocks,
}

#[derive(Default)]
struct Blocks {
    first: OnceLock<Block>,
    rest: OnceLock<Box<[OnceLock<Block>]>>,
}

struct Block {
    bytes: Bytes,
    /// Where each event ends in `bytes`; empty if there is one event only.
    ends: Box<[u32]>,
}

impl Block {
    fn end(&self, event: usize) -> usize {
        if self.ends.is_empty() { self.bytes.len() } else { self.ends[event] as usize }
    }

    fn span(&self, events: Range<usize>) -> Range<usize> {
        let start = if events.start == 0 { 0 } else { self.end(events.start - 1) };
        start..self.end(events.end - 1)
    }
}

impl Entry {
    pub(crate) fn new(events: Arc<RevisionEvents>, codec: Arc<dyn FrameCodec>) -> Self {
        let payload: usize = events.events.iter().map(event_bytes).sum();
        let bytes = ENTRY_OVERHEAD_BYTES + payload;
        Entry { events, codec, bytes, plain: Blocks::default(), with_previous: Blocks::default() }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.events.revision
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events.events
    }

    /// Memory it is charged with: the events, with their values counted twice (once for one encoding).
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `piece` with the encoding of the events in `range`, in order, as slices of shared buffers.
    pub(crate) fn pieces(
        &self,
        range: Range<usize>,
        prev_kv: bool,
        mut piece: impl FnMut(&Bytes, Range<usize>),
    ) {
        debug_assert!(range.start < range.end && range.end <= self.events().len());
        let mut at = range.start;
        while at < range.end {
            let base = at / BLOCK_EVENTS * BLOCK_EVENTS;
            let end = range.end.min(base + BLOCK_EVENTS);
            let block = self.block(at / BLOCK_EVENTS, prev_kv);
            piece(&block.bytes, block.span(at - base..end - base));
            at = end;
        }
    }

    fn block(&self, number: usize, prev_kv: bool) -> &Block {
        let blocks = if prev_kv { &self.with_previous } else { &self.plain };
        let cell = if number == 0 {
            &blocks.first
        } else {
            let rest = || (1..self.events().len().div_ceil(BLOCK_EVENTS)).map(|_| OnceLock::new()).collect();
            &blocks.rest.get_or_init(rest)[number - 1]
        };
        cell.get_or_init(|| self.encode(number, prev_kv))
    }

    fn encode(&self, number: usize, prev_kv: bool) -> Block {
        let start = number * BLOCK_EVENTS;
        let end = self.events().len().min(start + BLOCK_EVENTS);
        let events = &self.events()[start..end];
        let guess: usize = events.iter().map(|event| encoded_guess(event, prev_kv)).sum();
        let mut bytes = BytesMut::with_capacity(guess);
        let mut ends = Vec::with_capacity(events.len());
        for event in events {
            self.codec.events(&[event], prev_kv, &mut bytes);
            ends.push(u32::try_from(bytes.len()).expect("a block stays below 4 GiB"));
        }
        if ends.len() == 1 {
            ends.clear();
        }
        // Where the guess was poor, what lies beyond the end would stay allocated as long as the entry.
        let bytes = if bytes.capacity() > bytes.len() + bytes.len() / 4 + 64 {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes.freeze()
        };
        Block { bytes, ends: ends.into() }
    }
}

fn event_bytes(event: &Event) -> usize {
    let now = event.kv.key.len() + event.kv.value.len();
    let before = event.prev.as_ref().map_or(0, |prev| prev.key.len() + prev.value.len());
    EVENT_OVERHEAD_BYTES + 2 * now + before
}

/// About the size of one encoded event, so that its buffer neither grows nor keeps much too much.
fn encoded_guess(event: &Event, prev_kv: bool) -> usize {
    let size = |kv: &KeyValue| 40 + kv.key.len() + kv.value.len();
    size(&event.kv) + event.prev.as_ref().filter(|_| prev_kv).map_or(0, size)
}

/// Some neighbouring events of one entry.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) entry: Arc<Entry>,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Run {
    pub(crate) fn range(&self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.entry.events()[self.range()]
    }

    /// What the run adds to a batch, roughly: its share of the entry.
    pub(crate) fn bytes_estimate(&self) -> usize {
        let events = self.entry.events().len();
        if events == 1 { self.entry.bytes() } else { self.entry.bytes() / events * self.count as usize }
    }
}

/// Appends `events[first..first + count]` without those `dropped` says yes to, as maximal runs.
pub(crate) fn push_filtered(
    runs: &mut crate::frame::Runs,
    entry: &Arc<Entry>,
    events: Range<u32>,
    dropped: impl Fn(&Event) -> bool,
) {
    let mut open: Option<Run> = None;
    for index in events {
        if dropped(&entry.events()[index as usize]) {
            runs.extend(open.take());
        } else if let Some(run) = &mut open {
            run.count += 1;
        } else {
            open = Some(Run { entry: entry.clone(), first: index, count: 1 });
        }
    }
    runs.extend(open);
}
