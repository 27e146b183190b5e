//! Watchers of one stream that read the past, in cohorts by position.
//!
//! Owns: the cursors of behind watchers, and the piece of the past they read together. Called by:
//! `WatchStream::poll_next`. Invariants: each step reads one bounded piece, at most once from the source, and never
//! under the hub's lock; a cursor moves only over revisions whose events were put into frames; a cohort that falls
//! below the compaction mark is cancelled before it reads.
//! Source: etcd `syncWatchers` for the meaning (512 watchers a round, whole revisions), own design otherwise.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use keelson_mvcc::types::Revision;

use crate::entry::{Entry, Run};
use crate::frame::{EventBatch, Frame, Previous, Runs, WatchId};
use crate::gather::Budget;
use crate::hub::Shared;
use crate::index::{RangeIndex, Ranges};
use crate::key_range::WatchedRange;
use crate::ports::SourceError;
use crate::state::State;
use crate::stream::StreamEnd;
use crate::watcher::{Flags, Token};

/// Watchers matched at once; as in etcd. Bounds the memory of one step.
const GROUP_MAX: usize = 512;
/// Below this many watchers an index costs more than it saves.
const GROUP_INDEXED: usize = 8;
/// Pieces of the past kept for other streams; they are at about the same place after a restart or a snapshot.
const CHUNKS_KEPT: usize = 4;

/// Consecutive entries: every event with revision in `(after, through]`.
pub(crate) struct Chunk {
    after: Revision,
    through: Revision,
    entries: Vec<Arc<Entry>>,
}

impl Chunk {
    fn holds(&self, position: Revision) -> bool {
        self.after < position && position <= self.through
    }
}

/// A watcher that reads the past.
pub(crate) struct Behind {
    pub(crate) token: Token,
    pub(crate) cursor: Revision,
    pub(crate) id: WatchId,
    pub(crate) range: WatchedRange,
    pub(crate) flags: Flags,
}

/// See the module.
pub(crate) struct CatchUp {
    /// Watchers by the next revision they need.
    cohorts: BTreeMap<Revision, Vec<Behind>>,
    /// The next step serves the first cohort at or after this, so that a new one far behind starves nobody.
    turn: Revision,
    /// Watchers taken into one step; shrinks when a step fills its batch before all of them are served.
    group: usize,
    /// The piece being served, while watchers are left that need it.
    chunk: Option<Arc<Chunk>>,
}

/// Where a piece of the past comes from.
enum Supply {
    Memory(Arc<Chunk>),
    Scan { upto: Revision },
}

