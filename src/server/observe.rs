//! Ties numbers that the parts of the member count anyway to the metrics under which operators know them.
//!
//! Owns: the observers of log and apply. Called by: `server`. Invariants: reading a metric never blocks a request; nothing is counted twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::feature_gates::FeatureGates;
use keelson_api::AppState;
use keelson_api::edge::listener::EdgeStats;
use keelson_api::edge::metrics::EtcdMetrics;
use keelson_mvcc::auth::Login;
use keelson_mvcc::lessor::LeaseChange;
use keelson_mvcc::types::KeyRange;
use keelson_raftstore::consensus::ApplyObserver;
use keelson_wal::writer::{Observer, SyncSample};

/// A log sync that takes longer gets a line in the log; etcd's figure.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// Feeds the durations and sizes of log syncs into etcd's histograms.
pub(super) struct LogObserver(pub(super) Arc<EtcdMetrics>);

impl Observer for LogObserver {
    fn synced(&mut self, sample: &SyncSample) {
        self.0.disk.wal_fsync.observe_duration(sample.duration);
        self.0.disk.wal_write_bytes.add(sample.bytes as f64);
        if sample.duration > SLOW_SYNC {
            tracing::warn!(
                took = ?sample.duration,
                "expected-duration" = ?SLOW_SYNC,
                bytes = sample.bytes,
                "slow fdatasync"
            );
        }
    }
}

/// Passes on what was applied, counts it, and complains of what was slow.
pub(super) struct Applied {
    metrics: Arc<EtcdMetrics>,
    state: AppState,
    slow: Duration,
}

impl Applied {
    /// `slow`: a group of entries that takes longer gets a line in the log.
    pub(super) fn new(metrics: &Arc<EtcdMetrics>, state: &AppState, slow: Duration) -> Self {
        Applied { metrics: metrics.clone(), state: state.clone(), slow }
    }
}

impl ApplyObserver for Applied {
    fn applied(&self, changes: &[LeaseChange]) {
        let mvcc = &self.metrics.mvcc;
        for change in changes {
            match change {
                LeaseChange::Granted { ttl_s, .. } => {
                    mvcc.lease_granted.inc();
                    mvcc.lease_ttl.observe(*ttl_s as f64);
                }
                LeaseChange::Revoked { .. } => mvcc.lease_revoked.inc(),
            }
        }
        self.state.applied(changes);
    }

    fn logged_in(&self, logins: &[Login]) {
        self.state.logged_in(logins);
    }

    fn group_written(&self, took: Duration, entries: usize, index: u64) {
        self.metrics.disk.backend_commit.observe_duration(took);
        if took > self.slow {
            self.metrics.server.slow_apply.inc();
            tracing::warn!(
                took = ?took,
                "expected-duration" = ?self.slow,
                entries,
                index,
                "apply request took too long"
            );
        }
    }
}

/// Lets the gauges follow the state.
pub(super) fn follow(metrics: &EtcdMetrics, state: &AppState) {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    macro_rules! follow {
        ($($metric:expr => |$state:ident| $value:expr;)*) => {$({
            let $state = state.clone();
            $metric.follow(move || $value);
        })*};
    }
    let (server, mvcc) = (&metrics.server, &metrics.mvcc);
    follow! {
        server.has_leader => |state| flag(state.consensus.status().leader.is_some());
        server.is_leader => |state| flag(state.consensus.status().is_leader);
        server.is_learner => |state| flag(state.consensus.status().is_learner);
        server.proposals_committed => |state| state.consensus.status().committed_index as f64;
        server.proposals_applied => |state| state.consensus.status().applied_index as f64;
        server.proposals_pending => |state| state.consensus.diagnostics().proposals_waiting as f64;
        server.proposals_failed => |state| state.consensus.diagnostics().proposals_failed as f64;
        server.read_indexes_failed => |state| state.consensus.diagnostics().reads_failed as f64;
        server.auth_revision => |state| state.view().auth().revision() as f64;
        mvcc.db_total_size => |state| state.view().size_bytes() as f64;
        mvcc.db_total_size_in_use => |state| state.view().size_in_use_bytes() as f64;
        mvcc.current_revision => |state| state.view().revision() as f64;
        mvcc.keys => |state| state.view().count(&everything(), 0).unwrap_or(0) as f64;
        mvcc.watchers => |state| state.hub.stats().watchers as f64;
        mvcc.watch_streams => |state| state.hub.stats().streams as f64;
        mvcc.slow_watchers => |state| state.hub.stats().slow_watchers as f64;
        mvcc.pending_events => |state| state.hub.stats().pending_events as f64;
        mvcc.events => |state| state.hub.stats().delivered_total as f64;
        mvcc.compact_revision => |state| state.view().compacted() as f64;
    }
    server.quota_backend_bytes.set(state.options.quota_bytes_effective().unwrap_or(0) as f64);
    metrics.identify(&state.options.server_version, state.options.member_id);
    metrics.set_cluster_version(&state.options.cluster_version());
}

/// The range of all keys.
fn everything() -> KeyRange {
    KeyRange { key: Bytes::from_static(&[0]), end: Bytes::from_static(&[0]) }
}

/// Shows the feature gates as given.
pub(super) fn feature_gates(metrics: &EtcdMetrics, gates: &FeatureGates) {
    for (name, stage, on) in gates.iter() {
        metrics.server.feature_enabled.with(&[name, stage]).set_bool(on);
    }
}

/// Lets the byte counters of clients follow those of the client port.
pub(super) fn client_bytes(metrics: &EtcdMetrics, stats: &Arc<EdgeStats>) {
    let (received, sent) = (Arc::clone(stats), Arc::clone(stats));
    metrics.network.client_grpc_received_bytes.follow(move || received.received_bytes() as f64);
    metrics.network.client_grpc_sent_bytes.follow(move || sent.sent_bytes() as f64);
}

/// Counts changes of leader until the member stops.
pub(super) async fn count_leader_changes(metrics: Arc<EtcdMetrics>, state: AppState) {
    let mut last = None;
    loop {
        let changed = state.consensus.changed();
        let leader = state.consensus.status().leader;
        if leader.is_some() && leader != last {
            metrics.server.leader_changes.inc();
            last = leader;
        }
        changed.await;
    }
}
