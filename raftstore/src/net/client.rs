//! The asking side: what this member sends to others, and openraft's network on top of it.
//!
//! Owns: the address book, the identity put in front of every message, and the meaning of failures: delivered for
//! certain, not delivered for certain, or unknown. Called by: openraft (entries, votes, snapshots), `proposer`,
//! `read_index`, `membership`, `api` calls.
//! Invariants: `NotDelivered` is said only where the receiver cannot have acted; answers of a stream stay in order; a
//! stream whose oldest request stays unanswered for the idle limit ends with an error, otherwise a silent partition
//! would hold it for ever.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use keelson_mvcc::KvEngine;
use openraft::async_runtime::AsyncRuntime;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::message::{self, Envelope, Forwarded, Kind, MemberChange, Refusal};
use super::{Frame, Peer, Route, Transport, TransportError};
use crate::codec::{MembershipRow, get_vote, put_vote};
use crate::consensus::MemberError;
use crate::snapshot::SnapshotData;
use crate::types::{Batch, LogId, MemberId, MemberNode, Types, Vote, log_id};
use crate::wire::{Reader, WireError};

/// What asking gave.
#[derive(Debug)]
pub enum Asked<T> {
    /// The other member's answer.
    Answered(T),
    /// The other member has certainly not acted on the message.
    NotDelivered,
    /// It may have.
    Unknown,
}

/// The connections of this member to the others.
pub struct Links {
    cluster: u64,
    member: MemberId,
    transport: Arc<dyn Transport>,
    addresses: RwLock<BTreeMap<MemberId, Vec<String>>>,
    /// Called when a member of our cluster says that we were removed from it.
    on_removed: Box<dyn Fn() + Send + Sync>,
}

impl Links {
    /// Links of `member` over `transport`.
    pub fn new(
        cluster: u64,
        member: MemberId,
        transport: Arc<dyn Transport>,
        on_removed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Links { cluster, member, transport, addresses: RwLock::default(), on_removed: Box::new(on_removed) }
    }

    /// Learns where a member is; connections to another place are dropped.
    pub fn learn(&self, id: MemberId, node: &MemberNode) {
        if self.addresses.read().get(&id) == Some(&node.peer_urls) {
            return;
        }
        let before = self.addresses.write().insert(id, node.peer_urls.clone());
        if before.is_some() {
            self.transport.forget(id);
        }
    }

    /// A member is gone.
    pub fn forget(&self, id: MemberId) {
        if self.addresses.write().remove(&id).is_some() {
            self.transport.forget(id);
        }
    }

    fn peer(&self, id: MemberId) -> Option<Peer> {
        self.addresses.read().get(&id).map(|urls| Peer { id, urls: urls.clone() })
    }

    fn begin(&self, to: MemberId, kind: Kind) -> BytesMut {
        message::begin(Envelope { cluster: self.cluster, from: self.member, to }, kind)
    }

    fn refused(&self, to: MemberId, refusal: &Refusal) {
        tracing::warn!(member = self.member, peer = to, "peer refused a message: {refusal}");
        if *refusal == Refusal::Removed {
            (self.on_removed)();
        }
    }

    async fn call(
        &self,
        peer: &Peer,
        route: Route,
        request: Frame,
        timeout: Duration,
    ) -> Result<Result<Reader, Refusal>, TransportError> {
        let answer = self.transport.call(peer, route, request, timeout).await?;
        let answered = message::answered(answer).map_err(|error| TransportError::Lost(error.to_string()))?;
        if let Err(refusal) = &answered {
            self.refused(peer.id, refusal);
        }
        Ok(answered)
    }

    async fn ask<T>(
        &self,
        to: MemberId,
        request: Frame,
        timeout: Duration,
        read: impl FnOnce(Reader) -> Result<T, WireError>,
    ) -> Asked<Result<T, Refusal>> {
        let Some(peer) = self.peer(to) else { return Asked::NotDelivered };
        match self.call(&peer, Route::Control, request, timeout).await {
            Ok(Ok(reader)) => match read(reader) {
                Ok(answer) => Asked::Answered(Ok(answer)),
                Err(_) => Asked::Unknown,
            },
            Ok(Err(refusal)) => Asked::Answered(Err(refusal)),
            Err(TransportError::Unreachable(_)) => Asked::NotDelivered,
            Err(TransportError::Timeout | TransportError::Lost(_)) => Asked::Unknown,
        }
    }

