//! Linearizable reads: one round to a quorum for everybody who is waiting.
//!
//! Owns: the readers that wait for a round, and the task that runs rounds one after the other. Called by: `api`
//! threads ([`Reads::wait`]), `net::server` for other members ([`Reads::wait_as_leader`]).
//!
//! # Invariants
//! - A reader is answered by a round that began after it arrived: the waiting list is taken before the round starts.
//! - Each round is confirmed by answers to questions asked in that round, see [`crate::confirm`]; where the leader has
//!   not heard of a quorum for a lease, by heartbeats that openraft sends for it. Nothing is ever answered by a lease alone.
//! - A sole voter needs no round at all: see `Log::is_sole_voter`.
//! - A member that is not the leader asks the leader, then waits for its own apply.
//!
//! ```text
//! readers:   a b   c d e        f
//! rounds:    |--1--|----2----|---3--|      1 answers a, 2 answers b..e if they came while 1 was running
//! ```
//! Source: etcd server/etcdserver/v3_server.go, `linearizableReadLoop`; its bug #20418 for the second rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use keelson_mvcc::KvEngine;
use openraft::ReadPolicy;
use openraft::async_runtime::{AsyncRuntime, WatchReceiver};
use openraft::errors::{LinearizableReadError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::confirm::Confirmations;
use crate::node::Core;
use crate::types::Vote;

/// How long a round waits for the leader's answer before another round begins; etcd's value.
const ROUND: Duration = Duration::from_millis(500);
/// Pause while there is no leader.
const PAUSE: Duration = Duration::from_millis(10);

struct Reader {
    answer: oneshot::Sender<u64>,
    /// Another member asks: answered only while this one leads, otherwise dropped.
    as_leader: bool,
}

/// Readers that wait for a round.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: Mutex<Vec<Reader>>,
    wake: Notify,
    stopped: AtomicBool,
}

impl Reads {
    fn enter(&self, as_leader: bool) -> oneshot::Receiver<u64> {
        let (answer, index) = oneshot::channel();
        if self.stopped.load(Ordering::Acquire) {
            return index;
        }
        let mut waiting = self.waiting.lock();
        waiting.push(Reader { answer, as_leader });
        if waiting.len() == 1 {
            self.wake.notify_one();
        }
        index
    }

    /// An index plus one: whoever has applied up to it may read. `None` once stopped.
    pub(crate) async fn wait(&self) -> Option<u64> {
        self.enter(false).await.ok()
    }

    /// The same for another member; `None` if this one does not lead.
    pub(crate) async fn wait_as_leader(&self) -> Option<u64> {
        self.enter(true).await.ok()
    }

    /// Lets everybody go without an answer.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.waiting.lock().clear();
        self.wake.notify_one();
    }
}

/// Runs rounds until [`Reads::stop`].
pub(crate) async fn run<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    let reads = &core.reads;
    let mut confirmations = Confirmations::default();
    loop {
        reads.wake.notified().await;
        loop {
            let mut readers = std::mem::take(&mut *reads.waiting.lock());
            if readers.is_empty() {
                break;
            }
            round(&core, &mut confirmations, &mut readers).await;
            if reads.stopped.load(Ordering::Acquire) {
                return;
            }
        }
        if reads.stopped.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Answers all of `readers`, or as many as still want to know, however many attempts that takes.
async fn round<RT: AsyncRuntime, E: KvEngine>(
    core: &Arc<Core<RT, E>>,
    confirmations: &mut Confirmations,
    readers: &mut Vec<Reader>,
) {
    loop {
        if let Some(next) = attempt(core, confirmations, readers).await {
            for reader in readers.drain(..) {
                let _ = reader.answer.send(next);
            }
            return;
        }
        readers.retain(|reader| !reader.answer.is_closed());
        if readers.is_empty() || core.facts.is_stopped() {
            readers.clear();
            return;
        }
        RT::sleep(PAUSE).await;
        // Those who came meanwhile join: the next attempt begins after their arrival.
        readers.append(&mut core.reads.waiting.lock());
    }
}

async fn attempt<RT: AsyncRuntime, E: KvEngine>(
    core: &Arc<Core<RT, E>>,
    confirmations: &mut Confirmations,
    readers: &mut Vec<Reader>,
) -> Option<u64> {
    let leader = core.leader_hint();
    if leader != Some(core.member()) {
        readers.retain(|reader| !reader.as_leader);
        if readers.is_empty() {
            return None;
        }
        return core.links.read_index(leader?, ROUND).await;
    }
    if let Some(next) = asked(core, confirmations).await {
        return Some(next);
    }
    match core.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Some(linearizer.read_log_id().index() + 1),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => None,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            readers.retain(|reader| !reader.as_leader);
            None
        }
        Err(RaftError::Fatal(_)) => {
            core.stop_now();
            None
        }
    }
}

/// The leader's read index, confirmed by a round of questions. `None`: it could not be had this way.
async fn asked<RT: AsyncRuntime, E: KvEngine>(
    core: &Arc<Core<RT, E>>,
    confirmations: &mut Confirmations,
) -> Option<u64> {
    let leader = core.member();
    let own = |vote: &Vote| vote.committed && vote.leader_id.voted_for == leader;
    let vote = core.log.promised().filter(own)?;
    // Its lease makes openraft answer at once; what makes the index safe to read at is the round below.
    let linearizer = core.raft.get_read_linearizer(ReadPolicy::LeaseRead).await.ok()?;
    // The same promise before and after: the index is of that term.
    if core.log.promised() != Some(vote) {
        return None;
    }
    // Read after the index: a membership appended later cannot have elected anybody before the index was read.
    let membership = core.raft.metrics().borrow_watched().membership_config.clone();
    let ask = |voter| {
        let core = core.clone();
        async move { core.links.confirm(voter, vote, ROUND).await }.boxed()
    };
    let confirmed = confirmations.round::<RT, _>(leader, membership.membership(), ROUND, ask).await;
    confirmed.then(|| linearizer.read_log_id().index() + 1)
}
