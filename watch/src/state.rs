//! The hub's whole state behind one lock: streams, watchers, subscriptions, and their life from creation to removal.
//!
//! Owns: the tables and their links; the rows are in `watcher`. Called by: `Hub`, `WatchStream`, `WatchControl`, each
//! under the lock.
//! Invariants: a watcher is in exactly one phase (see [`Phase`]); a subscription exists while it has watchers; all
//! events of an armed watcher up to `revision` have been handed to its stream's reader.
//! Source: own design.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use keelson_mvcc::types::Revision;

use crate::catch_up::Chunk;
use crate::frame::{
    Frame, REASON_DUPLICATE_ID, REASON_EMPTY_RANGE, REASON_NEGATIVE_START, WATCH_ID_NONE, WatchId,
    WatchRequest,
};
use crate::hub::HubOptions;
use crate::index::RangeIndex;
use crate::key_range::WatchedRange;
use crate::log::RecentLog;
use crate::ports::FrameCodec;
use crate::slab::Slab;
use crate::stats::Counters;
use crate::subscription::Subscription;
use crate::watcher::{Flags, NONE, Phase, StreamState, Token, Watcher};

/// Names a stream; a control handle may outlive its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) slot: u32,
    serial: u64,
}

/// See the module.
pub(crate) struct State {
    pub(crate) options: HubOptions,
    pub(crate) codec: Arc<dyn FrameCodec>,
    pub(crate) log: RecentLog,
    pub(crate) index: RangeIndex,
    pub(crate) subscriptions: Slab<Subscription>,
    pub(crate) watchers: Slab<Watcher>,
    pub(crate) streams: Slab<StreamState>,
    /// Everything up to here was published.
    pub(crate) revision: Revision,
    /// The compaction mark.
    pub(crate) mark: Revision,
    /// Time of the last tick.
    pub(crate) now: Duration,
    pub(crate) timers: BTreeSet<(Duration, u32)>,
    /// Recently read pieces of the past, for streams that catch up over the same revisions.
    pub(crate) chunks: VecDeque<Arc<Chunk>>,
    /// Watchers in phase `Behind`, of all streams.
    pub(crate) behind: usize,
    pub(crate) counters: Counters,
    pub(crate) closed: bool,
    pub(crate) matched: Vec<u32>,
    watcher_serial: u32,
    stream_serial: u64,
}

impl State {
    pub(crate) fn new(
        options: HubOptions,
        codec: Arc<dyn FrameCodec>,
        revision: Revision,
        mark: Revision,
    ) -> Self {
        State {
            log: RecentLog::new(options.log_bytes_max, options.log_revisions_max),
            index: RangeIndex::new(options.hash_seed),
            options,
            codec,
            subscriptions: Slab::default(),
            watchers: Slab::default(),
            streams: Slab::default(),
            revision,
            mark,
            now: Duration::ZERO,
            timers: BTreeSet::new(),
            chunks: VecDeque::new(),
            behind: 0,
            counters: Counters::default(),
            closed: false,
            matched: Vec::new(),
            watcher_serial: 0,
            stream_serial: 0,
        }
    }

    pub(crate) fn open(&mut self) -> StreamKey {
        self.stream_serial += 1;
        let serial = self.stream_serial;
        let slot = self.streams.insert(StreamState { serial, ..StreamState::default() });
        StreamKey { slot, serial }
    }

    /// The stream, unless it is gone or going.
    pub(crate) fn stream(&mut self, key: StreamKey) -> Option<&mut StreamState> {
        let closed = self.closed;
        let stream = self.streams.get_mut(key.slot)?;
        (stream.serial == key.serial && !stream.closing && !closed).then_some(stream)
    }

    /// Removes up to `watchers_max` watchers of a stream that goes away, and the stream with the last one.
    /// True when it is gone. In steps, because a stream of 100,000 watchers must not hold up publication.
    pub(crate) fn close_step(&mut self, key: StreamKey, watchers_max: usize, wakes: &mut Vec<Waker>) -> bool {
        let Some(stream) = self.streams.get_mut(key.slot).filter(|stream| stream.serial == key.serial) else {
            return true;
        };
        stream.closing = true;
        stream.waker = None;
        wakes.append(&mut stream.room);
        let some: Vec<u32> = stream.watchers.values().take(watchers_max).copied().collect();
        for slot in some {
            self.remove_watcher(slot);
        }
        let stream = &self.streams[key.slot];
        if !stream.watchers.is_empty() {
            return false;
        }
        debug_assert_eq!((stream.behind, stream.notify), (0, 0));
        if let Some(due) = stream.timer {
            self.timers.remove(&(due, key.slot));
        }
        self.streams.remove(key.slot);
        true
    }

