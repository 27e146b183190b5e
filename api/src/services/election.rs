//! The Election service: one leader per name, and a value it proclaims.
//!
//! Owns: the five methods. Called by: tonic. Invariant: the leader is the session whose key below the name was created
//! first; only that session changes its value or resigns, because both compare the revision the key was created at.
//! Source: etcd `server/etcdserver/api/v3election/election.go`, `client/v3/concurrency/election.go`.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, stream};
use keelson_proto::etcdserverpb::{RangeRequest, ResponseHeader, TxnRequest};
use keelson_proto::mvccpb::KeyValue;
use keelson_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse, election_server::Election,
};
use tonic::{Request, Response, Status};

use super::recipes::{
    Changes, DELETED, Recipe, Waiting, created_at, found, oldest, prefix_of, put, read, session_key, withdraw,
};
use crate::{errors, state::AppState};

pub(super) struct ElectionService(pub(super) AppState);

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let lease = recipe.lease(request.lease).await?;
        let prefix = prefix_of(&request.name);
        let key = session_key(&prefix, lease);
        let own = RangeRequest { key: key.clone(), ..Default::default() };
        let entered = recipe
            .txn(TxnRequest {
                compare: vec![created_at(&key, 0)],
                success: vec![put(&key, request.value.clone(), lease)],
                failure: vec![read(own)],
            })
            .await?;
        let mut header = entered.header;
        let mut created = header.unwrap_or_default().revision;
        let before = found(entered.responses.first()).filter(|_| !entered.succeeded);
        if let Some(before) = before {
            created = before.create_revision;
        }
        let waiting = Waiting::new(&recipe, &key, created);
        if before.is_some_and(|before| before.value != request.value) {
            proclaim(&recipe, &key, created, request.value, lease).await?;
        }
        recipe.wait_for_turn(&prefix, created - 1).await?;
        waiting.keep();
        let leader = Some(LeaderKey { name: request.name, key, rev: created, lease });
        Ok(Response::new(CampaignResponse { header: header.take(), leader }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let leader = request.leader.ok_or(errors::ELECTION_LEADER_MISSING)?;
        let lease = recipe.lease(leader.lease).await?;
        let header = proclaim(&recipe, &leader.key, leader.rev, request.value, lease).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let found = recipe.range(oldest(&prefix_of(&request.name))).await?;
        let kv = found.kvs.into_iter().next().ok_or(errors::ELECTION_NO_LEADER)?;
        Ok(Response::new(LeaderResponse { header: found.header, kv: Some(kv) }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let observer = Observer { recipe, prefix: prefix_of(&request.name), leader: None };
        let answers = stream::unfold(observer, |mut observer| async {
            // Whatever ends the watch ends the stream, without a reason, as in etcd.
            match observer.next().await {
                Ok(answer) => Some((Ok(answer), observer)),
                Err(status) => {
                    tracing::debug!(%status, "an observer of an election ends");
                    None
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let (recipe, request) = Recipe::of(&self.0, request)?;
        let leader = request.leader.ok_or(errors::ELECTION_LEADER_MISSING)?;
        recipe.lease(leader.lease).await?;
        // Not leading any more is as good as having resigned.
        let answer = recipe.txn(withdraw(&leader.key, leader.rev)).await?;
        Ok(Response::new(ResignResponse { header: answer.header }))
    }
}

/// Changes the value of a leader that still leads.
async fn proclaim(
    recipe: &Recipe,
    key: &Bytes,
    created: i64,
    value: Bytes,
    lease: i64,
) -> Result<Option<ResponseHeader>, Status> {
    let txn = TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![put(key, value, lease)],
        failure: Vec::new(),
    };
    let answer = recipe.txn(txn).await?;
    if answer.succeeded { Ok(answer.header) } else { Err(errors::ELECTION_NOT_LEADER.into()) }
}

/// Follows who leads, and what it proclaims.
struct Observer {
    recipe: Recipe,
    prefix: Bytes,
    /// The changes of the present leader's key.
    leader: Option<Changes>,
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        if let Some(changes) = &mut self.leader {
            let (event, revision) = changes.next().await?;
            if event.r#type != DELETED {
                return Ok(self.answer(revision, event.kv.unwrap_or_default()));
            }
        }
        let (revision, kv) = self.present().await?;
        self.leader = Some(self.recipe.follow(kv.key.clone(), revision + 1).await?);
        Ok(self.answer(revision, kv))
    }

    /// The leader as of now, or the first one to come.
    async fn present(&self) -> Result<(i64, KeyValue), Status> {
        let found = self.recipe.range(oldest(&self.prefix)).await?;
        let revision = found.header.unwrap_or_default().revision;
        if let Some(kv) = found.kvs.into_iter().next() {
            return Ok((revision, kv));
        }
        let mut changes = self.recipe.follow_below(&self.prefix, revision).await?;
        loop {
            let (event, _) = changes.next().await?;
            if let (false, Some(kv)) = (event.r#type == DELETED, event.kv) {
                return Ok((kv.mod_revision, kv));
            }
        }
    }

    fn answer(&self, revision: i64, kv: KeyValue) -> LeaderResponse {
        LeaderResponse { header: Some(self.recipe.header(revision)), kv: Some(kv) }
    }
}
