//! Alarm, Status, Defragment, Hash, HashKV, Snapshot, MoveLeader and Downgrade.
//!
//! Owns: the order of steps of each, and the row the running downgrade is kept in. Called by: tonic. Invariants:
//! Defragment and MoveLeader answer without a header, as in etcd; Snapshot sends a bbolt file or nothing (rule 16).
//! Source: etcd `server/etcdserver/api/v3rpc/maintenance.go`, `server/etcdserver/version`.

use bytes::Bytes;
use keelson_mvcc::types::{Alarm, AlarmKind, Command, Outcome, ReadError};
use keelson_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, StatusRequest, StatusResponse,
    maintenance_server::Maintenance,
};
use tonic::{Request, Response, Status};

use super::kv::unexpected;
use crate::{
    backend::View,
    call::{Call, OnLearner},
    errors,
    options::QUOTA_BYTES_DEFAULT,
    snapshot::{self, SnapshotStream},
    state::{AppState, Size},
    validate::ClusterVersion,
};

/// The row that holds the target of a running downgrade.
const DOWNGRADE_ROW: &[u8] = b"downgrade";

pub(super) struct MaintenanceService(pub(super) AppState);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        match request.action {
            0 => state.check_user(&call).await?,
            _ => state.check_admin(&call).await?,
        }
        let kind = alarm_kind(request.alarm);
        let alarms = match (request.action, kind) {
            (0, kind) => {
                state.linearize(&call).await?;
                let mut alarms = state.view().alarms();
                alarms.retain(|alarm| request.alarm == 0 || Some(alarm.kind) == kind);
                alarms
            }
            // An action or a kind nobody knows changes nothing.
            (1, Some(kind)) => {
                let alarm = Alarm { member: request.member_id, kind };
                // Raising again what is raised answers with it, as raising it first did.
                let raised = change_alarm(state, Command::AlarmRaise(alarm), &call).await?;
                if raised.is_empty() { vec![alarm] } else { raised }
            }
            (2, Some(kind)) => {
                let alarm = Alarm { member: request.member_id, kind };
                change_alarm(state, Command::AlarmClear(alarm), &call).await?
            }
            _ => Vec::new(),
        };
        let alarms = alarms.into_iter().map(alarm_member).collect();
        Ok(Response::new(AlarmResponse { header: Some(state.header_now()), alarms }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Allowed)?;
        state.check_user(&call).await?;
        let view = state.view();
        let status = state.consensus.status();
        let mut problems: Vec<String> = Vec::new();
        if status.leader.is_none() {
            problems.push(errors::NO_LEADER.text.to_owned());
        }
        problems.extend(view.alarms().into_iter().map(alarm_text));
        let target = downgrade_target(&*view).map_err(errors::from_read)?;
        let quota_bytes = state.options.quota_bytes;
        Ok(Response::new(StatusResponse {
            header: Some(state.header(view.revision())),
            version: state.options.server_version.clone(),
            db_size: view.size_bytes() as i64,
            leader: status.leader.unwrap_or(0),
            raft_index: status.committed_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors: problems,
            db_size_in_use: view.size_in_use_bytes() as i64,
            is_learner: status.is_learner,
            storage_version: state.options.cluster_version(),
            db_size_quota: if quota_bytes == 0 { QUOTA_BYTES_DEFAULT } else { quota_bytes },
            downgrade_info: Some(DowngradeInfo {
                enabled: target.is_some(),
                target_version: target.unwrap_or_default(),
            }),
        }))
    }

    /// There is nothing to do: the engine compacts in the background and gives space back by itself.
    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let call = self.0.admit(&request, OnLearner::Refused)?;
        self.0.check_admin(&call).await?;
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        state.check_admin(&call).await?;
        let view = state.view();
        let revision = view.revision();
        let hash = state.read_blocking(Size::Long, move || view.hash().map_err(errors::from_read)).await?;
        Ok(Response::new(HashResponse { header: Some(state.header(revision)), hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        state.check_admin(&call).await?;
        let wanted = request.into_inner().revision;
        let view = state.view();
        let revision = view.revision();
        let (hash, compact_revision, hash_revision) =
            state.read_blocking(Size::Long, move || view.hash_kv(wanted).map_err(errors::from_read)).await?;
        let header = Some(state.header(revision));
        Ok(Response::new(HashKvResponse { header, hash, compact_revision, hash_revision }))
    }

    type SnapshotStream = SnapshotStream;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let (call, _) =
            self.0.admit_stream(request.metadata().as_ref(), request.extensions(), OnLearner::Allowed)?;
        self.0.check_admin(&call).await?;
        Ok(Response::new(snapshot::stream(self.0.clone())))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let target = request.into_inner().target_id;
        state.check_admin(&call).await?;
        let transfer = state.consensus.transfer_leader(target, call.timeout);
        transfer.await.map_err(|error| errors::from_transfer(error).status())?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let state = &self.0;
        let call = state.admit(&request, OnLearner::Refused)?;
        let request = request.into_inner();
        state.check_admin(&call).await?;
        let row = Bytes::from_static(DOWNGRADE_ROW);
        match request.action {
            0 => drop(validate_downgrade(state, &request.version, &call).await?),
            1 => {
                let target = validate_downgrade(state, &request.version, &call).await?;
                let value = target.to_string().into_bytes().into();
                state.propose(Command::MetaSet { key: row, value }, &call).await?;
            }
            2 => {
                state.linearize(&call).await?;
                // etcd logs a failed cancellation and answers as if it had worked.
                if downgrade_target(&*state.view()).map_err(errors::from_read)?.is_some() {
                    state.propose(Command::MetaSet { key: row, value: Bytes::new() }, &call).await?;
                }
            }
            _ => return Err(errors::UNKNOWN_METHOD.into()),
        }
        let version = cluster_version(state)?;
        let version = format!("{}.{}", version.major, version.minor);
        Ok(Response::new(DowngradeResponse { header: Some(state.header_now()), version }))
    }
}

