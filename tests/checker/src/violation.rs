//! Broken promises, one variant per promise, with what is needed to find the place in the history.
//!
//! Owns: names and texts. Called by: all validators; printed by the tests.

use crate::history::{Event, Record, Response, Revision};

/// A promise of the API that the history breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The store's own log skips or repeats a revision.
    #[error("the log goes from revision {before} to {after}")]
    LogOrder {
        /// The revision before.
        before: Revision,
        /// The one that follows.
        after: Revision,
    },
    /// An event of the log disagrees with the replay of the events before it.
    #[error("event {event:?} is not what the replay gives: {expected:?}")]
    LogEvent {
        /// What the log says.
        event: Box<Event>,
        /// What the replay says.
        expected: Box<Event>,
    },
    /// An acknowledged write is not in the log.
    #[error(
        "acknowledged write lost: revision {revision} holds {found:?} instead of the effect of {record:?}"
    )]
    LostWrite {
        /// The revision of the answer.
        revision: Revision,
        /// The acknowledged operation.
        record: Box<Record>,
        /// What the log holds there; `None` past its end.
        found: Option<Vec<Event>>,
    },
    /// Two acknowledged writes claim one revision.
    #[error("revision {revision} was acknowledged twice: {first:?} and {second:?}")]
    RevisionClaimedTwice {
        /// The revision.
        revision: Revision,
        /// One of them.
        first: Box<Record>,
        /// The other.
        second: Box<Record>,
    },
    /// An answer differs from the replay at its revision.
    #[error("at revision {revision} the answer should have been {expected:?}, in {record:?}")]
    WrongAnswer {
        /// Where the operation was placed.
        revision: Revision,
        /// The operation with its answer.
        record: Box<Record>,
        /// The replay's answer.
        expected: Box<Response>,
    },
    /// An answer carries a revision that the log never reached.
    #[error("revision {revision} does not exist, the log ends at {last}: {record:?}")]
    RevisionFromTheFuture {
        /// The claimed revision.
        revision: Revision,
        /// The log's last revision.
        last: Revision,
        /// The operation.
        record: Box<Record>,
    },
    /// A refused operation is in the log.
    #[error("refused but applied as revision {revision}: {record:?}")]
    RejectedApplied {
        /// Where.
        revision: Revision,
        /// The refused operation.
        record: Box<Record>,
    },
    /// One put is in the log twice.
    #[error("applied twice, as revisions {first} and {second}: {record:?}")]
    AppliedTwice {
        /// First place.
        first: Revision,
        /// Second place.
        second: Revision,
        /// The operation.
        record: Box<Record>,
    },
    /// No operation of any client explains a revision.
    #[error("no operation explains revision {revision}: {events:?}")]
    Unexplained {
        /// The revision.
        revision: Revision,
        /// Its events.
        events: Vec<Event>,
    },
    /// An operation was placed before one that had finished earlier: a stale read or a write into the past.
    #[error(
        "revision {revision} is behind {floor}, which was already answered when this was sent: {record:?} (after {earlier:?})"
    )]
    BehindRealTime {
        /// Where the later operation was placed.
        revision: Revision,
        /// The highest revision answered before it was sent.
        floor: Revision,
        /// The operation.
        record: Box<Record>,
        /// The operation that had shown the higher revision.
        earlier: Box<Record>,
    },
    /// A member showed an older revision than before.
    #[error("member {member} went back from revision {before} to {after}: {record:?}")]
    MemberWentBack {
        /// The member.
        member: u32,
        /// Highest revision it had shown before this was sent.
        before: Revision,
        /// What it showed then.
        after: Revision,
        /// The later operation.
        record: Box<Record>,
    },
    /// A watcher received something other than the next event of its range.
    #[error("{promise}: watcher {watcher} of member {member} got {got:?}, next in the log is {expected:?}")]
    Watch {
        /// Which guarantee is broken.
        promise: WatchPromise,
        /// Position in the history's list of watchers.
        watcher: usize,
        /// The serving member.
        member: u32,
        /// What arrived, if anything.
        got: Option<Box<Event>>,
        /// What the log has next, if anything.
        expected: Option<Box<Event>>,
    },
    /// A key of a lease vanished before the lease could have expired.
    #[error("lease {lease} ended at {seen} ns although it was promised until {until} ns")]
    LeaseEarly {
        /// The lease.
        lease: i64,
        /// When a client saw the deletion.
        seen: u64,
        /// What the server had promised.
        until: u64,
    },
}

/// The guarantees of a watch, as etcd's documentation names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchPromise {
    /// Events come in the order of revisions.
    #[error("ordered")]
    Ordered,
    /// No event comes twice.
    #[error("unique")]
    Unique,
    /// No event is left out.
    #[error("reliable")]
    Reliable,
    /// The events of a revision come together.
    #[error("atomic")]
    Atomic,
    /// A progress notification comes only after everything up to its revision.
    #[error("bookmarkable")]
    Bookmarkable,
    /// An event carries exactly the key-value and previous key-value of its revision.
    #[error("faithful")]
    Faithful,
    /// Only asked-for events come, and none before the creation is confirmed.
    #[error("filtered")]
    Filtered,
    /// A watcher is cancelled for compaction only if its start is compacted.
    #[error("resumable")]
    Resumable,
}