    /// Sends a batch of proposals to the leader.
    pub async fn forward(&self, leader: MemberId, batch: Batch, timeout: Duration) -> Asked<Forwarded> {
        let mut request = Frame::from(self.begin(leader, Kind::Forward));
        request.push(batch.0);
        match self.ask(leader, request, timeout, Forwarded::get).await {
            Asked::Answered(Ok(forwarded)) => Asked::Answered(forwarded),
            // A refusal is given before anything is done.
            Asked::Answered(Err(_)) | Asked::NotDelivered => Asked::NotDelivered,
            Asked::Unknown => Asked::Unknown,
        }
    }

    /// Asks the leader for a read index, as an index plus one.
    pub async fn read_index(&self, leader: MemberId, timeout: Duration) -> Option<u64> {
        let request = self.begin(leader, Kind::ReadIndex).into();
        let read = |mut reader: Reader| {
            let next = reader.u64("read index")?;
            reader.end()?;
            Ok(next)
        };
        match self.ask(leader, request, timeout, read).await {
            Asked::Answered(Ok(next)) => Some(next),
            _ => None,
        }
    }

    /// Asks a voter whether its last promise is still `vote`. No answer counts as no.
    pub async fn confirm(&self, to: MemberId, vote: Vote, timeout: Duration) -> bool {
        let Some(peer) = self.peer(to) else { return false };
        let mut request = self.begin(to, Kind::Confirm);
        put_vote(&mut request, &vote);
        let answer = self.call(&peer, Route::Heartbeat, request.into(), timeout).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|mut reader| reader.bool("confirmed").unwrap_or(false)))
    }

    /// Asks the leader for a change of the membership.
    pub async fn change_member(
        &self,
        leader: MemberId,
        change: &MemberChange,
        timeout: Duration,
    ) -> Asked<Result<LogId, Option<MemberError>>> {
        let mut request = self.begin(leader, Kind::Member);
        request.put_u64_le(timeout.as_millis() as u64);
        change.put(&mut request);
        match self.ask(leader, request.into(), timeout, message::get_member_result).await {
            Asked::Answered(Ok(result)) => Asked::Answered(result),
            Asked::Answered(Err(_)) | Asked::NotDelivered => Asked::NotDelivered,
            Asked::Unknown => Asked::Unknown,
        }
    }

    /// Asks another member's [`crate::CallHandler`].
    pub async fn call_handler(
        &self,
        to: MemberId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Asked<Result<Bytes, Refusal>> {
        let mut head = self.begin(to, Kind::Call);
        head.put_u8(kind);
        let mut request = Frame::from(head);
        request.push(body);
        self.ask(to, request, timeout, |mut reader| Ok(reader.rest())).await
    }

    /// Knows where this member is.
    pub fn knows(&self, id: MemberId) -> bool {
        self.addresses.read().contains_key(&id)
    }
}

/// Makes openraft's network clients.
pub struct NetworkFactory<RT, E> {
    links: Arc<Links>,
    idle_limit: Duration,
    types: PhantomData<fn() -> (RT, E)>,
}

impl<RT, E> NetworkFactory<RT, E> {
    /// `idle_limit`: how long an append stream may leave a request unanswered. openraft's own limit is a heartbeat's,
    /// which a follower's slow disk would exceed without being gone.
    pub fn new(links: Arc<Links>, idle_limit: Duration) -> Self {
        NetworkFactory { links, idle_limit, types: PhantomData }
    }

    fn client(&self, target: MemberId, node: &MemberNode, route: Route) -> Network<RT, E> {
        self.links.learn(target, node);
        let peer = Peer { id: target, urls: node.peer_urls.clone() };
        Network { links: self.links.clone(), peer, route, idle_limit: self.idle_limit, types: PhantomData }
    }
}

impl<RT: AsyncRuntime, E: KvEngine> RaftNetworkFactory<Types<RT>> for NetworkFactory<RT, E> {
    type Network = Network<RT, E>;

