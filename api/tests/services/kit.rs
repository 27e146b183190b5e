//! A cluster of members that share one store in memory, each with its own services on a port of its own.
//!
//! Owns: [`Cluster`], [`Member`], the clock that moves only when told. Invariants: a command is encoded, decoded and
//! applied before its proposal completes, so every member sees it at once; who leads is what the test says.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use keelson_api::{
    ApiOptions, AppState, Parts,
    clock::{Clock, Sleep},
    errors::WireError,
    services::{self, WatchCodec},
};
use keelson_mvcc::{
    ApplyEntry, CompactionJob, MemoryEngine, Reader, Store, StoreOptions, codec,
    types::{Command, LogPosition, Outcome, Reply, Revision},
};
use keelson_proto::etcdserverpb as pb;
use keelson_raftstore::{
    StoreEvents,
    consensus::{
        ApplyObserver, CallError, CallHandler, Consensus, MemberError, Members, NewMember, Proposal,
        ProposeError, ReadIndexError, Status, Stopped, TimeoutCause, TransferError,
    },
    lane::Lane,
};
use keelson_watch::{Hub, HubOptions};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tonic::{Code, transport::Channel};

pub(crate) type Kv = pb::kv_client::KvClient<Channel>;
pub(crate) type Watch = pb::watch_client::WatchClient<Channel>;
pub(crate) type Lease = pb::lease_client::LeaseClient<Channel>;
pub(crate) type ClusterClient = pb::cluster_client::ClusterClient<Channel>;
pub(crate) type Maintenance = pb::maintenance_client::MaintenanceClient<Channel>;

pub(crate) const CLUSTER_ID: u64 = 0xc1;
pub(crate) const TERM: u64 = 7;

/// Waits for something that must happen soon. The bound only ends a test that would hang.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("this should have happened by now")
}

/// Waits until `holds` does.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Asserts that a request failed exactly so.
#[track_caller]
pub(crate) fn assert_error<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, expected: WireError) {
    let status = answer.expect_err("the request should fail");
    assert_eq!((status.code(), status.message()), (expected.code, expected.text));
}

#[track_caller]
pub(crate) fn assert_status<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, code: Code, text: &str) {
    let status = answer.expect_err("the request should fail");
    assert_eq!((status.code(), status.message()), (code, text));
}

/// A clock that stands still until a test moves it.
pub(crate) struct ManualClock(watch::Sender<Duration>);

impl ManualClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.0.borrow()
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.now().as_millis() as u64
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut now = self.0.subscribe();
        let deadline = *now.borrow() + duration;
        Box::pin(async move {
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// What the members share.
pub(crate) struct Cluster {
    store: Mutex<Store<MemoryEngine>>,
    compaction: Mutex<CompactionJob<MemoryEngine>>,
    reader: Reader<MemoryEngine>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) control: Mutex<Control>,
    handlers: Mutex<BTreeMap<u64, Arc<dyn CallHandler>>>,
    hubs: Mutex<Vec<Hub>>,
    apply_observers: Mutex<Vec<Arc<dyn ApplyObserver>>>,
}

/// What a test decides.
pub(crate) struct Control {
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) members: Members,
    /// Proposals of these commands fail.
    pub(crate) refuse: Option<ProposeError>,
    pub(crate) read_index: Option<ReadIndexError>,
    pub(crate) member_error: Option<MemberError>,
    /// Proposals are remembered, to be looked at.
    pub(crate) proposed: Vec<Command>,
}

impl Cluster {
    pub(crate) fn new(members: &[u64]) -> Arc<Self> {
        let store = Store::open(MemoryEngine::default(), StoreOptions::default()).unwrap();
        let member = |id: &u64| keelson_raftstore::consensus::Member {
            id: *id,
            peer_urls: vec![format!("http://m{id}:2380")],
            is_learner: false,
            joining: false,
        };
        Arc::new(Cluster {
            reader: store.reader(),
            compaction: Mutex::new(store.compaction_job()),
            store: Mutex::new(store),
            clock: Arc::new(ManualClock(watch::Sender::new(Duration::from_secs(1000)))),
            control: Mutex::new(Control {
                leader: Some(members[0]),
                term: TERM,
                members: Members { members: members.iter().map(member).collect() },
                refuse: None,
                read_index: None,
                member_error: None,
                proposed: Vec::new(),
            }),
            handlers: Mutex::default(),
            hubs: Mutex::default(),
            apply_observers: Mutex::default(),
        })
    }