    /// Creates a watcher or refuses it; the reply is queued in either case. `None`: refused.
    pub(crate) fn create(&mut self, stream_slot: u32, request: &WatchRequest) -> Option<WatchId> {
        let stream = &mut self.streams[stream_slot];
        if request.start < 0 {
            self.refuse(stream_slot, REASON_NEGATIVE_START.into());
            return None;
        }
        let Some(range) = WatchedRange::new(&request.range) else {
            self.refuse(stream_slot, REASON_EMPTY_RANGE.into());
            return None;
        };
        let id = if request.id != 0 {
            if stream.watchers.contains_key(&request.id) {
                self.refuse(stream_slot, REASON_DUPLICATE_ID.into());
                return None;
            }
            request.id
        } else {
            while stream.watchers.contains_key(&stream.next_id) {
                stream.next_id += 1;
            }
            let id = stream.next_id;
            stream.next_id += 1;
            id
        };
        stream.controls.push_back(Frame::Created { id, revision: self.revision });
        self.insert_watcher(stream_slot, id, range, request);
        Some(id)
    }

    fn insert_watcher(&mut self, stream_slot: u32, id: WatchId, range: WatchedRange, request: &WatchRequest) {
        let subscription = self.subscribe(range);
        let mut flags = Flags::of(request);
        let live = request.start == 0 || request.start > self.revision;
        let (cursor, phase) = if request.start == 0 {
            (self.revision + 1, Phase::Armed)
        } else {
            flags.set(Flags::FUTURE, live);
            (request.start, if live { Phase::Armed } else { Phase::Behind })
        };
        self.watcher_serial = self.watcher_serial.wrapping_add(1);
        let serial = self.watcher_serial;
        let watcher = Watcher {
            id,
            cursor,
            stream: stream_slot,
            subscription,
            previous: NONE,
            next: NONE,
            serial,
            flags,
            phase,
        };
        let slot = self.watchers.insert(watcher);
        let stream = &mut self.streams[stream_slot];
        stream.watchers.insert(id, slot);
        if flags.has(Flags::FUTURE) {
            stream.future_max = stream.future_max.max(cursor);
        }
        if flags.has(Flags::NOTIFY) {
            stream.notify += 1;
            self.schedule(stream_slot);
        }
        match phase {
            Phase::Armed => self.link(slot),
            Phase::Behind => self.enter_behind(slot),
            Phase::Dirty => unreachable!("a new watcher has missed nothing"),
        }
    }

    fn subscribe(&mut self, range: WatchedRange) -> u32 {
        let known = self.index.find(&self.subscriptions, &range);
        let subscription = known.unwrap_or_else(|| {
            let subscription = self.subscriptions.insert(Subscription::new(range, NONE));
            self.index.insert(&self.subscriptions, subscription);
            subscription
        });
        self.subscriptions[subscription].watchers += 1;
        subscription
    }

    /// Queues the reply "created and canceled at once".
    pub(crate) fn refuse(&mut self, stream_slot: u32, reason: Cow<'static, str>) {
        let revision = self.revision;
        self.streams[stream_slot].controls.push_back(Frame::Canceled {
            id: WATCH_ID_NONE,
            created: true,
            revision,
            compact_revision: 0,
            reason,
        });
    }

    /// Cancels a watcher on request of the client and queues the reply; an unknown id is ignored.
    pub(crate) fn cancel(&mut self, stream_slot: u32, id: WatchId) -> bool {
        let Some(slot) = self.streams[stream_slot].watchers.get(&id).copied() else { return false };
        self.remove_watcher(slot);
        let revision = self.revision;
        self.streams[stream_slot].controls.push_back(Frame::Canceled {
            id,
            created: false,
            revision,
            compact_revision: 0,
            reason: Cow::Borrowed(""),
        });
        true
    }

