//! What a stream's reader takes when it runs: replies, events from the recent log, progress.
//!
//! Owns: the order of frames within one batch. Called by: `WatchStream::poll_next`, under the lock.
//! Invariants: replies come before events (so "created" precedes them); a progress frame comes only when nothing at or
//! below its revision is left to deliver (etcd #15220); whole revisions only.
//! Source: etcd `progressIfSync` and `sendLoop` for the meaning, own design otherwise.

use std::task::Waker;

use keelson_mvcc::types::Revision;
use smallvec::SmallVec;

use crate::catch_up::Behind;
use crate::entry::{Run, push_filtered};
use crate::frame::{EventBatch, Frame, Previous, Runs, WATCH_ID_NONE};
use crate::state::State;
use crate::watcher::{Flags, Phase, Watcher};

/// How much one batch may still take; soft, the frame that crosses it is the last one.
pub(crate) struct Budget {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

impl Budget {
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes == 0 || self.frames == 0
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.frames = self.frames.saturating_sub(1);
    }
}

/// What one turn of a dirty watcher gives.
struct Turn {
    runs: Runs,
    /// Revision of the last event in `runs`.
    last: Revision,
    bytes: usize,
    /// First revision that is left, if any.
    rest: Option<Revision>,
}

impl State {
    /// Takes everything that can be had without reading the past. Watchers that have to read it go to `fresh`.
    pub(crate) fn gather(
        &mut self,
        stream: u32,
        budget: &mut Budget,
        frames: &mut Vec<Frame>,
        fresh: &mut Vec<Behind>,
        wakes: &mut Vec<Waker>,
    ) {
        let state = &mut self.streams[stream];
        frames.extend(state.controls.drain(..));
        wakes.append(&mut state.room);
        self.gather_live(stream, budget, frames);
        for token in std::mem::take(&mut self.streams[stream].fresh) {
            let Some(watcher) = self.watcher(token) else { continue };
            debug_assert_eq!(watcher.phase, Phase::Behind);
            let (cursor, flags, id, subscription) =
                (watcher.cursor, watcher.flags, watcher.id, watcher.subscription);
            let range = self.subscriptions[subscription].range.clone();
            fresh.push(Behind { token, cursor, id, range, flags });
        }
        if std::mem::take(&mut self.streams[stream].progress_due) {
            self.notify_quiet(stream, frames);
        }
        self.answer_progress(stream, frames);
    }

    fn gather_live(&mut self, stream: u32, budget: &mut Budget, frames: &mut Vec<Frame>) {
        while !budget.is_spent() {
            let Some(token) = self.streams[stream].dirty.pop_front() else { break };
            let first_kept = self.log.first_revision().unwrap_or(self.revision + 1);
            let Some(watcher) = self.watcher(token).map(|watcher| &*watcher) else { continue };
            debug_assert_eq!(watcher.phase, Phase::Dirty);
            if watcher.cursor < first_kept {
                self.enter_behind(token.slot);
                continue;
            }
            let watcher = &self.watchers[token.slot];
            let (id, flags) = (watcher.id, watcher.flags);
            let turn = self.take_turn(watcher);
            let delivered = !turn.runs.is_empty();
            if delivered {
                let fragment = flags.has(Flags::FRAGMENT);
                // Compaction never overtakes these: they were complete when they happened to a watcher in sync.
                let prev = if flags.has(Flags::PREV_KV) { Previous::Above(-1) } else { Previous::None };
                let events = EventBatch::new(turn.runs, prev);
                self.counters.delivered_total += events.count() as u64;
                frames.push(Frame::Events { id, revision: turn.last, events, fragment });
            }
            budget.spend(turn.bytes);
            let watcher = &mut self.watchers[token.slot];
            if delivered {
                watcher.flags.set(Flags::QUIET, false);
            }
            match turn.rest {
                None => self.arm(token.slot),
                Some(rest) => {
                    watcher.cursor = rest;
                    self.streams[stream].dirty.push_back(token);
                }
            }
        }
    }

    /// The events of a dirty watcher from its cursor on, whole revisions, up to about one frame.
    fn take_turn(&self, watcher: &Watcher) -> Turn {
        let subscription = &self.subscriptions[watcher.subscription];
        let mut turn = Turn { runs: SmallVec::new(), last: 0, bytes: 0, rest: None };
        let mut seq_before = None;
        for hit in subscription.hits_from(self.log.seq_at(watcher.cursor)) {
            let entry = self.log.entry(hit.seq);
            if seq_before != Some(hit.seq) && turn.bytes >= self.options.frame_bytes_soft {
                turn.rest = Some(entry.revision());
                break;
            }
            seq_before = Some(hit.seq);
            let run = Run { entry: entry.clone(), first: hit.first, count: hit.count };
            turn.bytes += run.bytes_estimate();
            let before = turn.runs.len();
            if watcher.flags.filters() {
                let events = hit.first..hit.first + hit.count;
                push_filtered(&mut turn.runs, entry, events, |event| watcher.flags.drops(event));
            } else {
                turn.runs.push(run);
            }
            if turn.runs.len() > before {
                turn.last = entry.revision();
            }
        }
        turn
    }

    /// Sends a progress frame to each watcher that asked for them, is in sync and had no event for an interval.
    fn notify_quiet(&mut self, stream: u32, frames: &mut Vec<Frame>) {
        let revision = self.revision;
        for (id, slot) in &self.streams[stream].watchers {
            let watcher = &mut self.watchers[*slot];
            if !watcher.flags.has(Flags::NOTIFY) {
                continue;
            }
            let future = watcher.flags.has(Flags::FUTURE) && watcher.cursor > revision;
            if watcher.flags.has(Flags::QUIET) && watcher.phase == Phase::Armed && !future {
                frames.push(Frame::Progress { id: *id, revision });
            }
            watcher.flags.set(Flags::QUIET, true);
        }
    }

    /// Answers a progress request once all watchers of the stream have everything up to the hub's revision.
    ///
    /// The request stays while watchers have something to deliver. It is dropped, as etcd does, if there is no
    /// watcher, or one that waits for a future revision: a revision below its start would be an older notification.
    pub(crate) fn answer_progress(&mut self, stream: u32, frames: &mut Vec<Frame>) {
        let revision = self.revision;
        let state = &mut self.streams[stream];
        let in_sync = state.dirty.is_empty() && state.behind == 0;
        // A reply that waits goes first: a watcher cancelled a moment ago still counts for the client.
        if !state.progress_asked || !in_sync || !state.controls.is_empty() {
            return;
        }
        state.progress_asked = false;
        if state.future_max > revision {
            let watchers = state.watchers.values().map(|slot| &self.watchers[*slot]);
            let future = watchers.filter(|watcher| watcher.flags.has(Flags::FUTURE));
            state.future_max = future.map(|watcher| watcher.cursor).max().unwrap_or(0);
        }
        if !state.watchers.is_empty() && state.future_max <= revision {
            frames.push(Frame::Progress { id: WATCH_ID_NONE, revision });
        }
    }

    /// True if the reader of this stream has something to take right away.
    pub(crate) fn has_work(&self, stream: u32) -> bool {
        let state = &self.streams[stream];
        !state.dirty.is_empty() || !state.fresh.is_empty() || !state.controls.is_empty()
    }
}
