//! Bugs that are put in on purpose, to prove that a campaign finds such a bug.
//!
//! Owns: their list. Called by: the ports of a member ([`crate::device`], [`crate::engine`], [`crate::transport`],
//! [`crate::source`], [`crate::machine`]) and the clients, each of which plays its own. All but one live at a port, so
//! the product holds no code for them; the exception is the reading of a torn block, a switch in `keelson_wal` behind a
//! feature that only this workspace sets.

/// A bug on every member of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The disk reports a sync that it did not do: what is acknowledged is in the cache alone.
    AckBeforeSync,
    /// The log reports an append as durable when it is submitted: a follower acknowledges, and a leader counts itself,
    /// before the write has begun.
    AppendAckedEarly,
    /// A linearizable read does not wait for the confirmation by a quorum.
    StaleRead,
    /// A vote is reported as durable and never written.
    VoteNotPersisted,
    /// The applied position is not part of the batch it belongs to: after a crash it is older than the data.
    AppliedTwice,
    /// A block that a crash cut off is taken as it is.
    TornTailAccepted,
    /// Where a watcher that read the past goes over to live events, the last revision of the past is left out.
    WatchEventDropped,
    /// A forwarded batch that may have been appended counts as not delivered and is sent again.
    ProposalRetried,
    /// A snapshot is put in place without its newest rows.
    SnapshotWithoutLastGroup,
    /// A flush is reported that has not happened, so that the log is purged beyond what the engine holds.
    PurgeBeyondFlushed,
    /// A heartbeat that was not answered counts as answered: who cannot reach a quorum believes it leads.
    HeartbeatForged,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 11] = [
        Bug::AckBeforeSync,
        Bug::AppendAckedEarly,
        Bug::StaleRead,
        Bug::VoteNotPersisted,
        Bug::AppliedTwice,
        Bug::TornTailAccepted,
        Bug::WatchEventDropped,
        Bug::ProposalRetried,
        Bug::SnapshotWithoutLastGroup,
        Bug::PurgeBeyondFlushed,
        Bug::HeartbeatForged,
    ];
}
