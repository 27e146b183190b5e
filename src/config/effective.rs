//! The configuration that the server runs with: plain typed fields, complete and checked.
//!
//! Owns: the translation from settings by name to fields. Invariants: a value of this type has passed `checks`.
//! Called by: `resolve` builds it, `server` reads it.

use std::path::PathBuf;
use std::time::Duration;

use keelson_api::options::PROGRESS_INTERVAL_MIN;

use super::compaction::AutoCompaction;
use super::feature_gates::FeatureGates;
use super::given::Given;
use super::log_rotation::LogRotation;
use super::url::Url;
use super::value::Value;

/// Everything the server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// This member and its files.
    pub member: Member,
    /// Where it listens.
    pub listen: Listen,
    /// The cluster it belongs to.
    pub cluster: Cluster,
    /// Bounds of requests and connections.
    pub limits: Limits,
    /// Security towards clients.
    pub client_tls: Tls,
    /// Security towards members.
    pub peer_tls: Tls,
    /// What both have in common.
    pub security: Security,
    /// User authentication.
    pub auth: Auth,
    /// Automatic compaction; `None` is off.
    pub auto_compaction: Option<AutoCompaction>,
    /// Background checks and notices.
    pub checks: Checks,
    /// Log lines.
    pub logging: Logging,
    /// Whether latency histograms per gRPC method are kept (`--metrics extensive`).
    pub metrics_extensive: bool,
    /// Where traces go; `None` is nowhere.
    pub tracing: Option<Tracing>,
    /// Named switches of etcd.
    pub feature_gates: FeatureGates,
    /// Do not wait for the disk.
    pub unsafe_no_fsync: bool,
    /// Start as the only member with the data at hand.
    pub force_new_cluster: bool,
}

/// This member and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// For people and for the initial cluster.
    pub name: String,
    /// Folder of all data.
    pub data_dir: PathBuf,
    /// Folder of the log, if it is kept apart.
    pub wal_dir: Option<PathBuf>,
    /// Size at which writes stop, in bytes; `None` is no limit. etcd's 0 is already replaced by its default.
    pub quota_bytes: Option<u64>,
}

/// Where the member listens. All lists are sorted and without repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// For members.
    pub peer_urls: Vec<Url>,
    /// For clients.
    pub client_urls: Vec<Url>,
    /// For HTTP only; if not empty, `client_urls` serve gRPC only.
    pub client_http_urls: Vec<Url>,
    /// Extra addresses of /metrics and health.
    pub metrics_urls: Vec<Url>,
    /// Set SO_REUSEPORT.
    pub reuse_port: bool,
    /// Set SO_REUSEADDR.
    pub reuse_address: bool,
    /// Whether /v3 JSON is served.
    pub json_gateway: bool,
}

/// The cluster that the member belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Where others reach this member.
    pub advertise_peer_urls: Vec<Url>,
    /// Where clients reach this member.
    pub advertise_client_urls: Vec<Url>,
    /// The first members: name and peer addresses, sorted by name. Read through `check_bootstrap` at a first start.
    pub initial_members: Vec<(String, Vec<Url>)>,
    /// Whether to join instead of forming a cluster.
    pub join_existing: bool,
    /// Keeps clusters apart.
    pub token: String,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Time without a leader before an election.
    pub election_timeout: Duration,
    /// Reject membership changes that lose the quorum.
    pub strict_reconfig_check: bool,
    /// Ask before an election.
    pub pre_vote: bool,
    /// Learners at one time.
    pub learners_max: usize,
}

/// Bounds of requests and connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Operations of one transaction.
    pub txn_ops_max: usize,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Streams of one connection.
    pub concurrent_streams_max: u32,
    /// A client may not ping more often.
    pub keepalive_min_time: Duration,
    /// Pings to clients; `None` for none.
    pub keepalive_interval: Option<Duration>,
    /// Wait for an answer to a ping; `None` for no limit.
    pub keepalive_timeout: Option<Duration>,
}

/// TLS of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain shown as a server.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Certificate shown as a client; `cert_file` without it.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Demand a certificate of the other side.
    pub client_cert_auth: bool,
    /// Who signs the other side's certificates.
    pub trusted_ca_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// Common names accepted; empty for all.
    pub allowed_cns: Vec<String>,
    /// Host names accepted; empty for all.
    pub allowed_hostnames: Vec<String>,
    /// Make and sign the certificate ourselves. Never set together with `cert_file`.
    pub auto: bool,
    /// Accept a certificate that does not name the caller's address.
    pub skip_san_verification: bool,
}

impl Tls {
    /// Whether the other side must show a certificate: as in etcd, naming a CA already asks for that.
    pub fn demands_client_cert(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }

    /// Whether there is a certificate to serve with.
    pub fn can_serve(&self) -> bool {
        self.auto || self.cert_file.is_some()
    }
}

