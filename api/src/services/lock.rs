//! The Lock service: named locks, held by whoever came first and lives.
//!
//! Owns: the two methods. Called by: tonic. Invariant: the lock belongs to the session whose key below the name was
//! created first; it ends with its key, so with the session's lease at the latest.
//! Source: etcd `server/etcdserver/api/v3lock/lock.go`, `client/v3/concurrency/mutex.go`.

use bytes::Bytes;
use keelson_proto::etcdserverpb::{RangeRequest, TxnRequest};
use keelson_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock};
use tonic::{Request, Response, Status};

use super::recipes::{Recipe, Waiting, created_at, found, oldest, prefix_of, put, read, session_key};
use crate::{errors, state::AppState};

pub(super) struct LockService(pub(super) AppState);

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let lease = recipe.lease(request.lease).await?;
        let prefix = prefix_of(&request.name);
        let key = session_key(&prefix, lease);
        let own = RangeRequest { key: key.clone(), ..Default::default() };
        let txn = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, Bytes::new(), lease), read(oldest(&prefix))],
            failure: vec![read(own.clone()), read(oldest(&prefix))],
        };
        let entered = recipe.txn(txn).await?;
        let revision = entered.header.unwrap_or_default().revision;
        let created = match entered.succeeded {
            true => revision,
            false => found(entered.responses.first()).map_or(revision, |own| own.create_revision),
        };
        if found(entered.responses.get(1)).is_none_or(|owner| owner.create_revision == created) {
            return Ok(Response::new(LockResponse { header: entered.header, key }));
        }
        let waiting = Waiting::new(&recipe, &key, created);
        recipe.wait_for_turn(&prefix, created - 1).await?;
        let still = recipe.range(own).await?;
        waiting.keep();
        if still.kvs.is_empty() {
            return Err(errors::LOCK_SESSION_EXPIRED.into());
        }
        Ok(Response::new(LockResponse { header: still.header, key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let deleted = recipe.delete(request.key).await?;
        Ok(Response::new(UnlockResponse { header: deleted.header }))
    }
}
