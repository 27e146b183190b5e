//! etcd's metric catalogue: names, labels and buckets.
//!
//! Owns: [`EtcdMetrics`], one field per family that makes sense here. Invariants: names, label names, types and
//! buckets are etcd 3.7's (counters that etcd exposes as gauges stay gauges); help texts are our own.
//! Called by: the components that measure, each with its group; `follow` binds a family to a number that somebody
//! counts already. Source: metrics.go files of etcd server/{etcdserver,storage,lease} and below.
//!
//! Left out on purpose: `go_*` and `etcd_server_go_version` (this is no Go program), `etcd_grpc_proxy_*` and
//! `etcd_debugging_store_*` (no such parts), `..._backend_commit_{rebalance,spill,write}_...` (bbolt's inner steps).

use std::sync::Arc;

use super::instruments::{Counter, Gauge, Histogram, Labeled, doubling};
use super::registry::Registry;

macro_rules! catalogue {
    ($(
        $(#[$group_doc:meta])* $group:ident {
            $( $field:ident : $kind:ident $(($($argument:expr),+))? = $name:literal, $help:literal; )*
        }
    )*) => {
        $(
            $(#[$group_doc])*
            #[derive(Debug)]
            pub struct $group {
                $( #[doc = concat!("`", $name, "`: ", $help)] pub $field: catalogue!(@type $kind), )*
            }

            impl $group {
                fn new(registry: &Registry) -> Self {
                    $group { $( $field: registry.$kind($name, $help $($(, $argument)+)?), )* }
                }
            }
        )*
    };
    (@type counter) => { Arc<Counter> };
    (@type counters) => { Arc<Labeled<Counter>> };
    (@type gauge) => { Arc<Gauge> };
    (@type gauges) => { Arc<Labeled<Gauge>> };
    (@type histogram) => { Arc<Histogram> };
    (@type histograms) => { Arc<Labeled<Histogram>> };
}

catalogue! {
    /// State and work of this member.
    ServerMetrics {
        has_leader: gauge = "etcd_server_has_leader", "1 while a leader is known by a recent quorum, else 0.";
        is_leader: gauge = "etcd_server_is_leader", "1 while this member leads, else 0.";
        is_learner: gauge = "etcd_server_is_learner", "1 while this member is a learner, else 0.";
        leader_changes: counter = "etcd_server_leader_changes_seen_total", "Changes of leader seen by this member.";
        learner_promote_failures: counters(&["Reason"]) = "etcd_server_learner_promote_failures", "Promotions refused by this member as leader.";
        learner_promote_successes: counter = "etcd_server_learner_promote_successes", "Promotions carried out by this member as leader.";
        heartbeat_send_failures: counter = "etcd_server_heartbeat_send_failures_total", "Heartbeats the leader could not send in time.";
        snapshot_apply_in_progress: gauge = "etcd_server_snapshot_apply_in_progress_total", "1 while a received snapshot is being installed.";
        proposals_committed: gauge = "etcd_server_proposals_committed_total", "Index of the last committed log entry.";
        proposals_applied: gauge = "etcd_server_proposals_applied_total", "Index of the last applied log entry.";
        proposals_pending: gauge = "etcd_server_proposals_pending", "Proposals waiting for their result.";
        proposals_failed: counter = "etcd_server_proposals_failed_total", "Proposals that failed or timed out.";
        read_indexes_failed: counter = "etcd_server_read_indexes_failed_total", "Read index rounds that failed.";
        slow_read_indexes: counter = "etcd_server_slow_read_indexes_total", "Read index rounds that were slow or timed out.";
        slow_apply: counter = "etcd_server_slow_apply_total", "Applied groups that took longer than the warning limit.";
        quota_backend_bytes: gauge = "etcd_server_quota_backend_bytes", "Quota of the store in bytes.";
        request_duration: histograms(&["success", "type"], doubling(0.001, 14)) = "etcd_server_request_duration_seconds", "Time from proposal or read to its result.";
        apply_duration: histograms(&["op", "success", "version"], doubling(0.0001, 20)) = "etcd_server_apply_duration_seconds", "Time to apply a request.";
        range_duration: histograms(&["success"], doubling(0.0001, 20)) = "etcd_server_range_duration_seconds", "Time to serve a range.";
        version: gauges(&["server_version"]) = "etcd_server_version", "1 for the version this server reports.";
        id: gauges(&["server_id"]) = "etcd_server_id", "1 for this member's id in hexadecimal.";
        feature_enabled: gauges(&["name", "stage"]) = "etcd_server_feature_enabled", "1 for each feature gate that is on, 0 for those off.";
        cluster_version: gauges(&["cluster_version"]) = "etcd_cluster_version", "1 for the version the cluster has agreed on.";
        health_success: counter = "etcd_server_health_success", "Calls of /health that answered true.";
        health_failures: counter = "etcd_server_health_failures", "Calls of /health that answered false.";
        healthcheck: gauges(&["name", "type"]) = "etcd_server_healthcheck", "Last result of each check of /livez and /readyz: 1 good, 0 bad.";
        healthchecks: counters(&["name", "status", "type"]) = "etcd_server_healthchecks_total", "Results of the checks of /livez and /readyz.";
        alarms: gauges(&["alarm_type", "server_id"]) = "etcd_debugging_server_alarms", "1 for each alarm that is raised.";
        lease_expired: counter = "etcd_debugging_server_lease_expired_total", "Leases revoked because they ended.";
        auth_revision: gauge = "etcd_debugging_auth_revision", "Revision of users, roles and permissions.";
    }

    /// Log and store on disk.
    DiskMetrics {
        wal_fsync: histogram(doubling(0.001, 14)) = "etcd_disk_wal_fsync_duration_seconds", "Time of a log sync.";
        wal_write: histogram(doubling(0.001, 14)) = "etcd_disk_wal_write_duration_seconds", "Time of a log write.";
        wal_write_bytes: gauge = "etcd_disk_wal_write_bytes_total", "Bytes written to the log.";
        backend_commit: histogram(doubling(0.001, 14)) = "etcd_disk_backend_commit_duration_seconds", "Time of a write of applied requests to the store.";
        backend_defrag: histogram(doubling(0.1, 13)) = "etcd_disk_backend_defrag_duration_seconds", "Time of a defragmentation.";
        backend_snapshot: histogram(doubling(0.01, 17)) = "etcd_disk_backend_snapshot_duration_seconds", "Time to send a snapshot to a client.";
        defrag_inflight: gauge = "etcd_disk_defrag_inflight", "1 while a defragmentation runs.";
        snap_fsync: histogram(doubling(0.001, 14)) = "etcd_snap_fsync_duration_seconds", "Time to sync a snapshot's description.";
        snap_db_fsync: histogram(doubling(0.001, 14)) = "etcd_snap_db_fsync_duration_seconds", "Time to sync a received snapshot.";
        snap_db_save: histogram(doubling(0.1, 10)) = "etcd_snap_db_save_total_duration_seconds", "Time to receive and store a snapshot.";
    }

    /// Keys, revisions and watchers.
    MvccMetrics {
        db_total_size: gauge = "etcd_mvcc_db_total_size_in_bytes", "Bytes of the store on disk.";
        db_total_size_in_use: gauge = "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the store that hold live data.";
        db_open_read_transactions: gauge = "etcd_mvcc_db_open_read_transactions", "Read views that are held open.";
        put: counter = "etcd_mvcc_put_total", "Puts seen by this member.";
        delete: counter = "etcd_mvcc_delete_total", "Deletes seen by this member.";
        range: counter = "etcd_mvcc_range_total", "Ranges seen by this member.";
        txn: counter = "etcd_mvcc_txn_total", "Transactions seen by this member.";
        hash: histogram(doubling(0.01, 15)) = "etcd_mvcc_hash_duration_seconds", "Time to hash the whole store.";
        hash_rev: histogram(doubling(0.01, 15)) = "etcd_mvcc_hash_rev_duration_seconds", "Time to hash the store up to a revision.";
        keys: gauge = "etcd_debugging_mvcc_keys_total", "Keys.";
        current_revision: gauge = "etcd_debugging_mvcc_current_revision", "Current revision.";
        compact_revision: gauge = "etcd_debugging_mvcc_compact_revision", "Revision of the last compaction.";
        db_compaction_keys: counter = "etcd_debugging_mvcc_db_compaction_keys_total", "Versions removed by compaction.";
        db_compaction_last: gauge = "etcd_debugging_mvcc_db_compaction_last", "Time of the last compaction, seconds since the Unix epoch; 0 before the first.";
        db_compaction_pause_ms: histogram(doubling(1.0, 13)) = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Time one slice of compaction holds others up.";
        db_compaction_total_ms: histogram(doubling(100.0, 14)) = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Time of a whole compaction.";
        index_compaction_pause_ms: histogram(doubling(0.5, 14)) = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Time compaction of the key index holds others up.";
        events: counter = "etcd_debugging_mvcc_events_total", "Watch events sent by this member.";
        pending_events: gauge = "etcd_debugging_mvcc_pending_events_total", "Watch events waiting to be sent.";
        slow_watchers: gauge = "etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind and catch up.";
        watchers: gauge = "etcd_debugging_mvcc_watcher_total", "Watchers.";
        watch_streams: gauge = "etcd_debugging_mvcc_watch_stream_total", "Watch streams.";
        total_put_size: gauge = "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.";
        lease_granted: counter = "etcd_debugging_lease_granted_total", "Leases granted.";
        lease_revoked: counter = "etcd_debugging_lease_revoked_total", "Leases revoked.";
        lease_renewed: counter = "etcd_debugging_lease_renewed_total", "Lease renewals by this member as leader.";
        lease_ttl: histogram(doubling(1.0, 24)) = "etcd_debugging_lease_ttl_total", "Times to live of granted leases, in seconds.";
    }

    /// Clients and other members.
    NetworkMetrics {
        client_grpc_received_bytes: counter = "etcd_network_client_grpc_received_bytes_total", "Bytes of messages received from gRPC clients.";
        client_grpc_sent_bytes: counter = "etcd_network_client_grpc_sent_bytes_total", "Bytes of messages sent to gRPC clients.";
        server_stream_failures: counters(&["API", "Type"]) = "etcd_network_server_stream_failures_total", "Streams of clients that failed.";
        known_peers: gauges(&["Local", "Remote"]) = "etcd_network_known_peers", "1 for each member known.";
        active_peers: gauges(&["Local", "Remote"]) = "etcd_network_active_peers", "1 for each member connected.";
        disconnected_peers: counters(&["Local", "Remote"]) = "etcd_network_disconnected_peers_total", "Lost connections to members.";
        peer_sent_bytes: counters(&["To"]) = "etcd_network_peer_sent_bytes_total", "Bytes sent to a member.";
        peer_received_bytes: counters(&["From"]) = "etcd_network_peer_received_bytes_total", "Bytes received from a member.";
        peer_sent_failures: counters(&["To"]) = "etcd_network_peer_sent_failures_total", "Messages that could not be sent to a member.";
        peer_received_failures: counters(&["From"]) = "etcd_network_peer_received_failures_total", "Messages of a member that could not be read.";
        peer_round_trip: histograms(&["To"], doubling(0.0001, 16)) = "etcd_network_peer_round_trip_time_seconds", "Round trip time to a member.";
        snapshot_send_success: counters(&["To"]) = "etcd_network_snapshot_send_success", "Snapshots sent to a member.";
        snapshot_send_failures: counters(&["To"]) = "etcd_network_snapshot_send_failures", "Snapshots that could not be sent to a member.";
        snapshot_send_inflight: gauges(&["To"]) = "etcd_network_snapshot_send_inflights_total", "Snapshots on their way to a member.";
        snapshot_send: histograms(&["To"], doubling(0.1, 10)) = "etcd_network_snapshot_send_total_duration_seconds", "Time to send a snapshot to a member.";
        snapshot_receive_success: counters(&["From"]) = "etcd_network_snapshot_receive_success", "Snapshots received from a member.";
        snapshot_receive_failures: counters(&["From"]) = "etcd_network_snapshot_receive_failures", "Snapshots of a member that could not be received.";
        snapshot_receive_inflight: gauges(&["From"]) = "etcd_network_snapshot_receive_inflights_total", "Snapshots on their way from a member.";
        snapshot_receive: histograms(&["From"], doubling(0.1, 10)) = "etcd_network_snapshot_receive_total_duration_seconds", "Time to receive a snapshot from a member.";
    }

    /// The watch stream loops of the gRPC service (new in 3.7).
    WatchLoopMetrics {
        events: histogram(doubling(0.001, 14)) = "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Time to send one response with events.";
        per_event: histogram(doubling(0.001, 14)) = "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "The same, per event.";
        control: histogram(doubling(0.001, 14)) = "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Time to send one response to a create or cancel.";
        progress: histogram(doubling(0.001, 14)) = "etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Time to send one progress response.";
    }
}

/// Everything etcd measures that has a meaning here.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct EtcdMetrics {
    pub server: ServerMetrics,
    pub disk: DiskMetrics,
    pub mvcc: MvccMetrics,
    pub network: NetworkMetrics,
    pub watch_loop: WatchLoopMetrics,
}

impl EtcdMetrics {
    /// Registers the whole catalogue.
    ///
    /// # Panics
    /// If any of the names is taken already.
    #[must_use]
    pub fn new(registry: &Registry) -> Arc<Self> {
        Arc::new(EtcdMetrics {
            server: ServerMetrics::new(registry),
            disk: DiskMetrics::new(registry),
            mvcc: MvccMetrics::new(registry),
            network: NetworkMetrics::new(registry),
            watch_loop: WatchLoopMetrics::new(registry),
        })
    }

    /// Says which version and member this is.
    pub fn identify(&self, server_version: &str, member_id: u64) {
        self.server.version.with(&[server_version]).set(1.0);
        self.server.id.with(&[&format!("{member_id:x}")]).set(1.0);
    }

    /// Replaces the cluster version, written as `major.minor`.
    pub fn set_cluster_version(&self, version: &str) {
        let short: Vec<&str> = version.splitn(3, '.').take(2).collect();
        self.server.cluster_version.clear();
        self.server.cluster_version.with(&[&short.join(".")]).set(1.0);
    }
}
