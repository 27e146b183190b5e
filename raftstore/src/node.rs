//! One member: everything put together, started and stopped.
//!
//! Owns: the core that the tasks share, start and shutdown. Called by: the binary and the simulation ([`start`]); the
//! services use it through [`crate::Handle`].
//!
//! Tasks of a member, all on the runtime it was started on: openraft's own, the proposer ([`crate::proposer`]), the
//! read batcher ([`crate::read_index`]), the keeper ([`crate::keeper`]). Give it a runtime of its own with one or two
//! workers, so that work for clients never delays a heartbeat.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_mvcc::{KvEngine, Store};
use keelson_wal::Recovered;
use keelson_watch::Hub;
use openraft::async_runtime::{AsyncRuntime, WatchReceiver};
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::{ChangeMembers, Instant, Precondition, Raft, ServerState};
use parking_lot::RwLock;
use rand::Rng;

use crate::clock::Clock;
use crate::consensus::{CallHandler, MemberError, Members, Status, TimeoutCause, TransferError};
use crate::facts::{Facts, members};
use crate::handle::Handle;
use crate::keeper;
use crate::log_store::device::LogDevice;
use crate::log_store::{Log, LogOptions, LogStore};
use crate::membership::{self, Plan, Scene, Sight};
use crate::net::Transport;
use crate::net::client::{Asked, Links, NetworkFactory};
use crate::net::message::MemberChange;
use crate::net::server::PeerServer;
use crate::options::{NodeOptions, raft_config};
use crate::progress::Progress;
use crate::proposer::{self, Proposals};
use crate::read_index::{self, Reads};
use crate::state_machine::{FlushState, SharedApplyObserver, StateMachine, Surroundings};
use crate::types::{LogId, MemberId, MemberNode, Payload, Types, log_id};

/// How long the flush at stop may take.
const STOP_FLUSH: Duration = Duration::from_secs(30);

/// What a member is made of.
pub struct NodeParts<E: KvEngine> {
    /// See there.
    pub options: NodeOptions,
    /// The WAL, already driven.
    pub device: Arc<dyn LogDevice>,
    /// What was found in it.
    pub recovered: Recovered,
    /// The log in memory.
    pub log: LogOptions,
    /// The data.
    pub store: Store<E>,
    /// The watch hub on that data, see [`crate::events::StoreEvents`].
    pub hub: Hub,
    /// The way to the others.
    pub transport: Arc<dyn Transport>,
    /// How the member begins if it is new.
    pub begin: Begin,
    /// Told once of what makes going on impossible; the process should end. Called on any thread.
    pub on_fatal: Box<dyn Fn(FatalCause) + Send + Sync>,
}

/// How a member without a log begins. One with a log continues, whatever is said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the other first members of a new cluster; each is given the same map.
    Bootstrap(BTreeMap<MemberId, Vec<String>>),
    /// Added to a cluster that exists: waits for its leader.
    Join,
}

/// Why a member cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatalCause {
    /// Log, engine or Raft itself failed.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// A write to the log has not come back for too long.
    #[error("a write to the log has been waiting for {0} ms: the disk stalls")]
    DiskStalled(u64),
}

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other.
    #[error("raft configuration")]
    Config(#[from] openraft::ConfigError),
    /// The log or the data is not understood.
    #[error("read the state of the member")]
    State(#[from] io::Error),
    /// Raft refused.
    #[error("start raft: {0}")]
    Raft(String),
    /// This member is not among the first members.
    #[error("member {0:x} is not in the list of the first members")]
    NotInBootstrap(MemberId),
}

/// What the tasks of a member share.
pub struct Core<RT: AsyncRuntime, E: KvEngine> {
    pub(crate) options: NodeOptions,
    pub(crate) clock: Clock,
    pub(crate) raft: Raft<Types<RT>, StateMachine<RT, E>>,
    pub(crate) log: Arc<Log>,
    pub(crate) links: Arc<Links>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) reads: Reads,
    pub(crate) applied: Progress,
    pub(crate) flush: Arc<FlushState>,
    machine_gone: Progress,
    pub(crate) hub: Hub,
    pub(crate) call_handler: RwLock<Option<Arc<dyn CallHandler>>>,
    pub(crate) apply_observer: SharedApplyObserver,
    on_fatal: Box<dyn Fn(FatalCause) + Send + Sync>,
    fatal_told: AtomicBool,
}

