//! What the services above need of Raft, behind one object-safe trait.
//!
//! Owns: the trait, its words and its errors. Called by: `api` through [`crate::Handle`]. Tests of services may
//! implement it without Raft. Nothing here depends on the runtime or the engine.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keelson_mvcc::auth::Login;
use keelson_mvcc::lessor::LeaseChange;
use keelson_mvcc::types::{Command, Reply};
use tokio::sync::oneshot;

use crate::lane::Lane;
use crate::types::MemberId;

/// Proposals, reads, membership and state of one member.
///
/// Every method may be called from any thread and any runtime. Timeouts are in real (or simulated) time and coarse:
/// they end up to [`crate::options::Timing::sweep_ms`] late, never early.
pub trait Consensus: Send + Sync + 'static {
    /// Puts a command into the log and gives its reply after *this* member has applied it, whoever leads.
    ///
    /// The command is encoded before this returns, so nothing it borrows from a request buffer stays alive. The reply
    /// goes through `lane` if there is one: see [`Lane`].
    fn propose(&self, command: &Command, timeout: Duration, lane: Option<&Lane>) -> Proposal;

    /// Returns once the local view contains everything acknowledged by the cluster before the call.
    fn read_index(&self, timeout: Duration) -> BoxFuture<'static, Result<(), ReadIndexError>>;

    /// Returns once this member may serve local reads, watches and header revisions after a start: it has applied
    /// everything its own log held when it started, so that its revision does not go back. Immediate later on.
    fn ready(&self) -> BoxFuture<'static, Result<(), Stopped>>;

    /// The member's state now.
    fn status(&self) -> Status;

    /// Numbers for metrics and tests; costs a few locks.
    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::default()
    }

    /// The current term, for response headers: one atomic load.
    fn term(&self) -> u64;

    /// Completes at the next change of leader, role, term, membership, readiness or health.
    fn changed(&self) -> BoxFuture<'static, ()>;

    /// Voters and learners as this member has applied them.
    fn members(&self) -> Members;

    /// Adds a member, from any member of the cluster. With `learner` unset it becomes a voter: it is listed as one at
    /// once and votes as soon as it has caught up.
    fn add_member(
        &self,
        member: NewMember,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>>;

    /// Makes a learner that is in sync a voter.
    fn promote_member(
        &self,
        id: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>>;

    /// Removes a member for ever.
    fn remove_member(
        &self,
        id: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>>;

    /// Replaces where a member is reached.
    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>>;

    /// Hands leadership to a voter; returns once it leads. Only on the leader.
    fn transfer_leader(
        &self,
        to: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), TransferError>>;

    /// Asks another member; what `kind` and the bytes mean is up to the caller.
    fn call(
        &self,
        to: MemberId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Sets who answers [`Consensus::call`] of others. Until then they are refused.
    fn serve_calls(&self, handler: Arc<dyn CallHandler>);

    /// Sets who is told of applied leases. What was applied before is in the view already.
    fn observe_applied(&self, observer: Arc<dyn ApplyObserver>);

    /// Hands leadership over, flushes, seals the log and stops. Proposals still waiting get `Stopped`.
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// Answers calls of other members.
pub trait CallHandler: Send + Sync + 'static {
    /// `from` is the member that asks, checked against the cluster's identity.
    fn call(&self, from: MemberId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// Follows the set of leases, and who logs in.
pub trait ApplyObserver: Send + Sync + 'static {
    /// Leases were granted or revoked, by whoever: called in the order of the log, once the view shows it and before
    /// the proposer has its reply. Not called for what a snapshot of another member brings, which no leader receives.
    /// Must not block: applying waits for it.
    fn applied(&self, changes: &[LeaseChange]);

    /// Users logged in, on any member: called as [`ApplyObserver::applied`] is.
    fn logged_in(&self, logins: &[Login]);

    /// A group of entries up to `index` became one write of the engine, which took so long. For metrics; must not block.
    fn group_written(&self, _took: Duration, _entries: usize, _index: u64) {}
}

/// A proposal under way. Dropping it does not take the command back.
#[derive(Debug)]
pub struct Proposal(Waiting);

#[derive(Debug)]
enum Waiting {
    Reply(oneshot::Receiver<Result<Reply, ProposeError>>),
    Refused(Option<ProposeError>),
}

impl Proposal {
    /// One that waits for its reply.
    pub fn waiting(reply: oneshot::Receiver<Result<Reply, ProposeError>>) -> Self {
        Proposal(Waiting::Reply(reply))
    }

    /// One that was refused at once.
    pub fn refused(error: ProposeError) -> Self {
        Proposal(Waiting::Refused(Some(error)))
    }
}

impl Future for Proposal {
    type Output = Result<Reply, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waiting::Reply(reply) => {
                Pin::new(reply).poll(cx).map(|reply| reply.unwrap_or(Err(ProposeError::Stopped)))
            }
            Waiting::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(ProposeError::Stopped))),
        }
    }
}