    /// Removes a watcher whose next event may be compacted; gives the frame that says so.
    pub(crate) fn cancel_compacted(&mut self, token: Token) -> Option<Frame> {
        let id = self.watcher(token)?.id;
        self.remove_watcher(token.slot);
        self.counters.compacted_cancels += 1;
        Some(Frame::Canceled {
            id,
            created: false,
            revision: 0,
            compact_revision: self.mark,
            reason: Cow::Borrowed(""),
        })
    }

    /// The watcher, unless it is gone.
    pub(crate) fn live_watcher(&self, token: Token) -> Option<&Watcher> {
        self.watchers.get(token.slot).filter(|watcher| watcher.serial == token.serial)
    }

    /// As [`State::live_watcher`], to change it.
    pub(crate) fn watcher(&mut self, token: Token) -> Option<&mut Watcher> {
        self.watchers.get_mut(token.slot).filter(|watcher| watcher.serial == token.serial)
    }

    pub(crate) fn token(&self, slot: u32) -> Token {
        Token { slot, serial: self.watchers[slot].serial }
    }

    /// `Armed` to `Dirty` or `Behind`: takes the watcher out of its subscription's list.
    pub(crate) fn unlink(&mut self, slot: u32) {
        let watcher = &mut self.watchers[slot];
        let (previous, next, subscription) = (watcher.previous, watcher.next, watcher.subscription);
        watcher.previous = NONE;
        watcher.next = NONE;
        match previous {
            NONE => {
                let subscription = &mut self.subscriptions[subscription];
                assert_eq!(subscription.armed, slot, "the first armed watcher heads the list");
                subscription.armed = next;
            }
            previous => self.watchers[previous].next = next,
        }
        if next != NONE {
            self.watchers[next].previous = previous;
        }
    }

    /// Any phase to `Armed`: everything up to `revision` was delivered.
    pub(crate) fn arm(&mut self, slot: u32) {
        let watcher = &mut self.watchers[slot];
        match watcher.phase {
            Phase::Armed => unreachable!("an armed watcher is not armed again"),
            Phase::Dirty => {}
            Phase::Behind => {
                self.behind -= 1;
                self.streams[watcher.stream].behind -= 1;
            }
        }
        watcher.phase = Phase::Armed;
        watcher.cursor = self.revision + 1;
        watcher.flags.set(Flags::FUTURE, false);
        self.link(slot);
        self.drop_chunks_if_unused();
    }

    /// `Dirty`, or a watcher that is in no list, to `Behind`.
    pub(crate) fn enter_behind(&mut self, slot: u32) {
        let token = self.token(slot);
        let watcher = &mut self.watchers[slot];
        watcher.phase = Phase::Behind;
        self.behind += 1;
        let stream = &mut self.streams[watcher.stream];
        stream.behind += 1;
        stream.fresh.push(token);
    }

    fn link(&mut self, slot: u32) {
        let watcher = &self.watchers[slot];
        debug_assert_eq!((watcher.previous, watcher.next), (NONE, NONE));
        let subscription = &mut self.subscriptions[watcher.subscription];
        let next = std::mem::replace(&mut subscription.armed, slot);
        self.watchers[slot].next = next;
        if next != NONE {
            self.watchers[next].previous = slot;
        }
    }

    fn remove_watcher(&mut self, slot: u32) {
        if self.watchers[slot].phase == Phase::Armed {
            self.unlink(slot);
        }
        let watcher = self.watchers.remove(slot).expect("the watcher is live");
        let stream = &mut self.streams[watcher.stream];
        let row = stream.watchers.remove(&watcher.id);
        assert_eq!(row, Some(slot), "a stream lists its watchers");
        if watcher.phase == Phase::Behind {
            stream.behind -= 1;
            self.behind -= 1;
        }
        if watcher.flags.has(Flags::NOTIFY) {
            stream.notify -= 1;
        }
        let subscription = &mut self.subscriptions[watcher.subscription];
        subscription.watchers -= 1;
        if subscription.watchers == 0 {
            assert_eq!(subscription.armed, NONE, "no watcher, none armed");
            self.index.remove(&self.subscriptions, watcher.subscription);
            self.subscriptions.remove(watcher.subscription);
        }
        self.drop_chunks_if_unused();
    }

    fn drop_chunks_if_unused(&mut self) {
        if self.behind == 0 {
            self.chunks.clear();
        }
    }
}
