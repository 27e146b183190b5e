//! The words of the store: key-values, events, requests and replies.
//!
//! Owns: plain data, no behaviour beyond small helpers. Called by: every crate above `mvcc`.
//! Invariants: a key is never empty; revisions are positive and strictly increase per key.
//! Source: the etcd v3 API, `api/mvccpb/kv.proto` and `api/etcdserverpb/rpc.proto` (meaning of each field).

use bytes::Bytes;

pub use crate::auth::{AuthCommand, AuthError, Caller, Permission};

/// A point in the history of the store: the number of the transaction that wrote it. A fresh store is at 1.
pub type Revision = i64;

/// A lease, as clients name it. 0 means "no lease".
pub type LeaseId = i64;

/// A key with its newest value at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// Never empty.
    pub key: Bytes,
    /// May be empty.
    pub value: Bytes,
    /// Revision that created the key (in its present life).
    pub create_revision: Revision,
    /// Revision that wrote this value.
    pub mod_revision: Revision,
    /// 1 for a new key, plus one with each overwrite.
    pub version: i64,
    /// Lease the key is attached to, or 0.
    pub lease: LeaseId,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A put: `kv` is complete.
    Put,
    /// A deletion: `kv` holds only `key` and `mod_revision`.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key after the change.
    pub kv: KeyValue,
    /// The key before the event's revision, whatever else that revision did to it; `None` for a creation, or when
    /// that version is compacted.
    pub prev: Option<KeyValue>,
    /// Position within its revision, counted from 0.
    pub sub: u32,
}

/// All changes of one revision, in order of `sub`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    /// The revision all events share.
    pub revision: Revision,
    /// The events, ordered by `sub`.
    pub events: Vec<Event>,
}

/// The keys a request speaks of, as etcd writes it: `end` empty is the single key `key`; `end` = one zero byte is
/// every key at or after `key`; otherwise the half-open range `[key, end)`, which is empty when `end <= key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// First key.
    pub key: Bytes,
    /// See the type.
    pub end: Bytes,
}

impl KeyRange {
    /// Exactly one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        KeyRange { key: key.into(), end: Bytes::new() }
    }

    /// True for the form that names one key.
    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    /// The exclusive upper bound, or `None` where the range has no end. For a single key: the key plus a zero byte.
    pub fn upper(&self) -> Option<Vec<u8>> {
        match self.end.as_ref() {
            [] => Some([self.key.as_ref(), &[0]].concat()),
            [0] => None,
            end => Some(end.to_vec()),
        }
    }

    /// True if `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end.as_ref() {
            [] => key == self.key,
            [0] => key >= self.key.as_ref(),
            end => key >= self.key.as_ref() && key < end,
        }
    }
}

/// Which field a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SortTarget {
    #[default]
    Key = 0,
    Version = 1,
    Create = 2,
    Mod = 3,
    Value = 4,
}

/// In which direction a range is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SortOrder {
    #[default]
    None = 0,
    Ascend = 1,
    Descend = 2,
}

/// A read of a range at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RangeOptions {
    pub range: KeyRange,
    /// 0 or less: no limit.
    pub limit: i64,
    /// 0 or less: the view's own revision.
    pub revision: Revision,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// Values are left out (and, as etcd 3.7 does, leases too unless sorted by value).
    pub keys_only: bool,
    pub count_only: bool,
    /// Inclusive bounds, 0 = unset.
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
    pub max_create_revision: Revision,
}

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// The key-values, sorted as asked, at most `limit`.
    pub kvs: Vec<KeyValue>,
    /// More keys than `limit` matched.
    pub more: bool,
    /// Keys in the range at that revision, whatever the limit and the filters.
    pub count: i64,
}

/// A write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// A deletion of every key of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DeleteRange {
    pub range: KeyRange,
    pub prev_kv: bool,
}

/// How a compare relates the stored value to the given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum CompareResult {
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

/// The stored field a compare looks at, with the value it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareTarget {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// One guard of a transaction; with a range it must hold for every key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Compare {
    pub range: KeyRange,
    pub result: CompareResult,
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TxnOp {
    Range(RangeOptions),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
}

