//! Settings of one member: its name, its files, its listeners and its limits.

use crate::config::setting::{Group, Kind, Setting};

const NO_BBOLT: &str = "there is no bbolt file here; the engine groups its writes by itself";

/// The group "Member".
pub(super) const GROUP: Group = Group {
    title: "Member",
    settings: &[
        Setting::new("name", Kind::Text, "default", "Name of this member, for people and for --initial-cluster."),
        Setting::new(
            "data-dir",
            Kind::Path,
            "",
            "Folder of all data of this member. Without it: ${name}.etcd when started as etcd, ./keelson.data when \
             started as keelson store.",
        ),
        Setting::new("wal-dir", Kind::Path, "", "A folder of its own for the write-ahead log."),
        Setting::new(
            "snapshot-count",
            Kind::Unsigned,
            "10000",
            "Applied entries after which etcd takes a snapshot.",
        )
        .inert("applied state is flushed by bytes and after idle seconds, so that replay after a crash is bounded"),
        Setting::new("heartbeat-interval", Kind::Unsigned, "100", "Milliseconds between heartbeats of the leader."),
        Setting::new(
            "election-timeout",
            Kind::Unsigned,
            "1000",
            "Milliseconds without a leader before an election; at least five heartbeats, at most 50000.",
        ),
        Setting::new(
            "initial-election-tick-advance",
            Kind::Switch,
            "true",
            "Whether a member that starts may call its first election early.",
        )
        .inert("a sole voter always calls its election at start; others always wait a whole timeout"),
        Setting::new(
            "listen-peer-urls",
            Kind::Urls,
            "http://localhost:2380",
            "Addresses to listen on for other members.",
        ),
        Setting::new(
            "listen-client-urls",
            Kind::Urls,
            "http://localhost:2379",
            "Addresses to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
        ),
        Setting::new(
            "listen-client-http-urls",
            Kind::Urls,
            "",
            "Addresses for HTTP clients only; HTTP is then no longer served on --listen-client-urls.",
        ),
        Setting::new("max-snapshots", Kind::Unsigned, "5", "Snapshot files that etcd keeps.")
            .inert("there are no snapshot files; the engine holds the applied state"),
        Setting::new("max-wals", Kind::Unsigned, "5", "Log files that etcd keeps.")
            .inert("log segments are recycled as soon as flushed state and live followers no longer need them"),
        Setting::new("memory-mlock", Kind::Switch, "false", "Keep the database in memory.")
            .inert("the engine's cache is ordinary memory; forbid swapping for the service instead (MemorySwapMax=0)"),
        Setting::new(
            "quota-backend-bytes",
            Kind::Signed,
            "0",
            "Size of the data in bytes at which writes stop and the NOSPACE alarm rises. 0 means 2 GiB, a negative \
             number means no limit.",
        ),
        Setting::new("backend-bbolt-freelist-type", Kind::Choice(&["", "map", "array"]), "map", "Free list of bbolt.")
            .inert(NO_BBOLT),
        Setting::new("backend-batch-interval", Kind::Duration, "", "Longest wait before etcd commits to bbolt.")
            .inert(NO_BBOLT),
        Setting::new("backend-batch-limit", Kind::Signed, "0", "Operations before etcd commits to bbolt.")
            .inert(NO_BBOLT),
        Setting::new("max-txn-ops", Kind::Unsigned, "128", "Operations that one transaction may hold."),
        Setting::new("max-request-bytes", Kind::Unsigned, "1572864", "Largest request accepted, in bytes."),
        Setting::new(
            "max-concurrent-streams",
            Kind::Unsigned,
            "4294967295",
            "Concurrent streams that one client connection may open.",
        ),
        Setting::new(
            "grpc-keepalive-min-time",
            Kind::Duration,
            "5s",
            "Shortest time between pings of a client; a client that pings more often is disconnected.",
        ),
        Setting::new(
            "grpc-keepalive-interval",
            Kind::Duration,
            "2h",
            "Time between pings of the server to a client (0 for none).",
        ),
        Setting::new(
            "grpc-keepalive-timeout",
            Kind::Duration,
            "20s",
            "How long an unanswered ping is waited for before the connection is closed (0 for no limit).",
        ),
        Setting::new("socket-reuse-port", Kind::Switch, "false", "Set SO_REUSEPORT on listeners.")
            .nested("socket-options", "reuse-port"),
        Setting::new("socket-reuse-address", Kind::Switch, "false", "Set SO_REUSEADDR on listeners.")
            .nested("socket-options", "reuse-address")
            .inert("it is always set, so that a restart does not wait for old connections"),
        Setting::new("enable-grpc-gateway", Kind::Switch, "true", "Serve the JSON gateway under /v3.")
            .inert("this build has no JSON gateway; /v3 answers 404"),
        Setting::new("raft-read-timeout", Kind::Duration, "5s", "Read timeout of a connection between members.")
            .inert("peer connections are watched by HTTP/2 pings derived from --election-timeout"),
        Setting::new("raft-write-timeout", Kind::Duration, "5s", "Write timeout of a connection between members.")
            .inert("peer connections are watched by HTTP/2 pings derived from --election-timeout"),
        Setting::new(
            "feature-gates",
            Kind::Text,
            "",
            "Comma separated Name=true|false pairs. Known: AllAlpha, AllBeta, CompactHashCheck, FastLeaseKeepAlive, \
             InitialCorruptCheck, LeaseCheckpoint, LeaseCheckpointPersist, NoSpaceAutoDisarm, PriorityRequest, SetMemberLocalAddr, \
             StopGRPCServiceOnDefrag, TxnModeWriteWithSharedBuffer.",
        ),
    ],
};