impl CatchUp {
    pub(crate) fn new() -> Self {
        CatchUp { cohorts: BTreeMap::new(), turn: 0, group: GROUP_MAX, chunk: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    pub(crate) fn admit(&mut self, fresh: Vec<Behind>) {
        for behind in fresh {
            self.cohorts.entry(behind.cursor).or_default().push(behind);
        }
    }

    /// Reads one piece of the past and serves it to the watchers that need it, as far as the budget goes.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        stream: u32,
        budget: &mut Budget,
        frames: &mut Vec<Frame>,
    ) -> Result<(), StreamEnd> {
        let (position, supply, at_sync) = {
            let mut state = shared.lock();
            self.cancel_compacted(&mut state, frames);
            let Some(position) = self.pick() else {
                state.answer_progress(stream, frames);
                return Ok(());
            };
            assert!(position <= state.revision, "only the past is caught up");
            (position, state.supply(position, self.chunk.as_ref()), state.revision)
        };
        let chunk = match supply {
            Supply::Memory(chunk) => chunk,
            Supply::Scan { upto } => match scan(shared, position, upto)? {
                Some(chunk) => chunk,
                // The mark has passed this position; the next step cancels.
                None => return Ok(()),
            },
        };
        debug_assert!(chunk.holds(position));
        let group = self.take_group(position..=chunk.through);
        let matched = match_group(&group, &chunk, shared.options.hash_seed);
        let mut state = shared.lock();
        self.deliver(&mut state, group, matched, &chunk, at_sync, budget, frames);
        state.answer_progress(stream, frames);
        let left = self.cohorts.keys().any(|position| chunk.holds(*position));
        self.chunk = left.then_some(chunk);
        Ok(())
    }

    fn cancel_compacted(&mut self, state: &mut State, frames: &mut Vec<Frame>) {
        let kept = self.cohorts.split_off(&state.mark);
        for behind in std::mem::replace(&mut self.cohorts, kept).into_values().flatten() {
            frames.extend(state.cancel_compacted(behind.token));
        }
    }

    fn pick(&mut self) -> Option<Revision> {
        let next = self.cohorts.range(self.turn..).next().or_else(|| self.cohorts.iter().next())?;
        Some(*next.0)
    }

    /// Takes the watchers that need something of this piece, lowest position first, at most `group` of them.
    fn take_group(&mut self, positions: RangeInclusive<Revision>) -> Vec<Behind> {
        let mut group = Vec::new();
        while group.len() < self.group {
            let Some((position, _)) = self.cohorts.range(positions.clone()).next() else { break };
            let position = *position;
            let mut cohort = self.cohorts.remove(&position).expect("the cohort was just found");
            let room = self.group - group.len();
            if cohort.len() > room {
                let rest = cohort.split_off(room);
                self.cohorts.insert(position, rest);
            }
            group.append(&mut cohort);
        }
        group
    }

    #[allow(clippy::too_many_arguments)]
    fn deliver(
        &mut self,
        state: &mut State,
        group: Vec<Behind>,
        matched: Vec<Runs>,
        chunk: &Chunk,
        at_sync: Revision,
        budget: &mut Budget,
        frames: &mut Vec<Frame>,
    ) {
        let taken = group.len();
        let mut served = 0;
        for (mut behind, runs) in group.into_iter().zip(matched) {
            // At least one watcher is served, so that each step makes progress.
            if served > 0 && budget.is_spent() {
                self.cohorts.entry(behind.cursor).or_default().push(behind);
                continue;
            }
            served += 1;
            // Cancelled while the past was read: nothing more may come for it.
            let Some(watcher) = state.watcher(behind.token) else { continue };
            if !runs.is_empty() {
                watcher.flags.set(Flags::QUIET, false);
                budget.spend(runs.iter().map(Run::bytes_estimate).sum());
                // Whether the past comes from memory or from the store must not show.
                let prev_kv = behind.flags.has(Flags::PREV_KV);
                let prev = if prev_kv { Previous::Above(state.mark) } else { Previous::None };
                let events = EventBatch::new(runs, prev);
                state.counters.delivered_total += events.count() as u64;
                let fragment = behind.flags.has(Flags::FRAGMENT);
                frames.push(Frame::Events { id: behind.id, revision: at_sync, events, fragment });
            }
            behind.cursor = chunk.through + 1;
            if behind.cursor > state.revision {
                state.arm(behind.token.slot);
            } else {
                self.cohorts.entry(behind.cursor).or_default().push(behind);
            }
        }
        self.group =
            if served < taken { served.next_power_of_two() } else { (self.group * 2).min(GROUP_MAX) };
        // The cohort that was just served stands at `through + 1` now and comes last.
        self.turn = if served < taken { chunk.after + 1 } else { chunk.through.saturating_add(2) };
    }
}

impl State {
    /// A piece of the past that starts at `position` or before, if it is in memory.
    fn supply(&mut self, position: Revision, own: Option<&Arc<Chunk>>) -> Supply {
        let first_kept = self.log.first_revision();
        if first_kept.is_some_and(|first| first <= position) {
            let entries = self.log.slice(position, self.options.chunk_bytes_soft);
            let in_log = self.log.next_seq() - self.log.seq_at(position);
            let complete = entries.len() as u64 == in_log;
            let last = entries.last().map(|entry| entry.revision());
            let through = last.filter(|_| !complete).unwrap_or(self.revision);
            return Supply::Memory(Arc::new(Chunk { after: position - 1, through, entries }));
        }
        let known = own.into_iter().chain(&self.chunks).find(|chunk| chunk.holds(position));
        match known {
            Some(chunk) => {
                self.counters.scans_shared_total += 1;
                Supply::Memory(chunk.clone())
            }
            // What the log holds is not read again.
            None => Supply::Scan { upto: first_kept.map_or(self.revision, |first| first - 1) },
        }
    }
}

/// Reads `[position, upto]` from the source, or a first part of it. `None`: it is compacted.
fn scan(shared: &Shared, position: Revision, upto: Revision) -> Result<Option<Arc<Chunk>>, StreamEnd> {
    let after = position - 1;
    let read = shared.source.events(after, upto, shared.options.chunk_bytes_soft);
    // The source promises to check this after its scan; one more look costs nothing and a hole would be silent.
    let mark = shared.source.compacted();
    let read = read.and_then(
        |events| {
            if position < mark { Err(SourceError::Compacted { mark }) } else { Ok(events) }
        },
    );
    let events = match read {
        Ok(events) => events,
        Err(SourceError::Failed(cause)) => return Err(StreamEnd::Source(cause)),
        Err(SourceError::Compacted { mark }) if mark <= position => {
            let cause = format!("revision {position} is said to be compacted at mark {mark}");
            return Err(StreamEnd::Source(cause));
        }
        Err(SourceError::Compacted { mark }) => {
            shared.lock().compacted(mark);
            return Ok(None);
        }
    };
    let mut before = after;
    for revision in events.iter().map(|events| events.revision) {
        assert!(before < revision && revision <= upto, "revision {revision} of a scan of ({before}, {upto}]");
        before = revision;
    }
    let through = events.last().map_or(upto, |last| last.revision);
    let mut state = shared.lock();
    let entries =
        events.into_iter().map(|events| Arc::new(Entry::new(events, state.codec.clone()))).collect();
    let chunk = Arc::new(Chunk { after, through, entries });
    state.counters.scans_total += 1;
    // The last watcher behind may have been cancelled during the read.
    if state.behind > 0 {
        state.chunks.push_back(chunk.clone());
    }
    if state.chunks.len() > CHUNKS_KEPT {
        state.chunks.pop_front();
    }
    Ok(Some(chunk))
}

/// The distinct ranges of a group.
struct GroupRanges<'a>(Vec<&'a WatchedRange>);

