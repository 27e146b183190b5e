//! Put, DeleteRange, Txn and Compact; Range and RangeStream have files of their own.
//!
//! Owns: the order of steps of each. Called by: tonic. Invariants: a write is answered with the revision of its own
//! apply on this member; a linearizable read looks at a view taken after its read-index round.
//! A Put spawns nothing and copies no value beyond what the proposer encodes.
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`, `v3_server.go`.

use keelson_mvcc::auth::{Access, check_txn};
use keelson_mvcc::types::{Command, KeyRange, Outcome};
use keelson_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server::Kv,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::range_stream::RangeChunks;
use crate::{
    call::{Call, OnLearner},
    convert, errors,
    quota::{put_cost, txn_cost},
    state::{AppState, Size},
    validate,
};

/// What etcd's internal envelope adds to a request at least: a header with an id, and the tag and length of the
/// request in it. The limit on a request's size is one on the envelope.
const ENVELOPE_BYTES: usize = 14 + 2;

pub(super) struct KvService(pub(super) AppState);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        // The router answers this method itself; a caller of the trait gets the same from the general path.
        let (metadata, extensions, request) = request.into_parts();
        super::range::answer(&self.0, metadata.as_ref(), &extensions, request).await.map(Response::new)
    }

    type RangeStreamStream = RangeChunks;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<RangeChunks>, Status> {
        let state = &self.0;
        let (call, _) =
            state.admit_stream(request.metadata().as_ref(), request.extensions(), OnLearner::Refused)?;
        let request = request.into_inner();
        validate::range_stream(&request)?;
        if !request.serializable {
            state.linearize(&call).await?;
        }
        let (view, caller) = state.reader(&call).await?;
        let range = KeyRange { key: request.key.clone(), end: request.range_end.clone() };
        view.auth().check(caller.as_ref(), Access::Read, &range).map_err(errors::from_auth)?;
        let judged_at = caller.map(|caller| caller.auth_revision);
        Ok(Response::new(super::range_stream::chunks(state.clone(), request, judged_at)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        state.check_quota(put_cost(&request), &call).await?;
        validate::put(&request)?;
        check_size(state, request.encoded_len(), &call).await?;
        let (revision, outcome) = state.propose(Command::Put(convert::put(request)), &call).await?;
        let Outcome::Put { prev } = outcome else { return Err(unexpected(&outcome)) };
        let header = Some(state.header(revision));
        Ok(Response::new(PutResponse { header, prev_kv: prev.map(convert::key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        validate::delete_range(&request)?;
        check_size(state, request.encoded_len(), &call).await?;
        let command = Command::DeleteRange(convert::delete_range(request));
        let (revision, outcome) = state.propose(command, &call).await?;
        let Outcome::DeleteRange { deleted, prev } = outcome else { return Err(unexpected(&outcome)) };
        Ok(Response::new(DeleteRangeResponse {
            header: Some(state.header(revision)),
            deleted,
            prev_kvs: prev.into_iter().map(convert::key_value).collect(),
        }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        state.check_quota(txn_cost(&request), &call).await?;
        validate::txn(&request, state.options.txn_ops_max)?;
        if validate::txn_is_read_only(&request) {
            if !validate::txn_is_serializable(&request) {
                state.linearize(&call).await?;
            }
            let txn = convert::txn(request);
            let (view, caller) = state.reader(&call).await?;
            check_txn(view.auth(), caller.as_ref(), &txn).map_err(errors::from_auth)?;
            let revision = view.revision();
            let reply = state
                .read_blocking(Size::Short, move || view.txn_read_only(&txn).map_err(errors::from_read))
                .await?;
            return Ok(Response::new(convert::txn_response(state.header(revision), reply)));
        }
        check_size(state, request.encoded_len(), &call).await?;
        let (revision, outcome) = state.propose(Command::Txn(convert::txn(request)), &call).await?;
        let Outcome::Txn(reply) = outcome else { return Err(unexpected(&outcome)) };
        Ok(Response::new(convert::txn_response(state.header(revision), reply)))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        state.check_admin(&call).await?;
        state.propose(convert::command_compact(&request), &call).await?;
        if request.physical {
            state.compaction_settled(request.revision).await;
        }
        Ok(Response::new(CompactionResponse { header: Some(state.header_now()) }))
    }
}

async fn check_size(state: &AppState, encoded_bytes: usize, call: &Call) -> Result<(), Status> {
    let length_bytes = prost::length_delimiter_len(encoded_bytes);
    if encoded_bytes + length_bytes + ENVELOPE_BYTES > state.options.request_bytes_max {
        // A wrong token is told first.
        state.visitor(call).await?;
        return Err(errors::REQUEST_TOO_LARGE.into());
    }
    Ok(())
}

/// A command was answered with another command's outcome: a bug below, contained to this request.
pub(super) fn unexpected(outcome: &Outcome) -> Status {
    tracing::error!(?outcome, "a command got the reply of another");
    Status::internal("a command got the reply of another")
}
