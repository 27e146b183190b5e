//! The state of the member as probes see it.
//!
//! Called by: the HTTP endpoints of the edge. Owns no state. Invariants: the reads go the way of clients' reads.

use keelson_api::AppState;
use keelson_api::edge::http::source::ReadResult;
use keelson_api::edge::http::{AlarmKind, HealthError, HealthSource, Versions};
use keelson_mvcc::types as mvcc;

/// A port on the services' state.
pub(super) struct Health(pub(super) AppState);

impl HealthSource for Health {
    fn alarms(&self) -> Vec<AlarmKind> {
        let kind = |alarm: mvcc::Alarm| match alarm.kind {
            mvcc::AlarmKind::NoSpace => AlarmKind::NoSpace,
            mvcc::AlarmKind::Corrupt => AlarmKind::Corrupt,
        };
        self.0.view().alarms().into_iter().map(kind).collect()
    }

    fn has_leader(&self) -> bool {
        let status = self.0.consensus.status();
        status.leader.is_some() && !status.disk_stalled
    }

    fn is_learner(&self) -> bool {
        self.0.consensus.status().is_learner
    }

    fn linearizable_read(&self) -> ReadResult<'_> {
        Box::pin(async {
            let round = self.0.consensus.read_index(self.0.options.request_timeout());
            round.await.map_err(|error| HealthError(format!("etcdserver: {error}")))?;
            read(&self.0)
        })
    }

    fn serializable_read(&self) -> ReadResult<'_> {
        Box::pin(async { read(&self.0) })
    }

    fn versions(&self) -> Versions {
        let cluster = self.0.options.cluster_version();
        Versions {
            server: self.0.options.server_version.clone(),
            cluster: Some(cluster.clone()),
            storage: Some(cluster),
        }
    }
}

/// The key that etcd's own health check reads, too.
fn read(state: &AppState) -> Result<(), HealthError> {
    state.view().get(b"health").map(drop).map_err(|error| HealthError(error.to_string()))
}