    /// Applies a command as the log would.
    pub(crate) fn apply(&self, command: &Command) -> Reply {
        let mut bytes = Vec::new();
        codec::encode(command, &mut bytes);
        let command = codec::decode(Bytes::from(bytes)).unwrap();
        let mut control = self.control.lock();
        let mut store = self.store.lock();
        let index = store.applied().map_or(1, |applied| applied.index + 1);
        let position = LogPosition { term: control.term, leader: control.leader.unwrap_or(0), index };
        control.proposed.push(command.clone());
        let applied =
            store.apply(&[ApplyEntry::Commands { position, commands: vec![command.clone()] }]).unwrap();
        let reply = applied.replies[0][0].clone();
        for hub in self.hubs.lock().iter() {
            hub.publish(&applied.events, applied.view.revision());
            if matches!(reply.outcome, Ok(Outcome::Compact)) {
                hub.compacted(applied.view.compacted());
            }
        }
        if !applied.leases.is_empty() {
            for observer in self.apply_observers.lock().iter() {
                observer.applied(&applied.leases);
            }
        }
        if !applied.logins.is_empty() {
            for observer in self.apply_observers.lock().iter() {
                observer.logged_in(&applied.logins);
            }
        }
        reply
    }

    /// Lets the background part of compaction run to its end.
    pub(crate) fn settle_compaction(&self) {
        self.store.lock().flush().unwrap();
        self.compaction.lock().run().unwrap();
    }

    pub(crate) fn revision(&self) -> Revision {
        self.reader.view().revision()
    }

    /// Starts the services of a member.
    pub(crate) async fn serve(self: &Arc<Self>, id: u64, change: impl FnOnce(&mut ApiOptions)) -> Member {
        let mut options = ApiOptions::new(CLUSTER_ID, id);
        change(&mut options);
        let source = Arc::new(StoreEvents(self.reader.clone()));
        let hub_options =
            HubOptions { progress_interval: options.watch_progress_interval, ..Default::default() };
        let hub = Hub::new(hub_options, source, Arc::new(WatchCodec));
        hub.tick(self.clock.now());
        self.hubs.lock().push(hub.clone());
        let consensus = Arc::new(Fake { id, cluster: Arc::downgrade(self) });
        let state = AppState::new(Parts {
            options,
            consensus: consensus.clone(),
            reader: Arc::new(self.reader.clone()),
            hub: hub.clone(),
            clock: self.clock.clone(),
        });
        consensus.serve_calls(Arc::new(state.clone()));
        consensus.observe_applied(Arc::new(state.clone()));
        tokio::spawn(state.clone().run_background());
        let (serving, lane_end) = state.with_lane();
        tokio::spawn(lane_end.run());
        let router = axum::Router::new().fallback_service(services::routes(serving).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Member { cluster: self.clone(), state, hub, channel }
    }
}

/// A served member with its clients.
pub(crate) struct Member {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) state: AppState,
    pub(crate) hub: Hub,
    pub(crate) channel: Channel,
}

impl Member {
    /// The only member of its cluster.
    pub(crate) async fn alone() -> Member {
        Member::alone_with(|_| {}).await
    }

    pub(crate) async fn alone_with(change: impl FnOnce(&mut ApiOptions)) -> Member {
        Cluster::new(&[1]).serve(1, change).await
    }

    pub(crate) fn kv(&self) -> Kv {
        Kv::new(self.channel.clone()).max_encoding_message_size(64 << 20).max_decoding_message_size(64 << 20)
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease::new(self.channel.clone())
    }

    pub(crate) fn cluster_client(&self) -> ClusterClient {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.channel.clone())
    }

    pub(crate) fn control(&self) -> parking_lot::MutexGuard<'_, Control> {
        self.cluster.control.lock()
    }

    pub(crate) async fn put(&self, key: &'static str, value: &'static str) -> Revision {
        let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        self.kv().put(request).await.unwrap().into_inner().header.unwrap().revision
    }

    pub(crate) async fn get(&self, key: &'static str) -> pb::RangeResponse {
        self.kv().range(range(key, "")).await.unwrap().into_inner()
    }

    /// The header every response at `revision` should have.
    pub(crate) fn header(&self, revision: Revision) -> Option<pb::ResponseHeader> {
        let member_id = self.state.options.member_id;
        Some(pb::ResponseHeader {
            cluster_id: CLUSTER_ID,
            member_id,
            revision,
            raft_term: self.control().term,
        })
    }
}

