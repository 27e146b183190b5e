//! The answering side: what this member does with messages of others.
//!
//! Owns: the checks of identity, and the dispatch. Called by: the transports. Invariants: nothing is done for a
//! message of another cluster, for another member, or of a member that was removed; a malformed message is refused and
//! harms nobody else; entries of small messages are copied out of the receive buffer before they are kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use keelson_mvcc::KvEngine;
use openraft::Snapshot;
use openraft::async_runtime::AsyncRuntime;
use openraft::errors::ClientWriteError;
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::message::{self, Envelope, Forwarded, Kind, MemberChange, Refusal};
use super::{Incoming, PeerService};
use crate::batch;
use crate::codec::{get_vote, put_vote};
use crate::node::Core;
use crate::snapshot::SnapshotData;
use crate::types::{Batch, Callback, MemberId, SnapshotMeta, Types};
use crate::wire::Reader;

/// Answers for one member.
pub(crate) struct PeerServer<RT: AsyncRuntime, E: KvEngine>(pub(crate) Arc<Core<RT, E>>);

impl<RT: AsyncRuntime, E: KvEngine> PeerService for PeerServer<RT, E> {
    fn call(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let core = self.0.clone();
        async move { message::answer(call(core, request).await) }.boxed()
    }

    fn stream(&self, requests: Incoming) -> BoxStream<'static, Bytes> {
        let core = self.0.clone();
        futures::stream::once(append_stream(core, requests)).flatten().boxed()
    }

    fn upload(&self, chunks: Incoming) -> BoxFuture<'static, Bytes> {
        let core = self.0.clone();
        async move { message::answer(install(core, chunks).await) }.boxed()
    }
}

fn unavailable(error: impl std::fmt::Display) -> Refusal {
    Refusal::Unavailable(error.to_string())
}

/// Checks who speaks to whom.
fn opened<RT: AsyncRuntime, E: KvEngine>(
    core: &Core<RT, E>,
    request: Bytes,
) -> Result<(Envelope, Kind, Reader), Refusal> {
    let (envelope, kind, reader) = message::opened(request)?;
    let (cluster, member) = (core.options.cluster, core.member());
    if envelope.cluster != cluster {
        return Err(Refusal::Cluster { ours: cluster, theirs: envelope.cluster });
    }
    if envelope.to != member {
        return Err(Refusal::Member { ours: member, wanted: envelope.to });
    }
    if core.facts.membership().removed.contains(&envelope.from) {
        return Err(Refusal::Removed);
    }
    if core.facts.is_stopped() {
        return Err(Refusal::Unavailable("the member stops".into()));
    }
    Ok((envelope, kind, reader))
}

async fn call<RT: AsyncRuntime, E: KvEngine>(
    core: Arc<Core<RT, E>>,
    request: Bytes,
) -> Result<BytesMut, Refusal> {
    let (envelope, kind, mut reader) = opened(&core, request)?;
    let mut out = BytesMut::with_capacity(64);
    match kind {
        Kind::Heartbeat => {
            let request: AppendEntriesRequest<Types<RT>> = message::get_append_request(reader)?;
            let (leader, term) = (request.vote.leader_id.voted_for, request.vote.leader_id.term);
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(prev);
            let response = core.raft.append_entries(request).await.map_err(unavailable)?;
            let result = response.into_stream_result(prev, last);
            if !matches!(result, Err(openraft::raft::StreamAppendError::HigherVote(_))) {
                core.facts.heard_from(leader, term);
            }
            message::put_append_result::<Types<RT>>(&mut out, &result);
        }
        Kind::Vote => {
            let request = message::get_vote_request(reader)?;
            let response = core.raft.vote(request).await.map_err(unavailable)?;
            message::put_vote_response(&mut out, &response);
        }
        Kind::PreVote => {
            let request = message::get_vote_request(reader)?;
            let response = core.raft.pre_vote(request).await.map_err(unavailable)?;
            message::put_vote_response(&mut out, &response);
        }
        Kind::TransferLeader => {
            let request = message::get_transfer_request(reader)?;
            let response = core.raft.handle_transfer_leader(request).await.map_err(unavailable)?;
            message::put_transfer_response(&mut out, &response);
        }
        Kind::Forward => forwarded(&core, envelope.from, reader.rest()).await?.put(&mut out),
        Kind::ReadIndex => {
            let next = core.reads.wait_as_leader().await.ok_or_else(|| unavailable("not the leader"))?;
            out.put_u64_le(next);
        }
        Kind::Confirm => {
            let asked = get_vote(&mut reader)?;
            reader.end()?;
            // The promise alone decides; whether this member has heard that the candidate won does not matter.
            let yes = core.log.promised().is_some_and(|vote| vote.leader_id == asked.leader_id);
            out.put_u8(yes.into());
        }
        Kind::Member => {
            let timeout = Duration::from_millis(reader.u64("timeout")?);
            let change = MemberChange::get(&mut reader)?;
            reader.end()?;
            let result = core.change_member_as_leader(&change, timeout).await;
            message::put_member_result(&mut out, &result);
        }
        Kind::Call => {
            let kind = reader.u8("call kind")?;
            let handler = core.call_handler.read().clone().ok_or_else(|| unavailable("no handler yet"))?;
            let body = handler.call(envelope.from, kind, reader.rest()).await.map_err(Refusal::Handler)?;
            out.extend_from_slice(&body);
        }
        Kind::Append | Kind::Snapshot => return Err(Refusal::Malformed("not a call".into())),
    }
    Ok(out)
}

