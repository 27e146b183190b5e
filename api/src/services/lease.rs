//! LeaseGrant, LeaseRevoke, LeaseTimeToLive and LeaseLeases; LeaseKeepAlive has a file of its own.
//!
//! Owns: the order of steps of each. Called by: tonic. Invariants: an unknown lease is no error for a question (-1).
//! Source: etcd `server/etcdserver/api/v3rpc/lease.go`.

use bytes::Bytes;
use futures::stream;
use keelson_mvcc::auth::{Access, Caller};
use keelson_mvcc::types::{AlarmKind, Command, KeyRange, LeaseId, Outcome};
use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, lease_server::Lease,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::kv::unexpected;
use crate::{
    backend::View,
    call::{Call, OnLearner},
    errors,
    options::LEASE_TTL_S_MAX,
    quota::LEASE_COST_BYTES,
    state::{AppState, Lifecycle},
};

/// Ids tried when a server-chosen one is taken.
const ID_ATTEMPTS: usize = 3;

pub(super) struct LeaseService(pub(super) AppState);

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let LeaseGrantRequest { id: wanted, ttl } = request.into_inner();
        state.check_quota(LEASE_COST_BYTES, &call).await?;
        state.check_user(&call).await?;
        if ttl > LEASE_TTL_S_MAX {
            return Err(refuse_ttl(state, &call).await);
        }
        let ttl_s = state.leases.effective_ttl_s(ttl);
        let mut attempts = ID_ATTEMPTS;
        let (revision, outcome) = loop {
            let id = if wanted == 0 { state.leases.next_id() } else { wanted };
            attempts -= 1;
            match state.propose(Command::LeaseGrant { id, ttl_s }, &call).await {
                // A client once chose the number we came to: take the next one.
                Err(status)
                    if wanted == 0 && attempts > 0 && status.message() == errors::LEASE_EXISTS.text => {}
                answer => break answer?,
            }
        };
        let Outcome::LeaseGrant { id, ttl_s } = outcome else { return Err(unexpected(&outcome)) };
        let header = Some(state.header(revision));
        Ok(Response::new(LeaseGrantResponse { header, id, ttl: ttl_s, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let id = request.into_inner().id;
        state.check_user(&call).await?;
        let (revision, _) = state.propose(Command::LeaseRevoke { id, term: None }, &call).await?;
        Ok(Response::new(LeaseRevokeResponse { header: Some(state.header(revision)) }))
    }

    type LeaseKeepAliveStream = stream::Empty<Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        _: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        unreachable!("the router answers this method itself, see `keep_alive`")
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        // Who asks for no keys only has to be somebody.
        let of = if keys { &[id][..] } else { &[] };
        check_leases(state, &call, Access::Read, of).await?;
        let found =
            state.leases.time_to_live(id, keys, call.timeout).await.map_err(|error| call.status(error))?;
        if let Some(found) = &found {
            // The keys are the leader's, which may have been ahead of what was looked at here.
            let (view, caller) = state.visitor(&call).await?;
            check_keys(&*view, caller.as_ref(), Access::Read, &found.keys)?;
        }
        let header = Some(state.header_now());
        Ok(Response::new(match found {
            Some(found) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: found.ttl_s,
                granted_ttl: found.granted_s,
                keys: found.keys,
            },
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let leases = state.leases.list().map_err(errors::from_read)?;
        check_leases(state, &call, Access::Read, &leases).await?;
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: Some(state.header_now()), leases }))
    }
}

/// Why a grant is refused whose time to live is too large. etcd finds that out when it applies the grant, so a raised
/// alarm refuses it first.
async fn refuse_ttl(state: &AppState, call: &Call) -> Status {
    if let Err(status) = state.linearize(call).await {
        return status;
    }
    let alarms = state.view().alarms();
    let raised = |kind| alarms.iter().any(|alarm| alarm.kind == kind);
    if raised(AlarmKind::Corrupt) {
        errors::CORRUPT.into()
    } else if raised(AlarmKind::NoSpace) {
        errors::NO_SPACE.into()
    } else {
        errors::LEASE_TTL_TOO_LARGE.into()
    }
}

/// Refuses nobody, and a caller that may not do this with every key attached to these leases.
pub(super) async fn check_leases(
    state: &AppState,
    call: &Call,
    access: Access,
    leases: &[LeaseId],
) -> Result<(), Status> {
    let (view, caller) = state.visitor(call).await?;
    if !view.auth().is_enabled() {
        return Ok(());
    }
    let caller = caller.ok_or(errors::USER_EMPTY)?;
    if view.auth().check_admin(Some(&caller)).is_ok() {
        return Ok(());
    }
    for id in leases {
        let keys = view.lease_keys(*id).map_err(errors::from_read)?;
        check_keys(&*view, Some(&caller), access, &keys)?;
    }
    Ok(())
}

fn check_keys(
    view: &dyn View,
    caller: Option<&Caller>,
    access: Access,
    keys: &[Bytes],
) -> Result<(), Status> {
    for key in keys {
        let key = KeyRange::single(key.clone());
        view.auth().check(caller, access, &key).map_err(errors::from_auth)?;
    }
    Ok(())
}

/// Completes with the reason once an open stream must end from our side.
pub(super) async fn ended(lifecycle: &mut watch::Receiver<Lifecycle>, needs_leader: bool) -> Status {
    let leaderless = lifecycle.borrow().leaderless;
    let over =
        |now: &Lifecycle| now.stopping || now.isolated || (needs_leader && now.leaderless != leaderless);
    match lifecycle.wait_for(over).await {
        Ok(now) if now.stopping => errors::STOPPED.into(),
        Ok(now) if now.isolated => errors::CORRUPT.into(),
        Ok(_) => errors::NO_LEADER.into(),
        Err(_) => errors::STOPPED.into(),
    }
}