pub(crate) fn range(key: &'static str, range_end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

/// Consensus of one member: the shared store is always up to date.
struct Fake {
    id: u64,
    cluster: Weak<Cluster>,
}

impl Fake {
    fn cluster(&self) -> Arc<Cluster> {
        self.cluster.upgrade().expect("the test holds the cluster")
    }

    fn change_members(
        &self,
        change: impl FnOnce(&mut Members),
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        let cluster = self.cluster();
        let mut control = cluster.control.lock();
        let answer = match control.member_error.clone() {
            Some(error) => Err(error),
            None => {
                change(&mut control.members);
                Ok(control.members.clone())
            }
        };
        async move { answer }.boxed()
    }
}

impl Consensus for Fake {
    fn propose(&self, command: &Command, _: Duration, _: Option<&Lane>) -> Proposal {
        let cluster = self.cluster();
        let (refused, leader) = {
            let control = cluster.control.lock();
            (control.refuse, control.leader)
        };
        if let Some(error) = refused {
            return Proposal::refused(error);
        }
        if leader.is_none() {
            return Proposal::refused(ProposeError::Timeout(TimeoutCause::LeaderFailed));
        }
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(Ok(cluster.apply(command)));
        Proposal::waiting(receiver)
    }

    fn read_index(&self, _: Duration) -> BoxFuture<'static, Result<(), ReadIndexError>> {
        let answer = match self.cluster().control.lock() {
            control if control.read_index.is_some() => Err(control.read_index.unwrap()),
            control if control.leader.is_none() => Err(ReadIndexError::Timeout(TimeoutCause::LeaderFailed)),
            _ => Ok(()),
        };
        async move { answer }.boxed()
    }

    fn ready(&self) -> BoxFuture<'static, Result<(), Stopped>> {
        async { Ok(()) }.boxed()
    }

    fn status(&self) -> Status {
        let cluster = self.cluster();
        let applied_index = cluster.reader.view().applied().map_or(0, |applied| applied.index);
        let control = cluster.control.lock();
        Status {
            member: self.id,
            term: control.term,
            leader: control.leader,
            is_leader: control.leader == Some(self.id),
            is_learner: control.members.get(self.id).is_some_and(|member| member.is_learner),
            removed: false,
            last_index: applied_index,
            committed_index: applied_index,
            applied_index,
            ready: true,
            disk_stalled: false,
        }
    }

    fn term(&self) -> u64 {
        self.cluster().control.lock().term
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }

    fn members(&self) -> Members {
        self.cluster().control.lock().members.clone()
    }

    fn add_member(&self, new: NewMember, _: Duration) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change_members(|members| {
            let NewMember { id, peer_urls, learner } = new;
            let member =
                keelson_raftstore::consensus::Member { id, peer_urls, is_learner: learner, joining: false };
            members.members.push(member);
            members.members.sort_by_key(|member| member.id);
        })
    }

    fn promote_member(&self, id: u64, _: Duration) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change_members(|members| {
            members
                .members
                .iter_mut()
                .filter(|member| member.id == id)
                .for_each(|member| member.is_learner = false);
        })
    }

    fn remove_member(&self, id: u64, _: Duration) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change_members(|members| members.members.retain(|member| member.id != id))
    }

    fn update_member(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change_members(|members| {
            members
                .members
                .iter_mut()
                .filter(|member| member.id == id)
                .for_each(|member| member.peer_urls.clone_from(&peer_urls));
        })
    }

    fn transfer_leader(&self, to: u64, _: Duration) -> BoxFuture<'static, Result<(), TransferError>> {
        let cluster = self.cluster();
        let mut control = cluster.control.lock();
        let answer = if control.leader != Some(self.id) {
            Err(TransferError::NotLeader)
        } else if control.members.get(to).is_none_or(|member| member.is_learner) {
            Err(TransferError::BadTransferee)
        } else {
            control.leader = Some(to);
            control.term += 1;
            Ok(())
        };
        async move { answer }.boxed()
    }

    fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let handler = self.cluster().handlers.lock().get(&to).cloned();
        let from = self.id;
        async move {
            let handler = handler.ok_or(CallError::UnknownMember)?;
            handler.call(from, kind, body).await.map_err(CallError::Refused)
        }
        .boxed()
    }

    fn serve_calls(&self, handler: Arc<dyn CallHandler>) {
        self.cluster().handlers.lock().insert(self.id, handler);
    }

    fn observe_applied(&self, observer: Arc<dyn ApplyObserver>) {
        self.cluster().apply_observers.lock().push(observer);
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}