/// Guards and two branches. All guards, nested ones too, are evaluated on the state before the transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<TxnOp>,
    pub failure: Vec<TxnOp>,
}

/// Which alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum AlarmKind {
    NoSpace = 1,
    Corrupt = 2,
}

/// A raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Alarm {
    pub member: u64,
    pub kind: AlarmKind,
}

/// A change of the replicated state, as it travels through the log. Encoded by [`crate::codec`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
    Compact {
        revision: Revision,
    },
    /// `id` and `ttl_s` are already decided by the proposer (never 0).
    LeaseGrant {
        id: LeaseId,
        ttl_s: i64,
    },
    /// `term`: set where a leader revokes by expiry; the command does nothing if its entry has another term.
    LeaseRevoke {
        id: LeaseId,
        term: Option<u64>,
    },
    /// `term`: as for `LeaseRevoke`; a checkpoint decided by a leader that has been replaced would take back time that
    /// its successor has given since.
    LeaseCheckpoint {
        remaining: Vec<(LeaseId, i64)>,
        term: Option<u64>,
    },
    AlarmRaise(Alarm),
    AlarmClear(Alarm),
    /// Replicated facts about the cluster that are not keys (member attributes, cluster version): no revision,
    /// no event. An empty value removes the row. `mvcc` does not interpret them.
    MetaSet {
        key: Bytes,
        value: Bytes,
    },
    /// Users, roles, permissions, logins.
    Auth(AuthCommand),
    /// A command of a user: refused if the user lacks the right when it is applied. Without this around it, a command
    /// that needs a right is nobody's. Never around another one.
    As {
        caller: Caller,
        command: Box<Command>,
    },
}

/// The reply to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OpReply {
    Range(RangeReply),
    Put { prev: Option<KeyValue> },
    DeleteRange { deleted: i64, prev: Vec<KeyValue> },
    Txn(TxnReply),
}

/// The reply to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TxnReply {
    pub succeeded: bool,
    pub ops: Vec<OpReply>,
}

/// What applying a command gave. `revision` of every reply is the store's revision right after the command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outcome {
    Put {
        prev: Option<KeyValue>,
    },
    DeleteRange {
        deleted: i64,
        prev: Vec<KeyValue>,
    },
    Txn(TxnReply),
    Compact,
    LeaseGrant {
        id: LeaseId,
        ttl_s: i64,
    },
    LeaseRevoke,
    LeaseCheckpoint,
    /// The alarms this command raised or cleared (empty when it changed nothing).
    Alarm(Vec<Alarm>),
    MetaSet,
    /// The auth revision after the command.
    Auth {
        revision: u64,
    },
    /// What the user shows from now on.
    Login {
        token: String,
    },
}

/// Why a command changed nothing. Deterministic: the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ApplyError {
    #[error("key not found")]
    KeyNotFound,
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    #[error("lease {0} already exists")]
    LeaseExists(LeaseId),
    #[error("revision {requested} is compacted (compaction mark {mark})")]
    Compacted { requested: Revision, mark: Revision },
    #[error("revision {requested} is in the future (store is at {current})")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("database space exceeded")]
    NoSpace,
    #[error("cluster is corrupt")]
    Corrupt,
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Result of one command with the store's revision after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The store's revision right after the command.
    pub revision: Revision,
    /// What it gave, or why it changed nothing.
    pub outcome: Result<Outcome, ApplyError>,
}

/// A lease as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// Granted time to live in seconds.
    pub ttl_s: i64,
    /// Remaining seconds at the last checkpoint, 0 = never checkpointed.
    pub remaining_s: i64,
}

/// Position of an entry in the Raft log, as `mvcc` stores it beside the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Term of the entry.
    pub term: u64,
    /// Member that led that term.
    pub leader: u64,
    /// Index of the entry, from 0.
    pub index: u64,
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("revision {requested} is compacted (compaction mark {mark})")]
    Compacted { requested: Revision, mark: Revision },
    #[error("revision {requested} is in the future (store is at {current})")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("storage engine: {0}")]
    Engine(String),
}
