//! The two things the hub needs from outside: where old events come from, and how events become bytes.
//!
//! Owns: the traits only. Implemented by: `raftstore` (events out of `mvcc`), `api` (protobuf).
//! Source: own design; the split follows "protobuf messages concatenate", so encoded events can be shared.

use std::sync::Arc;

use bytes::BytesMut;
use keelson_mvcc::types::{Event, Revision, RevisionEvents};

/// Why old events could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Events of revision `after + 1` may be gone: they lie below the compaction mark.
    #[error("events below revision {mark} are compacted")]
    Compacted {
        /// The compaction mark; events of this very revision are still complete.
        mark: Revision,
    },
    /// The storage failed; the stream that asked ends, because skipping would lose events.
    #[error("read old events: {0}")]
    Failed(String),
}

/// Events of the past, read from the store.
///
/// To ensure correctness an implementation guarantees:
/// - **Complete**: between two returned revisions, and between `after` and the first one, there is no other revision
///   with events. Rows that are merely still there below the mark are never returned: if `after + 1 < mark` once the
///   scan has *finished*, the answer is `Compacted`, because a compaction may have run beside the scan.
/// - **Whole**: a revision comes with all its events, in order of `sub`.
/// - **Previous**: an event carries the value its key had before the event's revision, or none if that is compacted.
/// - **Ahead**: everything up to a revision that was given to [`crate::Hub::publish`] can be read here.
pub trait EventSource: Send + Sync + 'static {
    /// Returns the events with revision in `(after, upto]`, oldest first, whole revisions only.
    ///
    /// `bytes_soft`: stop after the revision that reaches this many bytes; at least one revision is returned if there
    /// is one. An empty answer means that the interval holds no events.
    /// # Errors
    /// `Compacted` if `after + 1` lies below the compaction mark, `Failed` if the storage cannot be read.
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError>;

    /// The newest revision that can be read.
    fn revision(&self) -> Revision;

    /// The compaction mark: events of this revision and later are complete. -1 on a fresh store.
    fn compacted(&self) -> Revision;
}

/// Turns events into the bytes clients receive.
///
/// To ensure correctness: the encoding of a list is the concatenation of the encodings of its elements, and each call
/// gives the same bytes for the same event.
pub trait FrameCodec: Send + Sync + 'static {
    /// Appends the encoding of `events` to `out`, with the previous key-value of each event if `prev_kv` is set.
    fn events(&self, events: &[&Event], prev_kv: bool, out: &mut BytesMut);
}
