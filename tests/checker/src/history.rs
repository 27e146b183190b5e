//! The record format: what clients did and saw, and the order of events the store claims.
//!
//! Owns: plain data types, no logic beyond range membership.
//! Called by: recorders in the crash tests and the simulation.

use bytes::Bytes;

/// A main revision.
pub type Revision = i64;

/// Nanoseconds since the start of the run, on one clock for all clients.
pub type Time = u64;

/// A key and its attributes at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Revision of the put that created this generation of the key.
    pub create_revision: Revision,
    /// Revision of the last put.
    pub mod_revision: Revision,
    /// Puts since creation, 1 for the first.
    pub version: i64,
    /// The attached lease, 0 for none.
    pub lease: i64,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A put.
    Put,
    /// A deletion: its `kv` carries only the key and `mod_revision`.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key after the change.
    pub kv: KeyValue,
    /// The key before the change, where the observer asked for it and it was still known.
    pub prev: Option<KeyValue>,
}

/// All changes of one revision, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// The revision.
    pub revision: Revision,
    /// Its events.
    pub events: Vec<Event>,
}

/// A range in etcd's encoding: an empty end is the single key, an end of one zero byte is "everything from the key on".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub key: Bytes,
    /// End of the range, exclusive.
    pub end: Bytes,
}

impl KeyRange {
    /// The range of one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: Bytes::new() }
    }

    /// All keys.
    pub fn all() -> Self {
        Self { key: Bytes::from_static(b"\0"), end: Bytes::from_static(b"\0") }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            return key == self.key;
        }
        key >= &self.key[..] && (&self.end[..] == b"\0" || key < &self.end[..])
    }
}

/// A put request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value. Recorders make every value of a run unique, which lets an unknown put be found in the log.
    pub value: Bytes,
    /// The lease to attach, 0 for none.
    pub lease: i64,
    /// Whether the answer carries the previous key-value.
    pub prev_kv: bool,
}

/// A delete request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// What to delete.
    pub range: KeyRange,
    /// Whether the answer carries the deleted key-values.
    pub prev_kv: bool,
}

/// A range request in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// What to read.
    pub range: KeyRange,
    /// Most keys to return, 0 for all.
    pub limit: usize,
    /// The revision to read at, 0 for the current one.
    pub revision: Revision,
}

/// What a compare looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Compares the version.
    Version(i64),
    /// Compares the create revision.
    Create(Revision),
    /// Compares the mod revision.
    Mod(Revision),
    /// Compares the value; false for a missing key whatever the relation.
    Value(Bytes),
    /// Compares the lease.
    Lease(i64),
}

/// The relation a compare demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Actual = given.
    Equal,
    /// Actual > given.
    Greater,
    /// Actual < given.
    Less,
    /// Actual != given.
    NotEqual,
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys it must hold for; an empty range is one missing key.
    pub range: KeyRange,
    /// What to compare with.
    pub target: CompareTarget,
    /// How.
    pub result: CompareResult,
}

/// A transaction request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, all of which must hold.
    pub compares: Vec<Compare>,
    /// Run if they hold.
    pub success: Vec<Operation>,
    /// Run otherwise.
    pub failure: Vec<Operation>,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Put one key.
    Put(Put),
    /// Delete a range.
    Delete(Delete),
    /// Read a range.
    Range(Range),
    /// A transaction.
    Txn(Txn),
    /// Revoke a lease, which deletes its keys.
    LeaseRevoke(i64),
    /// Anything without effect on keys whose answer carries a revision: grant, keep-alive, compaction.
    Other,
}

/// What a successful answer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Answer to a put.
    Put {
        /// The previous key-value, if asked for and present.
        prev: Option<KeyValue>,
    },
    /// Answer to a delete.
    Delete {
        /// Number of deleted keys.
        deleted: usize,
        /// The deleted key-values, if asked for.
        prev: Vec<KeyValue>,
    },
    /// Answer to a range.
    Range {
        /// The keys, in order.
        kvs: Vec<KeyValue>,
        /// Whether the limit cut the answer.
        more: bool,
        /// All keys of the range, whatever the limit.
        count: usize,
    },
    /// Answer to a transaction.
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// One per executed operation.
        responses: Vec<Response>,
    },
    /// Answer to a lease revocation; it does not say whether keys were deleted, the log does.
    LeaseRevoke,
    /// Any other success.
    Other,
}

