//! What locks and elections are made of: keys held by leases, and waiting until those in front are gone.
//!
//! Owns: [`Recipe`]: the requests of one caller to this member's own services, and the wait. Called by: the lock and
//! election services. Invariants: every step goes through the services, so that rights, quota and rules hold as for
//! any client; who gives up while it waits leaves no key behind.
//! Source: etcd `client/v3/concurrency` (`key.go`, `session.go`), which its server runs in the same way.

use bytes::Bytes;
use http::Extensions;
use keelson_mvcc::types::{EventKind, KeyRange, Revision};
use keelson_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    compare::TargetUnion, kv_server::Kv, lease_server::Lease, request_op::Request as Operation,
    response_op::Response as Answer,
};
use keelson_proto::{etcdserverpb as pb, mvccpb};
use keelson_watch::{Frame, StreamEnd, WatchRequest, WatchStream};
use tonic::{Code, Request, Status, metadata::MetadataMap};

use super::{
    kv::KvService,
    lease::{LeaseService, ended},
};
use crate::{call::OnLearner, errors, state::AppState};

/// Time to live of a lease made for a caller that has none.
const SESSION_TTL_S: i64 = 60;

/// The steps of one caller.
#[derive(Clone)]
pub(super) struct Recipe {
    state: AppState,
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Recipe {
    /// Admits a request, and takes over what it shows of its sender.
    pub(super) fn of<T>(state: &AppState, request: Request<T>) -> Result<(Self, T), Status> {
        state.admit(&request, OnLearner::Refused)?;
        let (metadata, extensions, message) = request.into_parts();
        Ok((Recipe { state: state.clone(), metadata, extensions }, message))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }

    /// The lease of a session: the one given, or a new one.
    pub(super) async fn lease(&self, given: i64) -> Result<i64, Status> {
        if given != 0 {
            return Ok(given);
        }
        let grant = self.request(LeaseGrantRequest { id: 0, ttl: SESSION_TTL_S });
        let granted = LeaseService(self.state.clone()).lease_grant(grant).await;
        Ok(granted.map_err(as_clients_see)?.into_inner().id)
    }

    pub(super) async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        let answer = KvService(self.state.clone()).txn(self.request(txn)).await;
        Ok(answer.map_err(as_clients_see)?.into_inner())
    }

    pub(super) async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        let answer = KvService(self.state.clone()).range(self.request(range)).await;
        Ok(answer.map_err(as_clients_see)?.into_inner())
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Status> {
        let delete = pb::DeleteRangeRequest { key, ..Default::default() };
        let answer = KvService(self.state.clone()).delete_range(self.request(delete)).await;
        Ok(answer.map_err(as_clients_see)?.into_inner())
    }

    /// Waits until no key below `prefix` is left that was created at or before `revision`.
    pub(super) async fn wait_for_turn(&self, prefix: &Bytes, revision: Revision) -> Result<(), Status> {
        loop {
            // The one right in front: when it goes, those before it may still be there, but nobody is woken in vain.
            let in_front =
                RangeRequest { sort_order: DESCEND, max_create_revision: revision, ..oldest(prefix) };
            let found = self.range(in_front).await?;
            let Some(key) = found.kvs.into_iter().next() else { return Ok(()) };
            let since = found.header.unwrap_or_default().revision;
            let mut changes = self.follow(key.key, since).await?;
            while changes.next().await?.0.r#type != DELETED {}
        }
    }

    /// The changes of a key from a revision on.
    pub(super) async fn follow(&self, key: Bytes, start: Revision) -> Result<Changes, Status> {
        self.follow_range(KeyRange { key, end: Bytes::new() }, start).await
    }

    /// The changes of all keys below a prefix from a revision on.
    pub(super) async fn follow_below(&self, prefix: &Bytes, start: Revision) -> Result<Changes, Status> {
        self.follow_range(KeyRange { key: prefix.clone(), end: prefix_end(prefix) }, start).await
    }

    async fn follow_range(&self, range: KeyRange, start: Revision) -> Result<Changes, Status> {
        let stream = self.state.hub.open();
        let range = KeyRange { key: crate::convert::owned(&range.key), end: range.end };
        let request = WatchRequest { range, start, ..WatchRequest::default() };
        stream.control().create(&request).await.map_err(|_| errors::STOPPED.status())?;
        Ok(Changes { state: self.state.clone(), stream, waiting: Default::default() })
    }

    /// The header of an answer at a revision.
    pub(super) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        self.state.header(revision)
    }
}

