//! Settings of the cluster: how its first members find each other, and what stays true for all of them.

use crate::config::setting::{Group, Kind, Setting};

const NO_DISCOVERY: &str = "discovery services are not supported; list the members with --initial-cluster \
                            name=http://address:2380,…";
const DISCOVERY_DETAIL: &str = "it has a meaning only together with a discovery service";

/// The group "Clustering".
pub(super) const GROUP: Group = Group {
    title: "Clustering",
    settings: &[
        Setting::new(
            "initial-advertise-peer-urls",
            Kind::Urls,
            "http://localhost:2380",
            "Addresses under which the other members reach this one.",
        ),
        Setting::new(
            "initial-cluster",
            Kind::Text,
            "",
            "First members as name=peer-url pairs, comma separated. Without it: this member alone.",
        ),
        Setting::new(
            "initial-cluster-state",
            Kind::Choice(&["new", "existing"]),
            "new",
            "'new' to form a cluster, 'existing' to join one. Ignored once the member has data.",
        ),
        Setting::new(
            "initial-cluster-token",
            Kind::Text,
            "etcd-cluster",
            "Keeps clusters apart that were formed with the same names and addresses.",
        ),
        Setting::new(
            "advertise-client-urls",
            Kind::Urls,
            "http://localhost:2379",
            "Addresses under which clients reach this member. Required as soon as --listen-client-urls is given.",
        ),
        Setting::new("discovery-token", Kind::Text, "", "Token of a cluster at a discovery service.")
            .refused(NO_DISCOVERY),
        Setting::new("discovery-endpoints", Kind::List, "", "Addresses of a discovery service.")
            .refused(NO_DISCOVERY),
        Setting::new(
            "discovery-dial-timeout",
            Kind::Duration,
            "2s",
            "Connect timeout to a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-request-timeout",
            Kind::Duration,
            "5s",
            "Request timeout at a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-keepalive-time",
            Kind::Duration,
            "2s",
            "Time between pings to a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-keepalive-timeout",
            Kind::Duration,
            "6s",
            "Ping timeout of a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-insecure-transport",
            Kind::Switch,
            "true",
            "Plain text to a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-insecure-skip-tls-verify",
            Kind::Switch,
            "false",
            "Do not verify the certificate of a discovery service.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-cert", Kind::Path, "", "Client certificate for a discovery service.")
            .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-key", Kind::Path, "", "Client key for a discovery service.")
            .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-cacert", Kind::Path, "", "CA of a discovery service.")
            .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-user", Kind::Text, "", "User at a discovery service.")
            .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-password", Kind::Text, "", "Password at a discovery service.")
            .inert(DISCOVERY_DETAIL),
        Setting::new(
            "discovery-fallback",
            Kind::Choice(&["exit", "proxy"]),
            "exit",
            "What to do when discovery fails; only 'exit' exists.",
        )
        .inert(DISCOVERY_DETAIL),
        Setting::new("discovery-srv", Kind::Text, "", "DNS domain whose SRV records name the first members.")
            .refused(NO_DISCOVERY),
        Setting::new("discovery-srv-name", Kind::Text, "", "Suffix of the queried SRV service name.")
            .inert(DISCOVERY_DETAIL),
        Setting::new(
            "strict-reconfig-check",
            Kind::Switch,
            "true",
            "Reject membership changes that would lose the quorum.",
        ),
        Setting::new(
            "pre-vote",
            Kind::Switch,
            "true",
            "Ask before an election whether it could be won, so that a member that returns does not disturb.",
        )
        .inert("members always ask first; an election without that only disturbs a working leader"),
        Setting::new(
            "auto-compaction-retention",
            Kind::Text,
            "5m",
            "How much history to keep: a duration or whole hours ('5m', '1') in mode periodic, a number of revisions \
             in mode revision, which has no default. 0 turns automatic compaction off.",
        ),
        Setting::new(
            "auto-compaction-mode",
            Kind::Choice(&["periodic", "revision"]),
            "periodic",
            "How --auto-compaction-retention is read.",
        ),
        Setting::new(
            "v2-deprecation",
            Kind::Choice(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
            "write-only",
            "Phase of the removal of etcd's v2 store.",
        )
        .inert("there is no v2 store here"),
    ],
};