impl Response {
    /// Whether this answer says that something was changed.
    pub fn changed(&self) -> bool {
        match self {
            Self::Put { .. } => true,
            Self::Delete { deleted, .. } => *deleted > 0,
            Self::Txn { responses, .. } => responses.iter().any(Self::changed),
            Self::Range { .. } | Self::LeaseRevoke | Self::Other => false,
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; `revision` is the header's.
    Ok {
        /// Revision in the response header.
        revision: Revision,
        /// The answer.
        response: Response,
    },
    /// Refused: certainly without effect.
    Rejected,
    /// No answer, or one that leaves the outcome open.
    Unknown,
}

/// The consistency an operation asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Strict serializability.
    Linearizable,
    /// A read of the local state of one member, which may be old.
    Serializable,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who asked; for messages only.
    pub client: u32,
    /// Which member was asked.
    pub member: u32,
    /// When the request was sent.
    pub invoked: Time,
    /// When the answer or the error arrived.
    pub returned: Time,
    /// Demanded consistency.
    pub consistency: Consistency,
    /// The request.
    pub operation: Operation,
    /// The answer.
    pub outcome: Outcome,
}

/// One thing a watcher received, with the header's revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// The watcher exists.
    Created {
        /// Header revision.
        revision: Revision,
    },
    /// Events; a fragmented response is merged by the recorder.
    Events {
        /// Header revision.
        revision: Revision,
        /// When it arrived.
        received: Time,
        /// The events, in order.
        events: Vec<Event>,
    },
    /// A progress notification: everything up to `revision` has been delivered.
    Progress {
        /// Header revision.
        revision: Revision,
    },
    /// Cancelled because the history it needs is compacted.
    Compacted {
        /// The compaction revision.
        compact_revision: Revision,
    },
}

/// Everything one watcher asked for and received, in order. A resumed watcher is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRecord {
    /// Who watched; for messages only.
    pub client: u32,
    /// Which member served it.
    pub member: u32,
    /// The watched keys.
    pub range: KeyRange,
    /// First revision wanted, 0 for "from now".
    pub start_revision: Revision,
    /// Whether previous values were asked for.
    pub prev_kv: bool,
    /// Whether puts are left out.
    pub no_put: bool,
    /// Whether deletes are left out.
    pub no_delete: bool,
    /// What arrived.
    pub items: Vec<WatchItem>,
    /// The recorder waited until everything up to here had to be delivered (reliable); 0 = it did not wait.
    pub complete_through: Revision,
}

/// A run: the store's own order of changes and what every client saw of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The key-values present before the first recorded revision (empty for a fresh store).
    pub initial: Vec<KeyValue>,
    /// The revision of `initial`: 1 for a fresh store.
    pub initial_revision: Revision,
    /// Every revision after `initial_revision`, read at the end of the run from one member (or from the simulation's log).
    pub log: Vec<RevisionRecord>,
    /// All operations of all clients.
    pub records: Vec<Record>,
    /// All watchers.
    pub watches: Vec<WatchRecord>,
    /// Keep-alive promises for the lease check.
    pub leases: Vec<LeasePromise>,
    /// Deletions that may come from leases: ids granted in the run.
    pub lease_ids: Vec<i64>,
}

/// A promise of the server: keys of `lease` live at least until `until`, unless someone revokes the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePromise {
    /// The lease.
    pub lease: i64,
    /// Time of sending the grant or keep-alive plus the TTL answered: the expiry may not be seen earlier.
    pub until: Time,
    /// When the promise arrived; a deletion seen before that was not covered by it.
    pub made: Time,
}
