//! What a stream yields: replies and event batches, in the order in which they go to the client.
//!
//! Owns: requests, frames, the splitting of a batch. Called by: `api`, in-process readers.
//! Invariants: a batch is never empty and holds whole revisions until `split` cuts it.
//! Source: etcd v3 `WatchResponse` and `WatchCreateRequest`, `server/etcdserver/api/v3rpc/watch.go`.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};
use keelson_mvcc::types::{Event, KeyRange, Revision};
use smallvec::SmallVec;

use crate::entry::Run;

/// Names a watcher within its stream; clients may choose it.
pub type WatchId = i64;

/// Stands for "no watcher" in a refusal and for "all watchers" in a progress reply.
pub const WATCH_ID_NONE: WatchId = -1;

/// Why a range that can hold no key is refused.
pub const REASON_EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// Why an id that is in use is refused.
pub const REASON_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// Why a negative start revision is refused.
pub const REASON_NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";

/// A request for a new watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// 0: the stream chooses the lowest unused number, counting from 0.
    pub id: WatchId,
    /// Which keys. An empty `key` stands for one zero byte, the smallest key.
    pub range: KeyRange,
    /// First revision to be delivered, inclusive; 0 means "from now".
    pub start: Revision,
    /// Events carry the previous key-value.
    pub prev_kv: bool,
    /// Puts are left out.
    pub no_put: bool,
    /// Deletions are left out.
    pub no_delete: bool,
    /// A quiet watcher gets a progress frame now and then.
    pub progress_notify: bool,
    /// Large batches may be cut into several responses; see [`EventBatch::split`].
    pub fragment: bool,
}

/// One response to the client.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The watcher exists; its events come after this.
    Created {
        /// The watcher.
        id: WatchId,
        /// The store's revision at that moment.
        revision: Revision,
    },
    /// Some events, whole revisions only.
    Events {
        /// The watcher.
        id: WatchId,
        /// For the header. Live: revision of the last event. Catching up: the hub's revision at that moment.
        revision: Revision,
        /// The events.
        events: EventBatch,
        /// The watcher allows splitting.
        fragment: bool,
    },
    /// The watcher is gone, or was refused (`created` set, `id` -1).
    Canceled {
        /// The watcher, or -1 for a refusal.
        id: WatchId,
        /// The client is told "created" and "canceled" at once: its request was refused.
        created: bool,
        /// For the header; 0 for a watcher that met the compaction mark.
        revision: Revision,
        /// The compaction mark if that is the reason, otherwise 0.
        compact_revision: Revision,
        /// Empty when the client itself cancelled, and for compaction.
        reason: Cow<'static, str>,
    },
    /// No event at or below `revision` is left to be delivered.
    Progress {
        /// The watcher, or -1: all watchers of the stream.
        id: WatchId,
        /// Everything up to here is delivered.
        revision: Revision,
    },
}

impl Frame {
    /// The watcher the frame speaks of.
    pub fn id(&self) -> WatchId {
        match self {
            Frame::Created { id, .. }
            | Frame::Events { id, .. }
            | Frame::Canceled { id, .. }
            | Frame::Progress { id, .. } => *id,
        }
    }
}

pub(crate) type Runs = SmallVec<[Run; 1]>;

/// Events for one watcher, oldest first: references into shared entries, encoded when first asked for.
#[derive(Clone)]
pub struct EventBatch {
    runs: Runs,
    prev: Previous,
}

/// Which events of a batch carry their previous key-value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    None,
    /// Those of revisions above the compaction mark: the revision before is what the value is read at. -1: all.
    Above(Revision),
}

impl Previous {
    fn of(self, run: &Run) -> bool {
        matches!(self, Previous::Above(mark) if run.entry.revision() > mark)
    }
}

impl EventBatch {
    pub(crate) fn new(runs: Runs, prev: Previous) -> Self {
        assert!(!runs.is_empty(), "a batch holds events");
        EventBatch { runs, prev }
    }

    /// The events themselves, for readers in this process. `prev` is present even where the encoding leaves it out.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.runs.iter().flat_map(|run| run.events())
    }

    /// Number of events.
    pub fn count(&self) -> usize {
        self.runs.iter().map(|run| run.count as usize).sum()
    }

    /// True if the encoding carries previous key-values, where they are not compacted.
    pub fn prev_kv(&self) -> bool {
        self.prev != Previous::None
    }

    /// Calls `piece` with the encoding, in order, as slices that share memory with all other receivers.
    pub fn pieces(&self, mut piece: impl FnMut(Bytes)) {
        for run in &self.runs {
            run.entry.pieces(run.range(), self.prev.of(run), |bytes, span| piece(bytes.slice(span)));
        }
    }

    /// Appends the encoding to `out`; cheaper than `pieces` for small events.
    pub fn copy_to(&self, out: &mut BytesMut) {
        for run in &self.runs {
            run.entry
                .pieces(run.range(), self.prev.of(run), |bytes, span| out.extend_from_slice(&bytes[span]));
        }
    }

    /// Size of the encoding in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut len = 0;
        for run in &self.runs {
            run.entry.pieces(run.range(), self.prev.of(run), |_, span| len += span.len());
        }
        len
    }

    /// Cuts the batch so that each part is encoded in less than `bytes_max`, unless it is a single event.
    ///
    /// Concatenating the parts gives the batch. All parts but the last are to be marked as fragments. `bytes_max` is
    /// for the events alone: subtract the head of the response. A revision may be spread over parts, so this is only
    /// for watchers that asked for it (`fragment`).
    pub fn split(self, bytes_max: usize) -> Vec<EventBatch> {
        if self.encoded_len() < bytes_max || self.count() < 2 {
            return vec![self];
        }
        let mut parts = Vec::new();
        let mut part = Runs::new();
        let mut part_bytes = 0;
        for run in &self.runs {
            for position in run.first..run.first + run.count {
                let mut bytes = 0;
                let index = position as usize;
                run.entry.pieces(index..index + 1, self.prev.of(run), |_, span| bytes += span.len());
                if !part.is_empty() && part_bytes + bytes >= bytes_max {
                    parts.push(EventBatch::new(std::mem::take(&mut part), self.prev));
                    part_bytes = 0;
                }
                part_bytes += bytes;
                match part.last_mut() {
                    Some(last)
                        if std::sync::Arc::ptr_eq(&last.entry, &run.entry) && last.range().end == index =>
                    {
                        last.count += 1;
                    }
                    _ => part.push(Run { entry: run.entry.clone(), first: position, count: 1 }),
                }
            }
        }
        parts.push(EventBatch::new(part, self.prev));
        parts
    }
}

impl fmt::Debug for EventBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.events().map(|event| (event.kv.mod_revision, event.sub, event.kind));
        f.debug_list().entries(events).finish()
    }
}
