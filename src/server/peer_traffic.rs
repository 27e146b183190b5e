//! Counts what goes to other members and what comes from them, under etcd's names.
//!
//! Owns: [`PeerTraffic`] (the counts per member), its wrappers around the transport and the peer service, and the task that
//! measures round trips. Called by: `node` and `ports`, which wrap; `server`, which spawns the task. Invariants: a message
//! costs a read lock and an addition; nothing here changes what is sent.
//! Source: etcd `server/etcdserver/api/rafthttp/metrics.go` (names and labels), `probing_status.go` (a probe of its own,
//! because the time of a Raft message holds a disk write).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use keelson_api::AppState;
use keelson_api::edge::metrics::EtcdMetrics;
use keelson_api::edge::metrics::instruments::{Counter, Gauge, Histogram};
use keelson_raftstore::net::message::sender;
use keelson_raftstore::net::{Answers, Frame, Incoming, Peer, PeerService, Route, Transport, TransportError};
use parking_lot::RwLock;

/// Between two measurements of the round trips; etcd's figure.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// A member that takes longer to answer nothing counts as lost.
const PROBE_WAIT: Duration = Duration::from_secs(3);

/// The series of one other member.
struct Series {
    sent_bytes: Arc<Counter>,
    received_bytes: Arc<Counter>,
    sent_failures: Arc<Counter>,
    received_failures: Arc<Counter>,
    round_trip: Arc<Histogram>,
    known: Arc<Gauge>,
    active: Arc<Gauge>,
    disconnected: Arc<Counter>,
    snapshots_sent: Arc<Counter>,
    snapshots_failed: Arc<Counter>,
    snapshots_received: Arc<Counter>,
}

/// See the module.
pub(super) struct PeerTraffic {
    metrics: Arc<EtcdMetrics>,
    /// This member as label; set once it is known who this is.
    local: OnceLock<String>,
    series: RwLock<BTreeMap<u64, Arc<Series>>>,
}

impl PeerTraffic {
    pub(super) fn new(metrics: Arc<EtcdMetrics>) -> Arc<Self> {
        Arc::new(PeerTraffic { metrics, local: OnceLock::new(), series: RwLock::default() })
    }

    /// Says who this member is.
    pub(super) fn is_of(&self, member: u64) {
        let _ = self.local.set(format!("{member:x}"));
    }

    fn of(&self, member: u64) -> Arc<Series> {
        if let Some(series) = self.series.read().get(&member) {
            return series.clone();
        }
        let network = &self.metrics.network;
        let (id, local) = (format!("{member:x}"), self.local.get().map_or("", String::as_str));
        let series = Arc::new(Series {
            sent_bytes: network.peer_sent_bytes.with(&[&id]),
            received_bytes: network.peer_received_bytes.with(&[&id]),
            sent_failures: network.peer_sent_failures.with(&[&id]),
            received_failures: network.peer_received_failures.with(&[&id]),
            round_trip: network.peer_round_trip.with(&[&id]),
            known: network.known_peers.with(&[local, &id]),
            active: network.active_peers.with(&[local, &id]),
            disconnected: network.disconnected_peers.with(&[local, &id]),
            snapshots_sent: network.snapshot_send_success.with(&[&id]),
            snapshots_failed: network.snapshot_send_failures.with(&[&id]),
            snapshots_received: network.snapshot_receive_success.with(&[&id]),
        });
        self.series.write().entry(member).or_insert(series).clone()
    }
}

impl Series {
    fn sent(&self, bytes: usize) {
        self.sent_bytes.add(bytes as u64);
    }

    fn received(&self, answer: &Result<Bytes, TransportError>) {
        match answer {
            Ok(bytes) => self.received_bytes.add(bytes.len() as u64),
            Err(_) => self.sent_failures.inc(),
        }
    }
}

/// Measures round trips to all other members, and keeps the list of them, until the member stops.
pub(super) async fn probe(traffic: Arc<PeerTraffic>, state: AppState) {
    let mut known = BTreeSet::new();
    loop {
        let own = state.options.member_id;
        let members = state.consensus.members();
        let others: BTreeSet<u64> =
            members.members.iter().map(|member| member.id).filter(|id| *id != own).collect();
        for gone in known.difference(&others) {
            let series = traffic.of(*gone);
            series.known.set(0.0);
            series.active.set(0.0);
        }
        join_all(others.iter().map(|id| probe_one(&traffic, &state, *id))).await;
        known = others;
        // A new member is not left out for a whole pause.
        tokio::select! {
            () = state.clock.sleep(PROBE_EVERY) => {}
            () = changed_members(&state, &known) => {}
        }
    }
}