    async fn new_client(&mut self, target: MemberId, node: &MemberNode) -> Network<RT, E> {
        self.client(target, node, Route::Append)
    }

    async fn new_heartbeat_client(&mut self, target: MemberId, node: &MemberNode) -> Network<RT, E> {
        self.client(target, node, Route::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: MemberId, node: &MemberNode) -> Network<RT, E> {
        self.client(target, node, Route::Snapshot)
    }
}

/// openraft's client of one peer for one purpose.
pub struct Network<RT, E> {
    links: Arc<Links>,
    peer: Peer,
    route: Route,
    idle_limit: Duration,
    types: PhantomData<fn() -> (RT, E)>,
}

impl<RT: AsyncRuntime, E: KvEngine> Network<RT, E> {
    /// Where the target is now: openraft keeps its clients when a member has moved.
    fn target(&self) -> Peer {
        self.links.peer(self.peer.id).unwrap_or_else(|| self.peer.clone())
    }

    fn error(&self, error: TransportError, action: RPCTypes, timeout: Duration) -> RPCError<Types<RT>> {
        rpc_error::<RT>(error, action, self.links.member, self.peer.id, timeout)
    }

    async fn call<T>(
        &self,
        route: Route,
        request: Frame,
        action: RPCTypes,
        timeout: Duration,
        read: impl FnOnce(Reader) -> Result<T, WireError>,
    ) -> Result<T, RPCError<Types<RT>>> {
        match self.links.call(&self.target(), route, request, timeout).await {
            Ok(Ok(reader)) => read(reader).map_err(|error| NetworkError::new(&error).into()),
            // As good as unreachable: asking again at once would give the same answer.
            Ok(Err(refusal)) => Err(Unreachable::new(&refusal).into()),
            Err(error) => Err(self.error(error, action, timeout)),
        }
    }

    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<Types<RT>>,
        timeout: Duration,
    ) -> Result<StreamAppendResult<Types<RT>>, RPCError<Types<RT>>> {
        let frame = message::append_request(self.links.begin(self.peer.id, Kind::Heartbeat), &request);
        self.call(Route::Heartbeat, frame, RPCTypes::AppendEntries, timeout, message::get_append_result).await
    }
}

fn rpc_error<RT: AsyncRuntime>(
    error: TransportError,
    action: RPCTypes,
    id: MemberId,
    target: MemberId,
    timeout: Duration,
) -> RPCError<Types<RT>> {
    match error {
        TransportError::Unreachable(_) => Unreachable::new(&error).into(),
        TransportError::Timeout => Timeout { action, id, target, timeout }.into(),
        TransportError::Lost(_) => NetworkError::new(&error).into(),
    }
}

