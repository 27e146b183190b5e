//! What openraft carries around as "the snapshot".
//!
//! Owns: the three things it can be here. Called by: `state_machine` (makes them), `net` (sends and receives).
//! A snapshot is made only when a follower needs one: openraft's "building a snapshot" is the flush that lets the log
//! be purged, and carries no data.

use keelson_mvcc::{Export, Installer, KvEngine};

/// See the module.
pub enum SnapshotData<E: KvEngine> {
    /// A position only: everything up to it is durable in the engine.
    Flushed,
    /// Everything replicated, to be sent.
    Export(Box<Export<E>>),
    /// Everything replicated, as received, to be put in place.
    Received(Box<Installer<E>>),
}