impl Ranges for GroupRanges<'_> {
    fn range(&self, id: u32) -> &WatchedRange {
        self.0[id as usize]
    }
}

/// For each watcher of the group, the events of the piece that it is to receive.
fn match_group(group: &[Behind], chunk: &Chunk, seed: u64) -> Vec<Runs> {
    let mut matched = vec![Runs::new(); group.len()];
    if group.len() < GROUP_INDEXED {
        for (behind, runs) in group.iter().zip(&mut matched) {
            for entry in &chunk.entries {
                for (position, event) in entry.events().iter().enumerate() {
                    if behind.range.contains(&event.kv.key) {
                        add(behind, runs, entry, position);
                    }
                }
            }
        }
        return matched;
    }
    let mut ranges = GroupRanges(Vec::new());
    let mut index = RangeIndex::new(seed);
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (number, behind) in group.iter().enumerate() {
        let id = index.find(&ranges, &behind.range).unwrap_or_else(|| {
            let id = ranges.0.len() as u32;
            ranges.0.push(&behind.range);
            members.push(Vec::new());
            index.insert(&ranges, id);
            id
        });
        members[id as usize].push(number);
    }
    let mut found = Vec::new();
    for entry in &chunk.entries {
        for (position, event) in entry.events().iter().enumerate() {
            index.matches(&ranges, &event.kv.key, &mut found);
            for id in found.drain(..) {
                for member in &members[id as usize] {
                    add(&group[*member], &mut matched[*member], entry, position);
                }
            }
        }
    }
    matched
}

fn add(behind: &Behind, runs: &mut Runs, entry: &Arc<Entry>, position: usize) {
    if entry.revision() < behind.cursor || behind.flags.drops(&entry.events()[position]) {
        return;
    }
    if let Some(last) = runs.last_mut()
        && Arc::ptr_eq(&last.entry, entry)
        && last.range().end == position
    {
        last.count += 1;
        return;
    }
    runs.push(Run { entry: entry.clone(), first: position as u32, count: 1 });
}