/// Proposes a batch of another member; says whether it got into the log.
async fn forwarded<RT: AsyncRuntime, E: KvEngine>(
    core: &Core<RT, E>,
    from: MemberId,
    batch: Bytes,
) -> Result<Forwarded, Refusal> {
    let batch = message::own(batch);
    let (id, _) = batch::decode(&batch)?;
    if id.proposer != from {
        return Err(Refusal::Malformed("a batch of another proposer".into()));
    }
    core.log.admitted().await;
    let (sender, result) = oneshot::channel();
    let write = core.raft.write(Batch(batch)).responder(Callback::new(move |result| {
        let _ = sender.send(result);
    }));
    write.await.map_err(unavailable)?;
    // Dropped without a word only when Raft stops, and then nothing is known.
    let Ok(result) = result.await else { return Ok(Forwarded::Discarded) };
    Ok(match result {
        Ok(response) => Forwarded::Applied(response.log_id),
        Err(ClientWriteError::LogEntryDiscarded(_)) => Forwarded::Discarded,
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            Forwarded::NotAppended { leader: forward.leader_id }
        }
        Err(_) => Forwarded::NotAppended { leader: None },
    })
}

async fn append_stream<RT: AsyncRuntime, E: KvEngine>(
    core: Arc<Core<RT, E>>,
    mut requests: Incoming,
) -> BoxStream<'static, Bytes> {
    let refused = |refusal| futures::stream::iter([message::answer(Err(refusal))]).boxed();
    let Some(Ok(first)) = requests.next().await else { return futures::stream::empty().boxed() };
    let first = match opened(&core, message::own(first)) {
        Ok((_, Kind::Append, reader)) => message::get_append_request::<Types<RT>>(reader),
        Ok(_) => return refused(Refusal::Malformed("not an append".into())),
        Err(refusal) => return refused(refusal),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => return refused(error.into()),
    };
    let vote = first.vote;
    // Where the requests end because one is malformed, this says so after the answers to those before it.
    let malformed = Arc::new(Mutex::new(None));
    let told = malformed.clone();
    let log = core.log.clone();
    let rest = requests.scan((told, log), |(told, log), request| {
        let request = request.ok().and_then(|request| {
            let request = message::get_append_request::<Types<RT>>(Reader::new(message::own(request)));
            request.map_err(|error| *told.lock() = Some(Refusal::from(error))).ok()
        });
        let log = log.clone();
        async move {
            // A slow disk slows the leader down through this stream.
            log.admitted().await;
            request
        }
    });
    let input = futures::stream::iter([first]).chain(rest);
    let facts = core.facts.clone();
    let answers = core.raft.stream_append(input).map(move |result| match result {
        Ok(result) => {
            if !matches!(result, Err(openraft::raft::StreamAppendError::HigherVote(_))) {
                facts.heard_from(vote.leader_id.voted_for, vote.leader_id.term);
            }
            let mut out = BytesMut::with_capacity(32);
            message::put_append_result::<Types<RT>>(&mut out, &result);
            message::answer(Ok(out))
        }
        Err(fatal) => message::answer(Err(unavailable(fatal))),
    });
    let last = futures::stream::once(async move { malformed.lock().take() })
        .filter_map(|refusal| async move { refusal.map(|refusal| message::answer(Err(refusal))) });
    answers.chain(last).boxed()
}

async fn install<RT: AsyncRuntime, E: KvEngine>(
    core: Arc<Core<RT, E>>,
    mut chunks: Incoming,
) -> Result<BytesMut, Refusal> {
    let head =
        chunks.next().await.ok_or_else(|| Refusal::Malformed("no head".into()))?.map_err(unavailable)?;
    let (_, kind, reader) = opened(&core, head)?;
    if kind != Kind::Snapshot {
        return Err(Refusal::Malformed("not a snapshot".into()));
    }
    let (vote, last, row) = message::get_snapshot_head(reader)?;
    core.facts.heard_from(vote.leader_id.voted_for, vote.leader_id.term);
    let installer = core.raft.with_state_machine(|machine| Box::pin(async { machine.begin_install() })).await;
    let mut installer = installer.map_err(unavailable)?.map_err(unavailable)?;
    while let Some(chunk) = chunks.next().await {
        installer.chunk(&chunk.map_err(unavailable)?).map_err(unavailable)?;
    }
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: row.stored };
    let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(Box::new(installer)) };
    let response = core.raft.install_full_snapshot(vote, snapshot).await.map_err(unavailable)?;
    let mut out = BytesMut::with_capacity(32);
    put_vote(&mut out, &response.vote);
    Ok(out)
}