/// A change is a deletion.
pub(super) const DELETED: i32 = 1;
const ASCEND: i32 = 1;
const DESCEND: i32 = 2;
const BY_CREATE_REVISION: i32 = 2;

/// The stream of changes of some keys.
pub(super) struct Changes {
    state: AppState,
    stream: WatchStream,
    waiting: std::collections::VecDeque<(mvccpb::Event, Revision)>,
}

impl Changes {
    /// The next change, and the revision its message has in the header.
    pub(super) async fn next(&mut self) -> Result<(mvccpb::Event, Revision), Status> {
        let mut lifecycle = self.state.lifecycle();
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Ok(next);
            }
            let frames = tokio::select! {
                biased;
                status = ended(&mut lifecycle, false) => return Err(as_clients_see(status)),
                frames = self.stream.next() => frames.map_err(|end| match end {
                    StreamEnd::Closed => as_clients_see(errors::STOPPED.status()),
                    StreamEnd::Source(reason) => Status::unknown(reason),
                })?,
            };
            for frame in frames {
                match frame {
                    Frame::Events { revision, events, .. } => {
                        self.waiting.extend(events.events().map(|event| (change(event), revision)));
                    }
                    Frame::Canceled { .. } => return Err(as_clients_see(errors::COMPACTED.status())),
                    Frame::Created { .. } | Frame::Progress { .. } => {}
                }
            }
        }
    }
}

fn change(event: &keelson_mvcc::types::Event) -> mvccpb::Event {
    let kind = if event.kind == EventKind::Delete { DELETED } else { 0 };
    mvccpb::Event { r#type: kind, kv: Some(crate::convert::key_value(event.kv.clone())), prev_kv: None }
}

/// The key of a session below a prefix: the lease in hexadecimal, as Go prints it.
pub(super) fn session_key(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix.as_ref(), format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The prefix of the keys of a lock or an election.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Asks for the key below a prefix that was created first.
pub(super) fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: ASCEND,
        sort_target: BY_CREATE_REVISION,
        ..Default::default()
    }
}

/// "The key was created at this revision", 0 for "it does not exist".
pub(super) fn created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        result: 0,
        target: 1,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

pub(super) fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    RequestOp { request: Some(Operation::RequestPut(put)) }
}

pub(super) fn read(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Operation::RequestRange(range)) }
}

/// Deletes a session's key if it is still the one that was created then.
pub(super) fn withdraw(key: &Bytes, created: Revision) -> TxnRequest {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![RequestOp { request: Some(Operation::RequestDeleteRange(delete)) }],
        failure: Vec::new(),
    }
}

/// The first key-value an operation of a transaction found.
pub(super) fn found(answer: Option<&ResponseOp>) -> Option<&mvccpb::KeyValue> {
    match answer?.response.as_ref()? {
        Answer::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

/// Takes the key of a waiting session back unless the wait comes to its end.
pub(super) struct Waiting {
    withdraw: Option<(Recipe, Bytes, Revision)>,
}

impl Waiting {
    pub(super) fn new(recipe: &Recipe, key: &Bytes, created: Revision) -> Self {
        Waiting { withdraw: Some((recipe.clone(), key.clone(), created)) }
    }

    /// The session has what it waited for, and keeps its key.
    pub(super) fn keep(mut self) {
        self.withdraw = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (Some((recipe, key, created)), Ok(runtime)) =
            (self.withdraw.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            if let Err(status) = recipe.txn(withdraw(&key, created)).await {
                tracing::info!(%status, "the key of a caller that gave up stays until its lease ends");
            }
        });
    }
}

/// The smallest key that does not begin with the prefix, or the end that stands for none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return Bytes::from_static(&[0]) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// etcd's services of this kind use its client, which turns the errors it knows into values of its own: they arrive
/// with their text and without their code.
fn as_clients_see(status: Status) -> Status {
    let known = errors::TABLE.iter().any(|error| error.text == status.message());
    match known && status.message().starts_with("etcdserver: ") {
        true => Status::new(Code::Unknown, status.message()),
        false => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_go_writes_them() {
        let prefix = prefix_of(b"n");
        assert_eq!(session_key(&prefix, 0x7f).as_ref(), b"n/7f");
        assert_eq!(session_key(&prefix, -1).as_ref(), b"n/-1");
        assert_eq!(prefix_end(b"n/").as_ref(), b"n0");
        assert_eq!(prefix_end(b"n\xff").as_ref(), b"o");
        assert_eq!(prefix_end(b"\xff").as_ref(), b"\0");
    }
}