impl<RT: AsyncRuntime, E: KvEngine> RaftNetworkV2<Types<RT>> for Network<RT, E> {
    type SnapshotData = SnapshotData<E>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<RT>>, RPCError<Types<RT>>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        Ok(match self.heartbeat(request, option.soft_ttl()).await? {
            Ok(matching) if matching == last => AppendEntriesResponse::Success,
            Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<Types<RT>>, RPCError<Types<RT>>>>,
            RPCError<Types<RT>>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types<RT>>> + OptionalSend + Unpin + 'static,
    {
        async move {
            // Before anything is sent: openraft's pause after an error is part of its stream of requests, so a network
            // that connects first would try to reach a dead peer without any pause.
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            if self.route == Route::Heartbeat {
                let answer = self.heartbeat(first, option.soft_ttl()).await?;
                return Ok(futures::stream::iter([Ok(answer)]).boxed());
            }
            let first = message::append_request(self.links.begin(self.peer.id, Kind::Append), &first);
            let limit = self.idle_limit.max(option.soft_ttl());
            let (sent, ended) = (Arc::new(AtomicU64::new(1)), oneshot::channel());
            let rest = Requests { input: Some(input), sent: sent.clone(), ended: ended.1 };
            let requests = futures::stream::iter([first]).chain(rest).boxed();
            let opening = self.links.transport.stream(&self.target(), Route::Append, requests);
            let opening = RT::timeout(limit, opening).await.unwrap_or(Err(TransportError::Timeout));
            let answers = opening.map_err(|error| self.error(error, RPCTypes::AppendEntries, limit))?;
            let state = Responses {
                answers,
                sent,
                received: 0,
                limit,
                links: self.links.clone(),
                peer: self.peer.id,
                _end_requests: ended.0,
            };
            Ok(futures::stream::unfold(Some(state), next_response::<RT>).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<RT>>, RPCError<Types<RT>>> {
        let mut out = self.links.begin(self.peer.id, Kind::Vote);
        message::put_vote_request(&mut out, &request);
        self.call(Route::Control, out.into(), RPCTypes::Vote, option.soft_ttl(), message::get_vote_response)
            .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<RT>>, RPCError<Types<RT>>> {
        let mut out = self.links.begin(self.peer.id, Kind::PreVote);
        message::put_vote_request(&mut out, &request);
        self.call(Route::Control, out.into(), RPCTypes::Vote, option.soft_ttl(), message::get_vote_response)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types<RT>, SnapshotData<E>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<RT>>, StreamingError<Types<RT>>> {
        let upload = self.upload_snapshot(vote, snapshot.snapshot);
        match RT::select2(upload, cancel).await {
            openraft::async_runtime::Select2::First(response) => response,
            openraft::async_runtime::Select2::Second(closed) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<RT>>, RPCError<Types<RT>>> {
        let mut out = self.links.begin(self.peer.id, Kind::TransferLeader);
        message::put_transfer_request(&mut out, &request);
        let timeout = option.soft_ttl();
        self.call(
            Route::Control,
            out.into(),
            RPCTypes::TransferLeader,
            timeout,
            message::get_transfer_response,
        )
        .await
    }
}

impl<RT: AsyncRuntime, E: KvEngine> Network<RT, E> {
    async fn upload_snapshot(
        &self,
        vote: Vote,
        data: SnapshotData<E>,
    ) -> Result<SnapshotResponse<Types<RT>>, StreamingError<Types<RT>>> {
        let SnapshotData::Export(export) = data else {
            return Err(NetworkError::from_string("this snapshot holds no data to send").into());
        };
        let (Some(applied), Some((_, row))) = (export.applied(), export.membership()) else {
            return Err(NetworkError::from_string("the snapshot of an empty store is not sent").into());
        };
        let row = MembershipRow::decode(&row).map_err(|error| NetworkError::new(&error))?;
        let mut head = self.links.begin(self.peer.id, Kind::Snapshot);
        message::put_snapshot_head(&mut head, &vote, &log_id(&applied), &row);
        let (sent, last_sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = sent.clone();
        // An export that fails ends the upload short of its last chunk, which the receiver refuses.
        let chunks = futures::stream::iter(export.map_while(Result::ok)).map(move |chunk| {
            count.fetch_add(1, Ordering::Relaxed);
            Frame::new(vec![chunk])
        });
        let frames = futures::stream::iter([Frame::from(head)]).chain(chunks).boxed();
        let mut upload = self.links.transport.upload(&self.target(), Route::Snapshot, frames);
        // As long as chunks leave, it may take any time; the last step, the install, gets the limit once more.
        let idle_limit = self.idle_limit * 10;
        let answer = loop {
            match RT::timeout(idle_limit, &mut upload).await {
                Ok(answer) => break answer,
                Err(_)
                    if last_sent.swap(sent.load(Ordering::Relaxed), Ordering::Relaxed)
                        != sent.load(Ordering::Relaxed) => {}
                Err(_) => break Err(TransportError::Timeout),
            }
        };
        let answer = answer.map_err(|error| self.error(error, RPCTypes::InstallSnapshot, idle_limit))?;
        match message::answered(answer).map_err(|error| NetworkError::new(&error))? {
            Ok(mut reader) => {
                let vote = get_vote(&mut reader).map_err(|error| NetworkError::new(&error))?;
                Ok(SnapshotResponse::new(vote))
            }
            Err(refusal) => {
                self.links.refused(self.peer.id, &refusal);
                Err(Unreachable::new(&refusal).into())
            }
        }
    }
}

/// openraft's append requests after the first, as messages. Lets go of openraft's stream as soon as the answers are dropped: it holds a
/// lock that the next stream needs.
struct Requests<S> {
    input: Option<S>,
    sent: Arc<AtomicU64>,
    ended: oneshot::Receiver<()>,
}

impl<S> Unpin for Requests<S> {}

impl<S, RT> Stream for Requests<S>
where
    RT: AsyncRuntime,
    S: Stream<Item = AppendEntriesRequest<Types<RT>>> + Unpin,
{
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let this = &mut *self;
        let Some(input) = &mut this.input else { return Poll::Ready(None) };
        if this.ended.poll_unpin(cx).is_ready() {
            this.input = None;
            return Poll::Ready(None);
        }
        match input.poll_next_unpin(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.input = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(request)) => {
                this.sent.fetch_add(1, Ordering::AcqRel);
                Poll::Ready(Some(message::append_request(BytesMut::new(), &request)))
            }
        }
    }
}

struct Responses {
    answers: super::Answers,
    sent: Arc<AtomicU64>,
    received: u64,
    limit: Duration,
    links: Arc<Links>,
    peer: MemberId,
    /// Dropped with the responses: ends [`Requests`].
    _end_requests: oneshot::Sender<()>,
}

type Response<RT> = Result<StreamAppendResult<Types<RT>>, RPCError<Types<RT>>>;

async fn next_response<RT: AsyncRuntime>(
    state: Option<Responses>,
) -> Option<(Response<RT>, Option<Responses>)> {
    let mut state = state?;
    let answer = loop {
        // Requests sent before this wait and still unanswered after it have waited for the limit.
        let waited_for = state.sent.load(Ordering::Acquire);
        match RT::timeout(state.limit, state.answers.next()).await {
            Ok(None) if state.sent.load(Ordering::Acquire) > state.received => {
                // An end without a word would leave openraft with a request it believes to be under way: it then goes
                // back to the last one it was told to make, whose entries may be purged by now.
                break Err(TransportError::Lost("the stream ended before all answers".into()));
            }
            Ok(None) => return None,
            Ok(Some(answer)) => break answer,
            Err(_) if waited_for > state.received => break Err(TransportError::Timeout),
            Err(_) => {}
        }
    };
    state.received += 1;
    let member = state.links.member;
    let result = answer
        .and_then(|answer| message::answered(answer).map_err(|error| TransportError::Lost(error.to_string())))
        .map_err(|error| rpc_error::<RT>(error, RPCTypes::AppendEntries, member, state.peer, state.limit));
    let result: Response<RT> = match result {
        Ok(Ok(reader)) => {
            message::get_append_result(reader).map_err(|error| NetworkError::new(&error).into())
        }
        Ok(Err(refusal)) => {
            state.links.refused(state.peer, &refusal);
            Err(Unreachable::new(&refusal).into())
        }
        Err(error) => Err(error),
    };
    let more = matches!(result, Ok(Ok(_))).then_some(state);
    Some((result, more))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use openraft_rt_tokio::TokioRuntime;

    use super::*;
    use crate::net::memory::MemoryNetwork;

    /// What comes last of a stream that ends after so many requests and answers.
    fn end_of(sent: u64, received: u64) -> Option<Response<TokioRuntime>> {
        let transport = MemoryNetwork::<TokioRuntime>::default().transport(1);
        let (ended, _) = oneshot::channel();
        let responses = Responses {
            answers: futures::stream::empty().boxed(),
            sent: Arc::new(AtomicU64::new(sent)),
            received,
            limit: Duration::from_secs(1),
            links: Arc::new(Links::new(1, 1, transport, || {})),
            peer: 2,
            _end_requests: ended,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let next = next_response::<TokioRuntime>(Some(responses)).now_or_never().expect("at once");
            next.map(|(response, _)| response)
        })
    }

    /// Found by the simulation (seed 31 of the run of faults): the receiver stopped, its stream ended without an error,
    /// and openraft read entries for it that were purged.
    #[test]
    fn a_stream_that_ends_with_requests_unanswered_is_an_error() {
        assert!(matches!(end_of(3, 2), Some(Err(RPCError::Network(_)))));
        assert!(end_of(3, 3).is_none(), "everything is answered");
    }
}