/// Why a proposal has no reply. What the caller may conclude is part of each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Outcome unknown: it may have been applied, or still be.
    #[error("timed out ({0:?})")]
    Timeout(TimeoutCause),
    /// Outcome unknown: the entry left the log when the leader changed, or this member got a snapshot in its place.
    #[error("leader changed")]
    LeaderChanged,
    /// Not proposed: larger than one entry may be.
    #[error("too large")]
    TooLarge,
    /// Not proposed: too much is queued, or applying lags too far behind.
    #[error("overloaded")]
    Overloaded,
    /// Outcome unknown if it was already waiting: the member stops.
    #[error("stopped")]
    Stopped,
}

/// The likely reason of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutCause {
    /// None in particular.
    Plain,
    /// The leader was lost while the request waited, or there was none.
    LeaderFailed,
    /// The connection to the leader was lost.
    ConnectionLost,
}

/// Why a linearizable read cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReadIndexError {
    #[error("timed out ({0:?})")]
    Timeout(TimeoutCause),
    #[error("stopped")]
    Stopped,
}

/// The member has been shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// A member to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewMember {
    pub id: MemberId,
    pub peer_urls: Vec<String>,
    pub learner: bool,
}

/// Why a change of the membership was refused; one to one with etcd's errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Unknown, or removed earlier.
    #[error("member not found")]
    NotFound,
    /// The id is in use.
    #[error("member id already exists")]
    Exists,
    /// One of the peer URLs belongs to another member.
    #[error("peer url already exists")]
    PeerUrlExists,
    /// There are as many learners as allowed.
    #[error("too many learners")]
    TooManyLearners,
    /// Strict check: the members that are up would not be a quorum afterwards.
    #[error("not enough started members")]
    NotEnoughStarted,
    /// Strict check: some voter has not been in contact with the leader for a while.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// Only a learner can be promoted.
    #[error("not a learner")]
    NotLearner,
    /// The learner lags behind.
    #[error("learner is not in sync")]
    LearnerNotReady,
    /// Another change is under way, or the leader changed; outcome unknown in the second case.
    #[error("timed out ({0:?})")]
    Timeout(TimeoutCause),
    /// The member stops.
    #[error("stopped")]
    Stopped,
    /// Anything else, refused by Raft.
    #[error("{0}")]
    Refused(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Asked on a member that does not lead.
    #[error("not leader")]
    NotLeader,
    /// Unknown, or a learner.
    #[error("bad leader transferee")]
    BadTransferee,
    /// It did not take over in time.
    #[error("leader transfer took too long")]
    Timeout,
    /// The member stops.
    #[error("stopped")]
    Stopped,
}

/// Why another member gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CallError {
    #[error("no such member")]
    UnknownMember,
    #[error("timed out")]
    Timeout,
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The handler there said no.
    #[error("{0}")]
    Refused(String),
}

/// The state of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member: MemberId,
    /// Current term.
    pub term: u64,
    /// Who leads, as far as this member has recent proof: as leader a quorum's acknowledgement, as follower a message
    /// of the leader, both within an election timeout.
    pub leader: Option<MemberId>,
    /// This member is that leader.
    pub is_leader: bool,
    /// This member has no vote (and is not on its way to one).
    pub is_learner: bool,
    /// The cluster has removed this member; it should stop.
    pub removed: bool,
    /// Index of the last entry in the log.
    pub last_index: u64,
    /// Index up to which entries are known to be committed.
    pub committed_index: u64,
    /// Index up to which entries are applied here.
    pub applied_index: u64,
    /// See [`Consensus::ready`].
    pub ready: bool,
    /// The oldest unfinished write to the log is older than allowed.
    pub disk_stalled: bool,
}

impl Status {
    /// Reads and writes can be expected to succeed.
    pub fn healthy(&self) -> bool {
        self.leader.is_some() && self.ready && !self.disk_stalled && !self.removed
    }
}

/// Numbers about a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// First index that is still in the log.
    pub log_first: u64,
    /// Payload bytes in the log, as far as known since the start.
    pub log_bytes: u64,
    /// Index up to which the log is durable.
    pub durable_index: u64,
    /// Index up to which the engine is durable.
    pub flushed_index: u64,
    /// Proposals of this member without a reply.
    pub proposals_waiting: u64,
    /// Proposals of this member that got an error instead of a reply, or were refused.
    pub proposals_failed: u64,
    /// Linearizable reads of this member that timed out.
    pub reads_failed: u64,
    /// Committed entries not applied yet.
    pub apply_lag: u64,
    /// Age of the oldest unfinished write to the log, in milliseconds.
    pub write_age_ms: u64,
    /// Snapshots of other members installed since the start.
    pub snapshots_installed: u64,
}

/// The members of the cluster, ordered by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Voters and learners.
    pub members: Vec<Member>,
}

impl Members {
    /// The member with this id.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// It has no vote and is not on its way to one.
    pub is_learner: bool,
    /// It was added as a voter and is still catching up.
    pub joining: bool,
}