/// What client and peer security have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Years that a certificate of our own making is valid.
    pub self_signed_validity_years: u32,
    /// Names of TLS 1.2 suites; empty for the safe ones.
    pub cipher_suites: Vec<String>,
    /// Oldest version.
    pub tls_min: TlsVersion,
    /// Newest version.
    pub tls_max: TlsVersion,
    /// Web origins; `None` for all.
    pub cors: Option<Vec<String>>,
    /// Accepted Host headers; `None` for all.
    pub host_whitelist: Option<Vec<String>>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// User authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `simple`, or `jwt` with options, as written.
    pub token: String,
    /// Cost of bcrypt.
    pub bcrypt_cost: u32,
    /// Life of a simple token after its last use.
    pub token_ttl: Duration,
}

/// Background checks and notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Between comparisons of digests; zero leaves it to the store.
    pub corrupt_check_time: Duration,
    /// Between comparisons of compaction hashes.
    pub compact_hash_check_time: Duration,
    /// Between checks of a downgrade.
    pub downgrade_check_time: Duration,
    /// Between progress notices of a watch.
    pub progress_notify_interval: Duration,
    /// Log a slower apply.
    pub warning_apply: Duration,
    /// Log a slower request.
    pub warning_unary_request: Duration,
}

/// Export of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Of the collector, as `host:port`.
    pub address: String,
    /// Name of the service in each trace.
    pub service_name: String,
    /// Name of this instance, if it has one.
    pub instance_id: Option<String>,
    /// Of a million calls that no caller traces, so many are.
    pub per_million: u32,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// debug, info, warn, error, panic or fatal.
    pub level: String,
    /// One JSON object per line, else text for people.
    pub json: bool,
    /// `default`, `stderr`, `stdout` or paths.
    pub outputs: Vec<String>,
    /// Limits of rotation; then `outputs` is one path.
    pub rotation: Option<LogRotation>,
}

/// What etcd uses where the quota is 0.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

/// Reads settings by name. The names are those of the table; the test of this module asks for all of them.
pub(super) struct Reader<'a>(pub &'a Given);

impl Reader<'_> {
    pub(super) fn text(&self, name: &str) -> String {
        self.0.value(name).text()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        match self.0.value(name) {
            Value::Switch(on) => on,
            other => unreachable!("{name} is a switch, not {other:?}"),
        }
    }

    pub(super) fn unsigned(&self, name: &str) -> u64 {
        match self.0.value(name) {
            Value::Unsigned(number) => number,
            other => unreachable!("{name} is unsigned, not {other:?}"),
        }
    }

    pub(super) fn signed(&self, name: &str) -> i64 {
        match self.0.value(name) {
            Value::Signed(number) => number,
            other => unreachable!("{name} is signed, not {other:?}"),
        }
    }

    fn duration(&self, name: &str) -> Duration {
        match self.0.value(name) {
            Value::Duration(time) => time,
            other => unreachable!("{name} is a duration, not {other:?}"),
        }
    }

    pub(super) fn urls(&self, name: &str) -> Vec<Url> {
        match self.0.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("{name} is a list of addresses, not {other:?}"),
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.0.value(name) {
            Value::List(items) => items,
            other => unreachable!("{name} is a list, not {other:?}"),
        }
    }

    /// `None` where the list means "all".
    fn restriction(&self, name: &str) -> Option<Vec<String>> {
        Some(self.list(name)).filter(|items| !items.is_empty() && !items.iter().any(|item| item == "*"))
    }

    fn tls(&self, prefix: &str) -> Tls {
        let path = |name: &str| self.path(&format!("{prefix}{name}"));
        let is_peer = prefix == "peer-";
        let cert_file = path("cert-file");
        Tls {
            key_file: path("key-file"),
            client_cert_file: path("client-cert-file"),
            client_key_file: path("client-key-file"),
            client_cert_auth: self.switch(&format!("{prefix}client-cert-auth")),
            trusted_ca_file: path("trusted-ca-file"),
            crl_file: self.path(if is_peer { "peer-crl-file" } else { "client-crl-file" }),
            allowed_cns: if is_peer { self.list("peer-cert-allowed-cn") } else { Vec::new() },
            allowed_hostnames: self.list(if is_peer {
                "peer-cert-allowed-hostname"
            } else {
                "client-cert-allowed-hostname"
            }),
            // As in etcd, given certificates win; `remarks` says so.
            auto: self.switch(&format!("{prefix}auto-tls")) && cert_file.is_none(),
            skip_san_verification: is_peer && self.switch("peer-skip-client-san-verification"),
            cert_file,
        }
    }

    fn tls_version(&self, name: &str, default: TlsVersion) -> TlsVersion {
        match self.text(name).as_str() {
            "TLS1.2" => TlsVersion::V12,
            "TLS1.3" => TlsVersion::V13,
            _ => default,
        }
    }
}

/// The derived values that need a check of their own before the fields can be filled.
pub(super) struct Derived {
    pub data_dir: PathBuf,
    pub log_json: bool,
    pub advertise_peer_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    pub initial_members: Vec<(String, Vec<Url>)>,
    pub auto_compaction: Option<AutoCompaction>,
    pub feature_gates: FeatureGates,
    pub bcrypt_cost: u32,
    pub log_rotation: Option<LogRotation>,
}