/// Starts a member on the current runtime, which must be `RT`'s.
///
/// Returns when everything the log is known to have committed is applied again.
///
/// # Errors
/// State that is not understood, or contradictory options.
pub async fn start<RT: AsyncRuntime, E: KvEngine>(parts: NodeParts<E>) -> Result<Handle<E>, StartError> {
    let options = parts.options;
    let member = options.member;
    let clock = Clock::start::<RT>();
    let config = raft_config(&options)?;
    let log = Log::open(parts.device, parts.recovered, parts.log, clock.clone())?;
    if let Some(applied) = parts.store.applied() {
        log.drop_contradicting(log_id(&applied)).await?;
    }
    let row = StateMachine::<RT, E>::membership_row(&parts.store)?;
    let fresh = log.is_fresh() && parts.store.applied().is_none();
    let reader = parts.store.reader();
    let applied = Progress::starting_at(parts.store.applied().map_or(0, |applied| applied.index + 1));

    let facts = Arc::new(Facts::new(clock.clone(), row.clone(), log.vote_term()));
    let told = facts.clone();
    let links = Arc::new(Links::new(options.cluster, member, parts.transport, move || {
        told.set(&told.removed, true);
    }));
    let incarnation = RT::thread_rng().next_u64();
    let proposals = Proposals::new(member, incarnation, options.proposer.clone(), clock.clone());
    let flush = Arc::new(FlushState::default());
    let apply_observer = SharedApplyObserver::default();
    let machine_gone = Progress::default();
    let around = Arc::new(Surroundings {
        member,
        log: log.clone(),
        applied: applied.clone(),
        proposals: proposals.clone(),
        facts: facts.clone(),
        links: links.clone(),
        hub: parts.hub.clone(),
        apply_observer: apply_observer.clone(),
        flush: flush.clone(),
        group: options.group.clone(),
        blocking: options.blocking,
        running: AtomicBool::new(false),
        machine_gone: machine_gone.clone(),
    });
    around.addresses(&row);
    let machine = StateMachine::new(parts.store, row, around.clone());
    let factory = NetworkFactory::<RT, E>::new(links.clone(), options.timing.append_idle());
    let raft = Raft::build(member, config, factory, LogStore::<RT>::new(log.clone()), machine)
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
    around.running.store(true, Ordering::Release);
    raft.run();

    let core = Arc::new(Core {
        options,
        clock,
        raft,
        log,
        links,
        facts,
        proposals,
        reads: Reads::default(),
        applied,
        flush,
        machine_gone,
        hub: parts.hub,
        call_handler: RwLock::new(None),
        apply_observer,
        on_fatal: parts.on_fatal,
        fatal_told: AtomicBool::new(false),
    });
    core.begin(fresh, parts.begin).await?;
    drop(RT::spawn(proposer::task::run(core.clone())));
    drop(RT::spawn(read_index::run(core.clone())));
    drop(RT::spawn(keeper::run(core.clone())));
    drop(RT::spawn(keeper::watch_role(core.clone())));
    drop(RT::spawn(keeper::watch_readiness(core.clone())));
    Ok(Handle::new(core.clone(), reader, Arc::new(PeerServer(core))))
}

