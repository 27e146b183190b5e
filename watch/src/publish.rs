//! What the store tells the hub: new events, a compaction, an installed snapshot, the passing of time.
//!
//! Owns: matching and the marking of streams. Called by: `Hub`, from the apply task and its owner's timer.
//! Invariants: the cost of a publication depends on the subscriptions that match and on the watchers that had nothing
//! to deliver before; a watcher that is dirty or behind costs nothing more, so a slow client never slows it.
//! Source: etcd `server/storage/mvcc/watchable_store.go` for the meaning (`notify`, `Restore`), own design otherwise.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use keelson_mvcc::types::{Revision, RevisionEvents};

use crate::entry::Entry;
use crate::log::Touched;
use crate::state::State;
use crate::subscription::Recorded;
use crate::watcher::{Flags, NONE, Phase};

impl State {
    /// Appends a group of revisions; `revision` is the store's revision after it.
    pub(crate) fn publish(
        &mut self,
        group: &[Arc<RevisionEvents>],
        revision: Revision,
        wakes: &mut Vec<Waker>,
    ) {
        for events in group {
            assert!(
                events.revision > self.revision,
                "published revision {} after {}",
                events.revision,
                self.revision
            );
            assert!(!events.events.is_empty(), "a revision has events");
            self.append(events, wakes);
            self.revision = events.revision;
            self.counters.events_total += events.events.len() as u64;
        }
        assert!(revision >= self.revision, "the store's revision {revision} is behind {}", self.revision);
        self.revision = revision;
        while let Some((seq, touched)) = self.log.trim_one() {
            self.forget(seq, &touched);
        }
    }

    fn append(&mut self, events: &Arc<RevisionEvents>, wakes: &mut Vec<Waker>) {
        let seq = self.log.next_seq();
        let mut touched = Touched::new();
        let mut hits = 0;
        for (position, event) in events.events.iter().enumerate() {
            self.index.matches(&self.subscriptions, &event.kv.key, &mut self.matched);
            for subscription in self.matched.drain(..) {
                let recorded = self.subscriptions[subscription].record(seq, position as u32);
                hits += usize::from(recorded != Recorded::Extended);
                if recorded == Recorded::First {
                    touched.push(subscription);
                }
            }
        }
        for subscription in &touched {
            self.mark_dirty(*subscription, events.revision, wakes);
        }
        self.log.push(Arc::new(Entry::new(events.clone(), self.codec.clone())), touched, hits);
    }

    /// `Armed` to `Dirty` for all watchers of a subscription that may receive `revision`.
    fn mark_dirty(&mut self, subscription: u32, revision: Revision, wakes: &mut Vec<Waker>) {
        let mut at = self.subscriptions[subscription].armed;
        while at != NONE {
            let slot = at;
            let watcher = &self.watchers[slot];
            at = watcher.next;
            // A watcher of a future revision must not see older events (etcd #20221).
            if watcher.cursor > revision {
                continue;
            }
            self.unlink(slot);
            let token = self.token(slot);
            let watcher = &mut self.watchers[slot];
            watcher.phase = Phase::Dirty;
            watcher.cursor = revision;
            let stream = &mut self.streams[watcher.stream];
            stream.dirty.push_back(token);
            stream.wake(wakes);
        }
    }

    fn forget(&mut self, seq: u64, touched: &Touched) {
        for subscription in touched {
            // The subscription may be gone, and its slot another one's: that one only loses hits that are gone too.
            if let Some(subscription) = self.subscriptions.get_mut(*subscription) {
                subscription.forget_before(seq + 1);
            }
        }
    }

    /// Raises the compaction mark. Whoever reads the past below it is cancelled when its stream next runs; events
    /// that wait in the recent log are still delivered, because they are complete.
    pub(crate) fn compacted(&mut self, mark: Revision) {
        self.mark = self.mark.max(mark);
    }

    /// The store's content was replaced by a snapshot: what the hub remembers of the past is void, and every watcher
    /// continues from its own cursor.
    pub(crate) fn reset(&mut self, revision: Revision, mark: Revision, wakes: &mut Vec<Waker>) {
        assert!(revision >= self.revision, "the store went back from {} to {revision}", self.revision);
        while let Some((seq, touched)) = self.log.pop() {
            self.forget(seq, &touched);
        }
        self.chunks.clear();
        let delivered = std::mem::replace(&mut self.revision, revision);
        self.mark = self.mark.max(mark);
        for slot in self.watchers.slots() {
            let Some(watcher) = self.watchers.get_mut(slot) else { continue };
            if watcher.phase != Phase::Armed {
                continue;
            }
            if watcher.cursor <= delivered {
                watcher.cursor = delivered + 1;
                // The store has passed its start: it waits for nothing in the future any more.
                watcher.flags.set(Flags::FUTURE, false);
            }
            if watcher.cursor <= revision {
                let stream = watcher.stream;
                self.unlink(slot);
                self.enter_behind(slot);
                self.streams[stream].wake(wakes);
            }
        }
        // Dirty watchers find their cursor before the (now empty) log and go behind when their stream runs.
    }

    /// Time has come to `now`, a monotonic reading: streams whose quiet watchers are due get their progress frames.
    pub(crate) fn tick(&mut self, now: Duration, wakes: &mut Vec<Waker>) {
        self.now = self.now.max(now);
        while let Some((due, slot)) = self.timers.first().copied() {
            if due > self.now {
                break;
            }
            self.timers.pop_first();
            let stream = &mut self.streams[slot];
            stream.timer = None;
            if stream.notify > 0 {
                stream.progress_due = true;
                stream.wake(wakes);
                self.schedule(slot);
            }
        }
    }

    /// Sets the stream's timer for progress frames, unless it runs already.
    pub(crate) fn schedule(&mut self, slot: u32) {
        let interval = self.options.progress_interval;
        let stream = &mut self.streams[slot];
        if interval.is_zero() || stream.timer.is_some() {
            return;
        }
        // Up to a tenth more, so that streams opened together (after a restart) do not stay together.
        let spread = u64::from(slot.wrapping_mul(0x9e37_79b9) >> 16);
        let jitter = (interval / 10).mul_f64(spread as f64 / 65536.0);
        let due = self.now + interval + jitter;
        stream.timer = Some(due);
        self.timers.insert((due, slot));
    }
}
