//! Names for openraft's generic types as this crate uses them.
//!
//! Owns: the type configuration, generic over the runtime alone, so that the same code runs on tokio and under the
//! simulation. Called by: every file here.
//! Invariants: one leader per term (`leader_id_std`), so a term alone names a leader and a log id is (term, index).

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use keelson_mvcc::types::LogPosition;
use openraft::async_runtime::AsyncRuntime;
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std;
use openraft::{OptionalSend, RaftTypeConfig};

/// Names a member for ever: never given to another one, not even after its removal.
pub type MemberId = u64;

/// openraft's configuration of types. `RT` brings time, randomness and spawning.
pub struct Types<RT>(PhantomData<fn() -> RT>);

/// Who leads, or wants to lead, a term.
pub type LeaderId = leader_id_std::LeaderId<u64, MemberId>;
/// The leader of a term, as a log id names it: by the term.
pub type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
/// Position of an entry: term and index.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote, granted to a candidate or (committed) to a leader.
pub type Vote = openraft::Vote<LeaderId>;
/// Voters and learners.
pub type Membership = openraft::Membership<MemberId, MemberNode>;
/// Voters and learners with the entry that made them so.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, MemberId, MemberNode>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Batch, MemberId, MemberNode>;
/// An entry of the log.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// Position and membership of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, MemberId, MemberNode>;

/// What the log knows of a member beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberNode {
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<String>,
    /// It was added as a voter and has not caught up yet. Until it has, it does not count in any quorum; the leader
    /// promotes it by itself. Shown to clients as a voter.
    pub joining: bool,
}

/// Encoded proposals, one entry of the log; see [`crate::batch`]. The same bytes are the payload in the WAL, on the
/// wire and at apply.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(pub Bytes);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Tells what became of one entry that was handed to openraft: one boxed call instead of a channel per entry.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    /// Calls `done` once.
    pub fn new(done: impl FnOnce(T) + Send + 'static) -> Self {
        Callback(Box::new(done))
    }
}

impl<C, T> Responder<C, T> for Callback<T>
where
    C: RaftTypeConfig,
    T: OptionalSend + 'static,
{
    fn on_complete(self, result: T) {
        (self.0)(result)
    }
}

impl<RT: AsyncRuntime> RaftTypeConfig for Types<RT> {
    type D = Batch;
    type R = ();
    type NodeId = MemberId;
    type Node = MemberNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = RT;
    type Responder<T>
        = Callback<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// The position as `mvcc` keeps it. The leader is not part of a log id here (the term names it), so it is 0.
pub fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: log_id.leader_id.term, leader: 0, index: log_id.index }
}

/// The inverse of [`position`].
pub fn log_id(position: &LogPosition) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

// By hand, because derived impls would ask the same of `RT`, which is only a name.
impl<RT> Clone for Types<RT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<RT> Copy for Types<RT> {}
impl<RT> Default for Types<RT> {
    fn default() -> Self {
        Types(PhantomData)
    }
}
impl<RT> fmt::Debug for Types<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<RT> PartialEq for Types<RT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<RT> Eq for Types<RT> {}
impl<RT> PartialOrd for Types<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<RT> Ord for Types<RT> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