async fn change_alarm(state: &AppState, command: Command, call: &Call) -> Result<Vec<Alarm>, Status> {
    match state.propose(command, call).await? {
        (_, Outcome::Alarm(alarms)) => Ok(alarms),
        (_, outcome) => Err(unexpected(&outcome)),
    }
}

async fn validate_downgrade(state: &AppState, version: &str, call: &Call) -> Result<ClusterVersion, Status> {
    let target = ClusterVersion::parse(version)?;
    let current = cluster_version(state)?;
    state.linearize(call).await?;
    if !current.may_downgrade_to(target) {
        return Err(errors::INVALID_DOWNGRADE_TARGET_VERSION.into());
    }
    if downgrade_target(&*state.view()).map_err(errors::from_read)?.is_some() {
        return Err(errors::DOWNGRADE_IN_PROCESS.into());
    }
    Ok(target)
}

fn cluster_version(state: &AppState) -> Result<ClusterVersion, Status> {
    ClusterVersion::parse(&state.options.cluster_version())
        .map_err(|_| errors::CLUSTER_VERSION_UNAVAILABLE.into())
}

/// The version a downgrade under way leads to.
pub(crate) fn downgrade_target(view: &dyn View) -> Result<Option<String>, ReadError> {
    let row = view.meta(DOWNGRADE_ROW)?;
    Ok(row.map(|row| String::from_utf8_lossy(&row).into_owned()))
}

fn alarm_kind(number: i32) -> Option<AlarmKind> {
    match number {
        1 => Some(AlarmKind::NoSpace),
        2 => Some(AlarmKind::Corrupt),
        _ => None,
    }
}

fn alarm_member(alarm: Alarm) -> AlarmMember {
    AlarmMember { member_id: alarm.member, alarm: alarm.kind as i32 }
}

/// An alarm as `Status.errors` shows it: the message printed, without fields that are zero, and with a space at the
/// end.
fn alarm_text(alarm: Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    match alarm.member {
        0 => format!("alarm:{kind} "),
        member => format!("memberID:{member} alarm:{kind} "),
    }
}