async fn probe_one(traffic: &PeerTraffic, state: &AppState, id: u64) {
    let series = traffic.of(id);
    series.known.set(1.0);
    let began = state.clock.now();
    let answered = state.probe(id, PROBE_WAIT).await;
    if answered {
        series.round_trip.observe_duration(state.clock.now() - began);
    } else if series.active.value() > 0.0 {
        series.disconnected.inc();
    }
    series.active.set_bool(answered);
}

async fn changed_members(state: &AppState, known: &BTreeSet<u64>) {
    loop {
        let changed = state.consensus.changed();
        let members = state.consensus.members();
        if members
            .members
            .iter()
            .any(|member| member.id != state.options.member_id && !known.contains(&member.id))
        {
            return;
        }
        changed.await;
    }
}

/// A transport that counts.
pub(super) struct CountedTransport {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) traffic: Arc<PeerTraffic>,
}

impl Transport for CountedTransport {
    fn call(
        &self,
        to: &Peer,
        route: Route,
        request: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let series = self.traffic.of(to.id);
        series.sent(request.len_bytes());
        let call = self.inner.call(to, route, request, timeout);
        async move {
            let answer = call.await;
            series.received(&answer);
            answer
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Peer,
        route: Route,
        requests: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Answers, TransportError>> {
        let (sending, series) = (self.traffic.of(to.id), self.traffic.of(to.id));
        let requests = requests.inspect(move |frame| sending.sent(frame.len_bytes())).boxed();
        let stream = self.inner.stream(to, route, requests);
        async move {
            match stream.await {
                Ok(answers) => Ok(answers.inspect(move |answer| series.received(answer)).boxed()),
                Err(error) => {
                    series.sent_failures.inc();
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn upload(
        &self,
        to: &Peer,
        route: Route,
        chunks: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (sending, series) = (self.traffic.of(to.id), self.traffic.of(to.id));
        let chunks = chunks.inspect(move |frame| sending.sent(frame.len_bytes())).boxed();
        let upload = self.inner.upload(to, route, chunks);
        async move {
            let answer = upload.await;
            series.received(&answer);
            match &answer {
                Ok(_) => series.snapshots_sent.inc(),
                Err(_) => series.snapshots_failed.inc(),
            }
            answer
        }
        .boxed()
    }

    fn forget(&self, id: u64) {
        self.inner.forget(id);
    }
}

/// A service for other members that counts.
pub(super) struct CountedPeers {
    pub(super) inner: Arc<dyn PeerService>,
    pub(super) traffic: Arc<PeerTraffic>,
}

/// Who is at the other end of a stream: named by its first message.
type Sender = Arc<OnceLock<Arc<Series>>>;

impl CountedPeers {
    fn counted(&self, requests: Incoming) -> (Incoming, Sender) {
        let (traffic, from) = (self.traffic.clone(), Sender::default());
        let sender_of = from.clone();
        let requests = requests.inspect(move |request| match request {
            Ok(message) => {
                if sender_of.get().is_none()
                    && let Some(id) = sender(message)
                {
                    let _ = sender_of.set(traffic.of(id));
                }
                if let Some(series) = sender_of.get() {
                    series.received_bytes.add(message.len() as u64);
                }
            }
            Err(_) => {
                if let Some(series) = sender_of.get() {
                    series.received_failures.inc();
                }
            }
        });
        (requests.boxed(), from)
    }
}

fn sent_to(from: &Sender, answer: &Bytes) {
    if let Some(series) = from.get() {
        series.sent(answer.len());
    }
}

impl PeerService for CountedPeers {
    fn call(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let series = sender(&request).map(|id| self.traffic.of(id));
        if let Some(series) = &series {
            series.received_bytes.add(request.len() as u64);
        }
        let call = self.inner.call(request);
        async move {
            let answer = call.await;
            if let Some(series) = series {
                series.sent(answer.len());
            }
            answer
        }
        .boxed()
    }

    fn stream(&self, requests: Incoming) -> BoxStream<'static, Bytes> {
        let (requests, from) = self.counted(requests);
        self.inner.stream(requests).inspect(move |answer| sent_to(&from, answer)).boxed()
    }

    fn upload(&self, chunks: Incoming) -> BoxFuture<'static, Bytes> {
        let (chunks, from) = self.counted(chunks);
        let upload = self.inner.upload(chunks);
        async move {
            let answer = upload.await;
            sent_to(&from, &answer);
            if let Some(series) = from.get() {
                series.snapshots_received.inc();
            }
            answer
        }
        .boxed()
    }
}
