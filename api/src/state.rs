//! What every service shares.
//!
//! Owns: [`AppState`]: handles to consensus, views, watches, leases, and the few steps all requests take (header,
//! proposal, linearizable read, large reads off the async threads). Called by: the services, the binary's wiring.
//! Invariants: a header's revision is never older than what the response shows; no step here holds a lock across an
//! await.
//! Source: etcd `server/etcdserver/v3_server.go`, `api/v3rpc/header.go`.

use std::{
    ops::Deref,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use keelson_mvcc::auth::Login;
use keelson_mvcc::types::{Command, Reply, Revision};
use keelson_proto::etcdserverpb::ResponseHeader;
use keelson_raftstore::{
    consensus::{ApplyObserver, CallHandler, Consensus},
    lane::{Lane, LaneEnd},
};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::{
    auth::{Passwords, Tokens},
    backend::{ReadAccess, View},
    call::Call,
    clock::Clock,
    divergence::KIND_HISTORY_HASH,
    errors,
    lease::{KIND_LEASE_RENEW, KIND_LEASE_TIME_TO_LIVE, LeaseChange, LeaseManager},
    options::ApiOptions,
    quota::Quota,
};

/// How often a client that waits for the physical end of a compaction is looked after; the work itself takes longer.
const COMPACTION_POLL: Duration = Duration::from_millis(20);

/// Are you there? The answer is empty.
const KIND_PROBE: u8 = 4;

/// What the wiring hands in.
pub struct Parts {
    /// Settings.
    pub options: ApiOptions,
    /// The replicated log.
    pub consensus: Arc<dyn Consensus>,
    /// Views of the applied state.
    pub reader: Arc<dyn ReadAccess>,
    /// Watch fan-out.
    pub hub: keelson_watch::Hub,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Shared by all services of one member. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
    /// The way of replies into the runtime this copy serves.
    lane: Option<Lane>,
}

/// See [`AppState`].
pub struct Inner {
    /// Settings.
    pub options: ApiOptions,
    /// The replicated log.
    pub consensus: Arc<dyn Consensus>,
    /// Views of the applied state.
    pub reader: Arc<dyn ReadAccess>,
    /// Watch fan-out.
    pub hub: keelson_watch::Hub,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Lease timing of the leader.
    pub leases: LeaseManager,
    pub(crate) quota: Quota,
    /// The disk has too little room for more writes, as whoever watches it last said.
    pub(crate) disk_is_full: AtomicBool,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    gates: [Arc<Semaphore>; 2],
    /// Snapshots are put together one at a time.
    pub(crate) snapshot_gate: Arc<Semaphore>,
    pub(crate) lifecycle: watch::Sender<Lifecycle>,
}

/// How much work a read may be; each kind has places of its own, so that short ones do not wait behind long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Short = 0,
    Long = 1,
}

/// What open streams must notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// The server is going away.
    pub stopping: bool,
    /// Counts the times the cluster was found to have had no leader for three election timeouts.
    pub leaderless: u64,
    /// This member's data are damaged, see [`crate::alarms`].
    pub isolated: bool,
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl AppState {
    /// Ties the parts together. Nothing runs until [`AppState::run_background`].
    pub fn new(parts: Parts) -> Self {
        let Parts { options, consensus, reader, hub, clock } = parts;
        let leases = LeaseManager::new(&options, consensus.clone(), reader.clone(), clock.clone());
        let quota = Quota::new(&options);
        let gate = || Arc::new(Semaphore::new(options.range_concurrency.max(1)));
        let gates = [gate(), gate()];
        let inner = Arc::new(Inner {
            tokens: Tokens::new(options.token_lifetime),
            passwords: Passwords::new(options.bcrypt_cost),
            options,
            consensus,
            reader,
            hub,
            clock,
            leases,
            quota,
            disk_is_full: AtomicBool::new(false),
            gates,
            snapshot_gate: Arc::new(Semaphore::new(1)),
            lifecycle: watch::Sender::new(Lifecycle::default()),
        });
        AppState { inner, lane: None }
    }

    /// A copy for the services of one runtime: its replies arrive through a lane of their own, one wake for each
    /// group. [`LaneEnd::run`] is to be spawned on that runtime.
    pub fn with_lane(&self) -> (AppState, LaneEnd) {
        let (lane, end) = Lane::new();
        (AppState { inner: self.inner.clone(), lane: Some(lane) }, end)
    }

    /// Times leases and watches for the loss of the leader, until [`AppState::stop`]. To be spawned once.
    pub async fn run_background(self) {
        let mut lifecycle = self.lifecycle();
        tokio::select! {
            biased;
            _ = lifecycle.wait_for(|now| now.stopping) => {}
            ((), (), ()) = async {
                tokio::join!(self.leases.run(), self.watch_leader(), self.look_after_alarms())
            } => {}
        }
    }

    /// Ends all streams with `server stopped`. New requests still fail one by one through the consensus.
    pub fn stop(&self) {
        self.inner.lifecycle.send_modify(|lifecycle| lifecycle.stopping = true);
    }

    /// Replicates and applies a command as it is.
    pub(crate) async fn propose_once(&self, command: Command, call: &Call) -> Result<Reply, Status> {
        let proposal = self.inner.consensus.propose(&command, call.timeout, self.lane.as_ref());
        // The command is encoded: give the request buffer back before waiting.
        drop(command);
        proposal.await.map_err(|error| call.status(errors::from_propose(error)))
    }

    /// Existing streams cost much more to re-open than a request costs to refuse, so they are given three election
    /// timeouts.
    async fn watch_leader(&self) {
        let mut missed = 0;
        loop {
            self.clock.sleep(self.options.election_timeout).await;
            missed = if self.consensus.status().leader.is_none() { missed + 1 } else { 0 };
            if missed >= 3 {
                self.inner.lifecycle.send_modify(|lifecycle| lifecycle.leaderless += 1);
            }
        }
    }
}

