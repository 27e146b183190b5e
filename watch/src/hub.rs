//! The handle of the apply task and of the services: publish events, open streams.
//!
//! Owns: the lock around the state, and the rule that wakers run after it is released. Called by: `raftstore`
//! (publish, compacted, reset, tick), `api` (open, stats). Source: own design.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use keelson_mvcc::types::{Revision, RevisionEvents};

use crate::ports::{EventSource, FrameCodec};
use crate::state::State;
use crate::stats::HubStats;
use crate::stream::WatchStream;

/// Bounds of the hub. Each default names its reason.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Memory of the recent log, counting events once and one encoding; the other encoding, if anybody asks for it,
    /// may add as much again. The default is some tens of thousands of small events: enough for readers that are
    /// merely late, while slower ones read the store, which is fast, and an idle store stays small.
    pub log_bytes_max: usize,
    /// Revisions in the recent log: bounds the bookkeeping of tiny events.
    pub log_revisions_max: usize,
    /// Soft size of one batch given to a stream's reader: enough for a full socket buffer, little per slow client.
    pub batch_bytes_soft: usize,
    /// Soft number of frames in one batch.
    pub batch_frames_soft: usize,
    /// Soft size of one frame: well below the 4 MiB that gRPC clients receive by default. A revision is not split.
    pub frame_bytes_soft: usize,
    /// Soft size of one read of the past; up to four are shared, and one per stream that catches up is in work.
    pub chunk_bytes_soft: usize,
    /// Replies a stream may have queued before its requests wait.
    pub controls_max: usize,
    /// How often a quiet watcher that asked for it is told how far it is; zero means never. etcd's default.
    pub progress_interval: Duration,
    /// Keys the hash of watched keys, which clients choose; a random number outside of simulations.
    pub hash_seed: u64,
}

impl Default for HubOptions {
    fn default() -> Self {
        HubOptions {
            log_bytes_max: 16 << 20,
            log_revisions_max: 1 << 18,
            batch_bytes_soft: 1 << 20,
            batch_frames_soft: 4096,
            frame_bytes_soft: 512 << 10,
            chunk_bytes_soft: 512 << 10,
            controls_max: 1024,
            progress_interval: Duration::from_secs(600),
            hash_seed: 0,
        }
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) options: HubOptions,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A broken invariant was already reported where it was found; going on could lose events silently.
        self.state.lock().expect("the hub's state is intact")
    }

    /// For destructors, which must not panic a second time.
    pub(crate) fn lock_unless_broken(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock().ok()
    }
}

/// The watch hub; a cheap handle. Its contract is the crate's documentation.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

impl Hub {
    /// A hub that continues at the source's revision and compaction mark.
    pub fn new(options: HubOptions, source: Arc<dyn EventSource>, codec: Arc<dyn FrameCodec>) -> Self {
        let state = State::new(options.clone(), codec, source.revision(), source.compacted());
        Hub { shared: Arc::new(Shared { state: Mutex::new(state), source, options }) }
    }

    /// Publishes a group of applied revisions, oldest first; `revision` is the store's revision after the group.
    ///
    /// To be called after the read view of the group is visible and before its replies are sent. Each stream that
    /// has something new is woken once. Never waits for a reader.
    /// # Panics
    /// If the revisions do not increase: the store would have gone back in time.
    pub fn publish(&self, group: &[Arc<RevisionEvents>], revision: Revision) {
        self.with(|state, wakes| state.publish(group, revision, wakes));
    }

    /// Tells the compaction mark: events of `mark` and later stay complete, older ones may go.
    pub fn compacted(&self, mark: Revision) {
        self.with(|state, _| state.compacted(mark));
    }

    /// The store's content was replaced by a snapshot at `revision` with compaction mark `mark`. To be called once
    /// the source reads the new content. Watchers continue where they are; those below the mark are cancelled.
    /// # Panics
    /// If `revision` is older than what was published.
    pub fn reset(&self, revision: Revision, mark: Revision) {
        self.with(|state, wakes| state.reset(revision, mark, wakes));
    }

    /// Tells the time: any monotonic reading, always of the same clock. Call it a few times per progress interval.
    pub fn tick(&self, now: Duration) {
        self.with(|state, wakes| state.tick(now, wakes));
    }

    /// Opens a stream without watchers.
    pub fn open(&self) -> WatchStream {
        let key = self.shared.lock().open();
        WatchStream::new(self.shared.clone(), key)
    }

    /// Everything up to here was published.
    pub fn revision(&self) -> Revision {
        self.shared.lock().revision
    }

    /// Numbers for metrics; costs a pass over the streams and their watchers with pending events.
    pub fn stats(&self) -> HubStats {
        self.shared.lock().stats()
    }

    /// Checks all invariants of the state, at a cost that only tests and simulations can afford.
    /// # Panics
    /// If one does not hold.
    pub fn validate(&self) {
        self.shared.lock().validate();
    }

    /// Ends all streams: readers get [`crate::StreamEnd::Closed`], requests are refused.
    pub fn close(&self) {
        self.with(|state, wakes| {
            state.closed = true;
            for slot in state.streams.slots() {
                if let Some(stream) = state.streams.get_mut(slot) {
                    stream.wake(wakes);
                    wakes.append(&mut stream.room);
                }
            }
        });
    }

    fn with(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>)) {
        let mut wakes = Vec::new();
        change(&mut self.shared.lock(), &mut wakes);
        wakes.into_iter().for_each(Waker::wake);
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
