//! MemberAdd, MemberRemove, MemberUpdate, MemberList and MemberPromote.
//!
//! Owns: the order of steps of each. Called by: tonic. Invariants: headers of this service have revision 0, as in etcd;
//! whether a change is safe is judged by the consensus, not here.
//! Source: etcd `server/etcdserver/api/v3rpc/member.go`.

use bytes::Bytes;
use keelson_mvcc::types::Command;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader, cluster_server::Cluster,
};
use keelson_raftstore::consensus::{MemberError, NewMember};
use tonic::{Request, Response, Status};

use crate::{
    call::{Call, OnLearner},
    errors, members,
    state::AppState,
    validate,
};

pub(super) struct ClusterService(pub(super) AppState);

impl ClusterService {
    fn header(&self) -> Option<ResponseHeader> {
        Some(self.0.header(0))
    }
}

fn refused(error: &MemberError, call: &Call) -> Status {
    errors::from_member(error).map_or_else(|status| status, |error| call.status(error))
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        let peer_urls = validate::peer_urls(&request.peer_ur_ls)?;
        state.check_admin(&call).await?;
        let now_s = state.clock.unix_ms() / 1000;
        let id = members::new_member_id(&peer_urls, &state.options.cluster_token, Some(now_s));
        let member = NewMember { id, peer_urls: peer_urls.clone(), learner: request.is_learner };
        state.consensus.add_member(member, call.timeout).await.map_err(|error| refused(&error, &call))?;
        let member =
            Member { id, peer_ur_ls: peer_urls, is_learner: request.is_learner, ..Default::default() };
        let members = members::list(state);
        Ok(Response::new(MemberAddResponse { header: self.header(), member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let id = request.into_inner().id;
        state.check_admin(&call).await?;
        state.consensus.remove_member(id, call.timeout).await.map_err(|error| refused(&error, &call))?;
        let forget = Command::MetaSet { key: members::attributes_key(id), value: Bytes::new() };
        if let Err(status) = state.propose(forget, &call).await {
            // The member is gone all the same, and its row is never read again.
            tracing::info!(id, %status, "attributes of a removed member stay behind");
        }
        let members = members::list(state);
        Ok(Response::new(MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        state.check_admin(&call).await?;
        let peer_urls = validate::peer_urls(&request.peer_ur_ls)?;
        let update = state.consensus.update_member(request.id, peer_urls, call.timeout);
        update.await.map_err(|error| refused(&error, &call))?;
        let members = members::list(state);
        Ok(Response::new(MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        if request.get_ref().linearizable {
            state.linearize(&call).await?;
        }
        state.check_user(&call).await?;
        let members = members::list(state);
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let id = request.into_inner().id;
        state.check_admin(&call).await?;
        state.consensus.promote_member(id, call.timeout).await.map_err(|error| refused(&error, &call))?;
        let members = members::list(state);
        Ok(Response::new(MemberPromoteResponse { header: self.header(), members }))
    }
}
