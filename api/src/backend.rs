//! What the services need from the rest of the node: consensus and a view to read from.
//!
//! Owns: the object-safe view and its implementation on `mvcc`; consensus is `raftstore`'s own trait. Called by: every
//! service. Invariants: both speak `mvcc` types only, so no service can depend on openraft or on an engine.
//! They are objects, not type parameters: an `Arc<ReadView<E>>` becomes an `Arc<dyn View>` without an allocation, a
//! virtual call costs nanoseconds, and the services compile once, whatever the engine.
//! Source: etcd `server/etcdserver/v3_server.go` (`RaftKV`, `Lessor`, `RaftStatusGetter`).

mod mvcc;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use keelson_mvcc::KeyValueRef;
use keelson_mvcc::auth::Auth;
use keelson_mvcc::types::{
    Alarm, KeyRange, KeyValue, Lease, LeaseId, LogPosition, RangeOptions, RangeReply, ReadError, Revision,
    Txn, TxnReply,
};

pub use keelson_raftstore::consensus::Consensus;

/// Takes key and value of a row.
pub type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Takes a key-value of a list.
pub type VisitKeyValue<'a> = dyn FnMut(KeyValueRef<'_>) -> ControlFlow<()> + 'a;

/// The store at one applied position: immutable, cheap to hold.
pub trait View: Send + Sync + 'static {
    /// The newest revision.
    fn revision(&self) -> Revision;
    /// The compaction mark; -1 while nothing was ever compacted.
    fn compacted(&self) -> Revision;
    /// The highest mark whose dead rows are all gone from this member's disk.
    fn physically_compacted(&self) -> Revision;
    /// The newest value of one key.
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ReadError>;
    /// A range as etcd answers it.
    fn range(&self, options: &RangeOptions) -> Result<RangeReply, ReadError>;
    /// The keys of a range at the newest revision, in order, until `visit` breaks; `keys_only`: without value and lease.
    fn visit(
        &self,
        range: &KeyRange,
        keys_only: bool,
        visit: &mut VisitKeyValue<'_>,
    ) -> Result<(), ReadError>;
    /// Number of keys in a range at a revision (0 or less: the newest).
    fn count(&self, range: &KeyRange, revision: Revision) -> Result<i64, ReadError>;
    /// A transaction of ranges only.
    fn txn_read_only(&self, txn: &Txn) -> Result<TxnReply, ReadError>;
    /// Hash of the history up to a revision (0: the newest), the compaction mark and the revision it covers.
    fn hash_kv(&self, revision: Revision) -> Result<(u32, Revision, Revision), ReadError>;
    /// Hash of everything replicated.
    fn hash(&self) -> Result<u32, ReadError>;
    /// A lease.
    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ReadError>;
    /// All leases.
    fn leases(&self) -> Result<Vec<Lease>, ReadError>;
    /// The keys attached to a lease, in key order.
    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ReadError>;
    /// Users, roles and permissions.
    fn auth(&self) -> &Auth;
    /// Raised alarms.
    fn alarms(&self) -> Vec<Alarm>;
    /// Whether this alarm is raised.
    fn has_alarm(&self, alarm: Alarm) -> bool;
    /// A replicated fact that is not a key.
    fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;
    /// Position of the last applied entry.
    fn applied(&self) -> Option<LogPosition>;
    /// The bytes of [`keelson_raftstore::codec::MembershipRow`], once there is a membership.
    fn membership(&self) -> Option<Bytes>;
    /// Every row of etcd's own file, key and value, in no order; until `visit` breaks.
    fn each_file_row(&self, visit: &mut VisitRow<'_>) -> Result<(), ReadError>;
    /// Bytes the engine holds on disk.
    fn size_bytes(&self) -> u64;
    /// Bytes the engine's live rows take.
    fn size_in_use_bytes(&self) -> u64;
}

/// Where views come from.
pub trait ReadAccess: Send + Sync + 'static {
    /// The newest published view. Never blocks.
    fn view(&self) -> Arc<dyn View>;
}