/// As in etcd: zero means the default, and below a tenth of a second clients would be woken for nothing.
fn progress_interval(given: Duration) -> Duration {
    const DEFAULT: Duration = Duration::from_secs(600);
    if given.is_zero() { DEFAULT } else { given.max(PROGRESS_INTERVAL_MIN) }
}

/// Fills the fields. Relations between them are checked afterwards, in `checks`.
pub(super) fn build(given: &Given, derived: Derived) -> EffectiveConfig {
    let read = Reader(given);
    let quota = read.signed("quota-backend-bytes");
    EffectiveConfig {
        member: Member {
            name: read.text("name"),
            data_dir: derived.data_dir,
            wal_dir: read.path("wal-dir"),
            quota_bytes: match quota {
                0 => Some(QUOTA_BYTES_DEFAULT),
                below if below < 0 => None,
                bytes => Some(bytes.unsigned_abs()),
            },
        },
        listen: Listen {
            peer_urls: read.urls("listen-peer-urls"),
            client_urls: read.urls("listen-client-urls"),
            client_http_urls: read.urls("listen-client-http-urls"),
            metrics_urls: read.urls("listen-metrics-urls"),
            reuse_port: read.switch("socket-reuse-port"),
            reuse_address: read.switch("socket-reuse-address"),
            json_gateway: read.switch("enable-grpc-gateway"),
        },
        cluster: Cluster {
            advertise_peer_urls: derived.advertise_peer_urls,
            advertise_client_urls: derived.advertise_client_urls,
            initial_members: derived.initial_members,
            join_existing: read.text("initial-cluster-state") == "existing",
            token: read.text("initial-cluster-token"),
            heartbeat_interval: Duration::from_millis(read.unsigned("heartbeat-interval")),
            election_timeout: Duration::from_millis(read.unsigned("election-timeout")),
            strict_reconfig_check: read.switch("strict-reconfig-check"),
            pre_vote: read.switch("pre-vote"),
            learners_max: usize::try_from(read.signed("max-learners")).unwrap_or(0),
        },
        limits: Limits {
            txn_ops_max: usize::try_from(read.unsigned("max-txn-ops")).unwrap_or(usize::MAX),
            request_bytes_max: usize::try_from(read.unsigned("max-request-bytes")).unwrap_or(usize::MAX),
            concurrent_streams_max: u32::try_from(read.unsigned("max-concurrent-streams"))
                .unwrap_or(u32::MAX),
            keepalive_min_time: read.duration("grpc-keepalive-min-time"),
            keepalive_interval: Some(read.duration("grpc-keepalive-interval")).filter(|time| !time.is_zero()),
            keepalive_timeout: Some(read.duration("grpc-keepalive-timeout")).filter(|time| !time.is_zero()),
        },
        client_tls: read.tls(""),
        peer_tls: read.tls("peer-"),
        security: Security {
            self_signed_validity_years: u32::try_from(read.unsigned("self-signed-cert-validity"))
                .unwrap_or(u32::MAX)
                .max(1),
            cipher_suites: read.list("cipher-suites"),
            tls_min: read.tls_version("tls-min-version", TlsVersion::V12),
            tls_max: read.tls_version("tls-max-version", TlsVersion::V13),
            cors: read.restriction("cors"),
            host_whitelist: read.restriction("host-whitelist"),
        },
        auth: Auth {
            token: read.text("auth-token"),
            bcrypt_cost: derived.bcrypt_cost,
            token_ttl: Duration::from_secs(read.unsigned("auth-token-ttl")),
        },
        auto_compaction: derived.auto_compaction,
        checks: Checks {
            corrupt_check_time: read.duration("corrupt-check-time"),
            compact_hash_check_time: read.duration("compact-hash-check-time"),
            downgrade_check_time: read.duration("downgrade-check-time"),
            progress_notify_interval: progress_interval(read.duration("watch-progress-notify-interval")),
            warning_apply: read.duration("warning-apply-duration"),
            // As in etcd: zero means the default.
            warning_unary_request: Some(read.duration("warning-unary-request-duration"))
                .filter(|time| !time.is_zero())
                .unwrap_or(Duration::from_millis(300)),
        },
        logging: Logging {
            level: read.text("log-level"),
            json: derived.log_json,
            outputs: read.list("log-outputs"),
            rotation: derived.log_rotation,
        },
        metrics_extensive: read.text("metrics") == "extensive",
        tracing: read.switch("enable-distributed-tracing").then(|| Tracing {
            address: read.text("distributed-tracing-address"),
            service_name: read.text("distributed-tracing-service-name"),
            instance_id: Some(read.text("distributed-tracing-instance-id")).filter(|id| !id.is_empty()),
            // Checked when it was derived.
            per_million: read.signed("distributed-tracing-sampling-rate").clamp(0, 1_000_000) as u32,
        }),
        feature_gates: derived.feature_gates,
        unsafe_no_fsync: read.switch("unsafe-no-fsync"),
        force_new_cluster: read.switch("force-new-cluster"),
    }
}
