//! One watcher, and the stream it belongs to, as rows of the hub's tables.
//!
//! Owns: the phases, the flags, the layout. Called by: the functions of `State`, which make all transitions.
//! Invariants: a watcher takes 40 bytes here. Source: own design.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use keelson_mvcc::types::{Event, EventKind, Revision};

use crate::frame::{Frame, WatchId, WatchRequest};

/// "No watcher" in the lists of armed watchers.
pub(crate) const NONE: u32 = u32::MAX;

/// Where a watcher stands; each transition is made by one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing to deliver; linked in its subscription. Leaves by an event (`Dirty`) or a reset (`Behind`).
    Armed,
    /// Events wait in the recent log from `cursor` on; queued in its stream. Leaves by delivery of everything
    /// (`Armed`), or when the log moved past its cursor (`Behind`).
    Dirty,
    /// Reads the past, owned by its stream's `CatchUp`, which keeps the true cursor. Leaves when it has read
    /// everything (`Armed`) or meets the compaction mark (removed).
    Behind,
}

/// What a client asked of a watcher, and what the hub remembers about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const PREV_KV: Flags = Flags(1);
    pub(crate) const NO_PUT: Flags = Flags(2);
    pub(crate) const NO_DELETE: Flags = Flags(4);
    pub(crate) const FRAGMENT: Flags = Flags(8);
    /// Wants progress frames when quiet.
    pub(crate) const NOTIFY: Flags = Flags(16);
    /// Had no event since the last round of progress frames.
    pub(crate) const QUIET: Flags = Flags(32);
    /// Was created with a start revision the store had not reached; `cursor` is that revision.
    pub(crate) const FUTURE: Flags = Flags(64);

    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Flags, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }

    pub(crate) fn filters(self) -> bool {
        self.has(Flags::NO_PUT) || self.has(Flags::NO_DELETE)
    }

    pub(crate) fn drops(self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.has(Flags::NO_PUT),
            EventKind::Delete => self.has(Flags::NO_DELETE),
        }
    }

    pub(crate) fn of(request: &WatchRequest) -> Self {
        let mut flags = Flags::QUIET;
        flags.set(Flags::PREV_KV, request.prev_kv);
        flags.set(Flags::NO_PUT, request.no_put);
        flags.set(Flags::NO_DELETE, request.no_delete);
        flags.set(Flags::FRAGMENT, request.fragment);
        flags.set(Flags::NOTIFY, request.progress_notify);
        flags
    }
}

/// One watcher: 40 bytes beside its subscription and its row in the stream.
pub(crate) struct Watcher {
    pub(crate) id: WatchId,
    /// The lowest revision it may still receive. Meaning per phase: `Armed`: no event in `cursor..=revision` matches
    /// it; `Dirty`: the first undelivered one is at `cursor`; `Behind`: stale.
    pub(crate) cursor: Revision,
    pub(crate) stream: u32,
    pub(crate) subscription: u32,
    pub(crate) previous: u32,
    pub(crate) next: u32,
    pub(crate) serial: u32,
    pub(crate) flags: Flags,
    pub(crate) phase: Phase,
}

// Ten million watchers are a design goal of etcd; the table must not grow unnoticed.
const _: () = assert!(std::mem::size_of::<Option<Watcher>>() <= 40);

/// Names a watcher across unlocks: the slot may have been used again since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// What the hub knows of one stream.
#[derive(Default)]
pub(crate) struct StreamState {
    pub(crate) serial: u64,
    pub(crate) watchers: BTreeMap<WatchId, u32>,
    pub(crate) next_id: WatchId,
    /// Watchers with events in the recent log, in the order in which they became dirty.
    pub(crate) dirty: VecDeque<Token>,
    /// Watchers that have to read the past and are not yet known to the stream's `CatchUp`.
    pub(crate) fresh: Vec<Token>,
    /// Number of watchers in phase `Behind`.
    pub(crate) behind: usize,
    /// Replies to requests; bounded by `controls_max` of the hub's options.
    pub(crate) controls: VecDeque<Frame>,
    pub(crate) waker: Option<Waker>,
    /// Requesters that wait for room in `controls`.
    pub(crate) room: Vec<Waker>,
    /// Watchers with `Flags::NOTIFY`.
    pub(crate) notify: usize,
    pub(crate) timer: Option<Duration>,
    pub(crate) progress_due: bool,
    pub(crate) progress_asked: bool,
    /// No watcher of this stream has a start revision above this; may be too high after a removal.
    pub(crate) future_max: Revision,
    pub(crate) closing: bool,
}

impl StreamState {
    /// The reader's waker, if it waits; to be woken once the lock is released.
    pub(crate) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.waker.take());
    }
}