impl Inner {
    /// Follows [`Lifecycle`].
    pub fn lifecycle(&self) -> watch::Receiver<Lifecycle> {
        self.lifecycle.subscribe()
    }

    /// The newest view.
    pub fn view(&self) -> Arc<dyn View> {
        self.reader.view()
    }

    /// A response header at `revision`.
    pub fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.options.cluster_id,
            member_id: self.options.member_id,
            revision,
            raft_term: self.consensus.term(),
        }
    }

    /// A response header at the newest revision.
    pub fn header_now(&self) -> ResponseHeader {
        self.header(self.view().revision())
    }

    /// Waits until the local view holds everything acknowledged so far.
    pub(crate) async fn linearize(&self, call: &Call) -> Result<(), Status> {
        let round = self.consensus.read_index(call.timeout);
        round.await.map_err(|error| call.status(errors::from_read_index(error)))
    }

    /// Waits until the rows that compaction through `revision` freed are gone from this member's disk.
    pub(crate) async fn compaction_settled(&self, revision: Revision) {
        while self.view().physically_compacted() < revision {
            self.clock.sleep(COMPACTION_POLL).await;
        }
    }

    /// Runs a read that may take long on the blocking pool; few at a time, so that many large ranges cannot take
    /// all memory and every core at once.
    pub(crate) async fn read_blocking<T, F>(&self, size: Size, read: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Status> + Send + 'static,
    {
        let permit =
            self.gates[size as usize].clone().acquire_owned().await.map_err(|_| errors::STOPPED.status())?;
        let work = tokio::task::spawn_blocking(move || {
            let result = read();
            drop(permit);
            result
        });
        work.await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "a read panicked");
            Err(Status::internal("read failed"))
        })
    }

    /// Whether another member answers in time.
    pub async fn probe(&self, member: u64, timeout: Duration) -> bool {
        self.consensus.call(member, KIND_PROBE, Bytes::new(), timeout).await.is_ok()
    }

    /// The timeout of work that is not a client's request.
    pub(crate) fn internal_call(&self) -> Call {
        Call { timeout: self.options.request_timeout(), by_client: false, credentials: None }
    }
}

/// Keeps the lessor's clock in line with the state; to be given to [`Consensus::observe_applied`].
impl ApplyObserver for AppState {
    fn applied(&self, changes: &[LeaseChange]) {
        self.leases.applied(changes);
    }

    fn logged_in(&self, logins: &[Login]) {
        self.inner.logged_in(logins);
    }
}

/// What other members ask of this one; to be given to [`Consensus::serve_calls`].
impl CallHandler for AppState {
    fn call(&self, _from: u64, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let state = self.clone();
        Box::pin(async move {
            match kind {
                KIND_LEASE_RENEW => state.leases.handle_renew(body).await,
                KIND_LEASE_TIME_TO_LIVE => state.leases.handle_time_to_live(body).await,
                KIND_HISTORY_HASH => state.handle_history_hash(body).await,
                KIND_PROBE => Ok(Bytes::new()),
                other => Err(format!("unknown kind of request: {other}")),
            }
        })
    }
}
