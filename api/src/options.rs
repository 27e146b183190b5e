//! What the services can be told at start.
//!
//! Owns: [`ApiOptions`] with etcd's defaults and the figures derived from them. Called by: the binary, tests.
//! Source: etcd `server/embed/config.go`, `server/config/config.go` (`ReqTimeout`, request overhead).

use std::{path::PathBuf, time::Duration};

use crate::auth::TokenKind;

/// Bytes a gRPC message may be larger than the request in it, before the transport refuses it.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;
/// Size of the store that raises the alarm when nothing else is said.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;
/// The longest time to live of a lease, in seconds.
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;
/// The shortest interval between progress notifications.
pub const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Settings of the client API.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Identity of the cluster.
    pub cluster_id: u64,
    /// Identity of this member.
    pub member_id: u64,
    /// Version told to clients; they switch features on by it, so it names the etcd release we behave as.
    pub server_version: String,
    /// Operations in one level of a transaction, and in its nested levels together with their parents.
    pub txn_ops_max: usize,
    /// Bytes of one write request.
    pub request_bytes_max: usize,
    /// Bytes of storage before the alarm; 0 is the default, negative switches the check off.
    pub quota_bytes: i64,
    /// Base of the request timeout, beside two election timeouts.
    pub request_timeout_base: Duration,
    /// Interval of heartbeats.
    pub heartbeat_interval: Duration,
    /// Time without a heartbeat before a follower stands for election.
    pub election_timeout: Duration,
    /// Interval of progress notifications on quiet watches.
    pub watch_progress_interval: Duration,
    /// How long a lease may go without renewal before its remaining time is written down; `None`: never.
    pub lease_checkpoint_interval: Option<Duration>,
    /// Take back this member's own NOSPACE alarm once there is room again.
    pub no_space_clears_itself: bool,
    /// Mixed into new member ids, so that two clusters with the same addresses differ.
    pub cluster_token: String,
    /// Ranges read at the same time on the blocking pool, short and long ones counted apart.
    pub range_concurrency: usize,
    /// How logged-in users show who they are.
    pub token_kind: TokenKind,
    /// Life of a simple token after its last use.
    pub token_lifetime: Duration,
    /// Cost of hashing a password.
    pub bcrypt_cost: u32,
    /// The common name of a client's certificate is a user's name.
    pub client_cert_auth: bool,
    /// Where a snapshot is put together before it is sent; takes about the size of the store.
    pub snapshot_dir: PathBuf,
}

impl ApiOptions {
    /// etcd's defaults for one member.
    pub fn new(cluster_id: u64, member_id: u64) -> Self {
        ApiOptions {
            cluster_id,
            member_id,
            server_version: "3.7.3".to_owned(),
            txn_ops_max: 128,
            request_bytes_max: 1_572_864,
            quota_bytes: 0,
            request_timeout_base: Duration::from_secs(5),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            watch_progress_interval: Duration::from_secs(600),
            lease_checkpoint_interval: Some(Duration::from_secs(300)),
            no_space_clears_itself: true,
            cluster_token: "etcd-cluster".to_owned(),
            range_concurrency: 4,
            token_kind: TokenKind::Simple,
            token_lifetime: Duration::from_secs(300),
            bcrypt_cost: 10,
            client_cert_auth: false,
            snapshot_dir: std::env::temp_dir(),
        }
    }

    /// The largest message taken from a client, and the size a watch response is split at.
    pub fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + REQUEST_OVERHEAD_BYTES
    }

    /// How long a request may wait for consensus.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout_base + 2 * self.election_timeout
    }

    /// The shortest time to live a lease gets: one and a half election timeouts, in whole seconds, rounded up.
    pub fn lease_ttl_s_min(&self) -> i64 {
        let heartbeat_ms = self.heartbeat_interval.as_millis().max(1) as i64;
        let election_ticks = self.election_timeout.as_millis() as i64 / heartbeat_ms;
        let ms = (3 * election_ticks) / 2 * heartbeat_ms;
        (ms + 999) / 1000
    }

    /// The quota in bytes, `None` where it is switched off.
    pub fn quota_bytes_effective(&self) -> Option<i64> {
        match self.quota_bytes {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes if bytes < 0 => None,
            bytes => Some(bytes),
        }
    }

    /// "3.7.0" of "3.7.3": the version the cluster as a whole speaks.
    pub fn cluster_version(&self) -> String {
        let mut parts = self.server_version.split('.');
        let major = parts.next().unwrap_or("3");
        let minor = parts.next().unwrap_or("0");
        format!("{major}.{minor}.0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_figures_are_those_of_etcd() {
        let options = ApiOptions::new(1, 2);
        assert_eq!(options.message_bytes_max(), 2 * 1024 * 1024);
        assert_eq!(options.request_timeout(), Duration::from_secs(7));
        assert_eq!(options.lease_ttl_s_min(), 2);
        assert_eq!(options.quota_bytes_effective(), Some(2 << 30));
        assert_eq!(options.cluster_version(), "3.7.0");
        let slow = ApiOptions { election_timeout: Duration::from_secs(5), ..options };
        assert_eq!(slow.lease_ttl_s_min(), 8);
    }
}