impl<RT: AsyncRuntime, E: KvEngine> Core<RT, E> {
    async fn begin(&self, fresh: bool, begin: Begin) -> Result<(), StartError> {
        if let (true, Begin::Bootstrap(first)) = (fresh, begin) {
            if !first.contains_key(&self.member()) {
                return Err(StartError::NotInBootstrap(self.member()));
            }
            let nodes: BTreeMap<_, _> = first
                .into_iter()
                .map(|(id, urls)| (id, MemberNode { peer_urls: membership::sorted(&urls), joining: false }))
                .collect();
            nodes
                .iter()
                .filter(|(id, _)| **id != self.member())
                .for_each(|(id, node)| self.links.learn(*id, node));
            self.raft.initialize(nodes).await.map_err(|error| StartError::Raft(error.to_string()))?;
        } else {
            let effective = self.raft.metrics().borrow_watched().membership_config.clone();
            // From the log as well, not only from what is applied: the leader may be one we have to vote for.
            effective
                .nodes()
                .filter(|(id, _)| **id != self.member())
                .for_each(|(id, node)| self.links.learn(*id, node));
            if effective.voter_ids().eq([self.member()]) {
                self.log.begin_as_sole_voter();
                // Nobody else could lead, so there is nothing to wait for.
                self.raft
                    .trigger()
                    .elect(false)
                    .await
                    .map_err(|error| StartError::Raft(error.to_string()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn member(&self) -> MemberId {
        self.options.member
    }

    /// Who leads, according to the last vote this member knows to be granted. May be outdated; good enough to decide
    /// where to send something.
    pub(crate) fn leader_hint(&self) -> Option<MemberId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Committed entries that are not applied here.
    pub(crate) fn apply_lag(&self) -> u64 {
        self.log.committed_next().saturating_sub(self.applied.next())
    }

    /// See [`Status`].
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let member = self.member();
        let timeout = self.options.timing.election();
        let voters = &metrics.membership_config;
        let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(member);
        let leader = if leads {
            let alone = voters.voter_ids().eq([member]);
            let acked = metrics.last_quorum_acked.as_ref().is_some_and(|acked| acked.elapsed() < timeout);
            (alone || acked).then_some(member)
        } else {
            let now_ms = self.clock.now_ms();
            let recent = |at_ms: u64| now_ms.saturating_sub(at_ms) < self.options.timing.election_ms;
            let contact = self.facts.contact().filter(|contact| recent(contact.at_ms));
            // Both: the vote says who was elected, the contact that it is still there.
            contact.map(|contact| contact.leader).filter(|leader| metrics.current_leader == Some(*leader))
        };
        let applied_row = self.facts.membership();
        let is_learner = members(&applied_row).get(member).is_some_and(|member| member.is_learner);
        Status {
            member,
            term: metrics.current_term,
            leader,
            is_leader: leader == Some(member),
            is_learner,
            removed: self.facts.removed.load(Ordering::Acquire),
            last_index: metrics.last_log_index.unwrap_or(0),
            committed_index: self.log.committed_next().saturating_sub(1),
            applied_index: self.applied.next().saturating_sub(1),
            ready: self.facts.ready.load(Ordering::Acquire),
            disk_stalled: self.facts.disk_stalled.load(Ordering::Acquire),
        }
    }

    /// What the leader sees of the others; `None` on a member that does not lead, or is no member any more.
    pub(crate) fn with_scene<R>(&self, look: impl FnOnce(&Scene<'_>, Option<LogId>) -> R) -> Option<R> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        // One that was removed leads until the others know; it has no say in who else belongs to the cluster, and openraft
        // counts on that.
        let removed = metrics.membership_config.membership().get_node(&self.member()).is_none();
        if metrics.state != ServerState::Leader || removed {
            return None;
        }
        let (replication, heartbeat) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref());
        let timeout = self.options.timing.election();
        let sights = replication.iter().map(|(id, matched)| {
            let acked = heartbeat.and_then(|heartbeat| heartbeat.get(id)).and_then(Option::as_ref);
            let connected = acked.is_some_and(|acked| acked.elapsed() < timeout);
            // Acknowledged something: also a heartbeat, which a member with an empty log can answer too.
            let matched_next = matched.map(|matched| matched.index + 1);
            (*id, Sight { matched_next, connected })
        });
        let sights: BTreeMap<_, _> = sights.collect();
        let row = self.facts.membership();
        let scene = Scene {
            leader: self.member(),
            membership: metrics.membership_config.membership(),
            row: &row,
            sights: &sights,
            last_next: metrics.last_log_index.map_or(0, |last| last + 1),
        };
        Some(look(&scene, *metrics.membership_config.log_id()))
    }

    /// Checks and makes a change of the membership; `Err(None)`: this member does not lead, and nothing was done.
    pub(crate) async fn change_member_as_leader(
        &self,
        change: &MemberChange,
        timeout: Duration,
    ) -> Result<LogId, Option<MemberError>> {
        let deadline = RT::Instant::now() + timeout;
        loop {
            let planned = self.with_scene(|scene, at| {
                membership::plan(scene, change, &self.options.membership).map(|plan| (plan, at))
            });
            let (plan, at) = planned.ok_or(None)?.map_err(Some)?;
            match self.propose_membership(plan, at).await? {
                Some(log_id) => return Ok(log_id),
                None if RT::Instant::now() >= deadline => {
                    return Err(Some(MemberError::Timeout(TimeoutCause::Plain)));
                }
                None => RT::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Proposes a membership, provided that the one at `at` is still the last. `Ok(None)`: not now, try again.
    pub(crate) async fn propose_membership(
        &self,
        plan: Plan,
        at: Option<LogId>,
    ) -> Result<Option<LogId>, Option<MemberError>> {
        let unchanged = [Precondition::LastMembershipLogId { last_membership_log_id: at }];
        let result = match plan {
            Plan::Append(membership) => {
                self.raft.append_membership(membership, Payload::Blank, unchanged).await
            }
            Plan::SetNode(id, node) => {
                let change = ChangeMembers::SetNodes(BTreeMap::from([(id, node)]));
                self.raft.change_membership_if(change, true, unchanged).await
            }
        };
        match result {
            Ok(response) => Ok(Some(response.log_id)),
            Err(RaftError::APIError(error)) => match error {
                ClientWriteError::ForwardToLeader(_) => Err(None),
                ClientWriteError::LogEntryDiscarded(_) => {
                    Err(Some(MemberError::Timeout(TimeoutCause::LeaderFailed)))
                }
                ClientWriteError::PreconditionFailed(_) => Ok(None),
                ClientWriteError::ChangeMembershipError(error) => {
                    use openraft::errors::ChangeMembershipError as Refused;
                    match error {
                        Refused::InProgress(_) | Refused::UncommittedLeaderLog(_) => Ok(None),
                        error => Err(Some(MemberError::Refused(error.to_string()))),
                    }
                }
            },
            Err(RaftError::Fatal(_)) => {
                self.stop_now();
                Err(Some(MemberError::Stopped))
            }
        }
    }

    /// Makes a change of the membership from any member.
    pub(crate) async fn change_member(
        &self,
        change: MemberChange,
        timeout: Duration,
    ) -> Result<Members, MemberError> {
        let deadline = RT::Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(RT::Instant::now());
            let result = match self.leader_hint() {
                None => Err(None),
                Some(leader) if leader == self.member() => self.change_member_as_leader(&change, left).await,
                Some(leader) => match self.links.change_member(leader, &change, left).await {
                    Asked::Answered(result) => result,
                    Asked::NotDelivered => Err(None),
                    Asked::Unknown => Err(Some(MemberError::Timeout(TimeoutCause::ConnectionLost))),
                },
            };
            if self.facts.is_stopped() {
                return Err(MemberError::Stopped);
            }
            match result {
                Ok(log_id) => return self.changed_member(&change, log_id, deadline).await,
                Err(Some(error)) => return Err(error),
                Err(None) if left.is_zero() => return Err(MemberError::Timeout(TimeoutCause::LeaderFailed)),
                Err(None) => RT::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn changed_member(
        &self,
        change: &MemberChange,
        log_id: LogId,
        deadline: RT::Instant,
    ) -> Result<Members, MemberError> {
        if *change == MemberChange::Remove(self.member()) {
            // Nothing is sent to a removed member any more, so it would wait in vain for its own removal.
            self.facts.set(&self.facts.removed, true);
            let mut left = self.facts.members();
            left.members.retain(|member| member.id != self.member());
            return Ok(left);
        }
        match RT::timeout_at(deadline, self.applied.wait(log_id.index + 1)).await {
            Ok(()) => Ok(self.facts.members()),
            Err(_) => Err(MemberError::Timeout(TimeoutCause::Plain)),
        }
    }

    pub(crate) async fn transfer_leader(&self, to: MemberId, timeout: Duration) -> Result<(), TransferError> {
        let deadline = RT::Instant::now() + timeout;
        let known = self.with_scene(|scene, _| scene.membership.voter_ids().any(|voter| voter == to));
        if !known.ok_or(TransferError::NotLeader)? {
            return Err(TransferError::BadTransferee);
        }
        if to == self.member() {
            return Ok(());
        }
        self.raft.trigger().transfer_leader(to).await.map_err(|_| TransferError::Stopped)?;
        loop {
            // Elected, and heard of: the next request then finds it.
            if self.leader_hint() == Some(to) {
                return Ok(());
            }
            if self.facts.is_stopped() {
                return Err(TransferError::Stopped);
            }
            if RT::Instant::now() >= deadline {
                return Err(TransferError::Timeout);
            }
            RT::sleep(Duration::from_millis(self.options.timing.heartbeat_ms.min(20))).await;
        }
    }

    /// Raft does not run any more: lets everybody go, and tells why once.
    pub(crate) fn stop_now(&self) {
        let cause = match &self.raft.metrics().borrow_watched().running_state {
            Ok(()) | Err(Fatal::Stopped) => None,
            Err(fatal) => Some(FatalCause::Raft(fatal.to_string())),
        };
        self.facts.set(&self.facts.stopped, true);
        self.proposals.stop();
        self.reads.stop();
        if let Some(cause) = cause {
            self.fatal(cause);
        }
    }

    pub(crate) fn fatal(&self, cause: FatalCause) {
        if !self.fatal_told.swap(true, Ordering::AcqRel) {
            tracing::error!(member = self.member(), "{cause}");
            (self.on_fatal)(cause);
        }
    }

    pub(crate) async fn shutdown(&self) {
        let successor = self.with_scene(|scene, _| membership::successor(scene)).flatten();
        if let Some(successor) = successor {
            let timeout = self.options.timing.election();
            if let Err(error) = self.transfer_leader(successor, timeout).await {
                tracing::info!(member = self.member(), "leadership was not handed over at stop: {error}");
            }
        }
        self.facts.set(&self.facts.stopped, true);
        self.proposals.stop();
        self.reads.stop();
        // Bounded, because a stalled disk must not keep the process; what is not flushed is replayed from the log.
        let flush = self.raft.with_state_machine(|machine| Box::pin(async { machine.flush_now() }));
        match RT::timeout(STOP_FLUSH, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(member = self.member(), "flush at stop: {error}"),
            Ok(Err(error)) => tracing::error!(member = self.member(), "flush at stop: {error}"),
            Err(_) => tracing::error!(member = self.member(), "flush at stop took too long"),
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(member = self.member(), "stop raft: {error}");
        }
        match self.log.close().await {
            // A group may still wait for the log, and be applied now that its entries are durable; whoever opens the
            // store next must not find two at work on it.
            Ok(()) if RT::timeout(STOP_FLUSH, self.machine_gone.wait(1)).await.is_err() => {
                tracing::error!(member = self.member(), "the state machine does not end");
            }
            Ok(()) => {}
            // What waits for a log that has failed waits for ever.
            Err(error) => tracing::error!(member = self.member(), "close the log: {error}"),
        }
        self.hub.close();
        self.facts.notify();
    }
}
