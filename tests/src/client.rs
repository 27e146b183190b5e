//! A connection to one member with all stubs, and nothing clever: no retries, no balancing.
//!
//! Owns: the channel. Called by: all suites that speak the API directly.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;

/// Longer than any server takes to give up on a request itself (about 7 s with default timers).
const REQUEST_WAIT: Duration = Duration::from_secs(20);

/// A client of one member.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    channel: Channel,
}

impl Client {
    /// A client that connects when it is first used.
    ///
    /// # Panics
    /// If `url` is not a URL.
    pub fn lazy(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .expect("a URL")
            .connect_timeout(Duration::from_secs(2))
            .timeout(REQUEST_WAIT)
            .tcp_nodelay(true);
        Self { channel: endpoint.connect_lazy(), endpoint }
    }

    /// A client without the overall deadline, which would also end streams.
    ///
    /// # Panics
    /// If `url` is not a URL.
    pub fn for_streams(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .expect("a URL")
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true);
        Self { channel: endpoint.connect_lazy(), endpoint }
    }

    /// The same on a connection of its own.
    pub fn reconnected(&self) -> Self {
        Self { channel: self.endpoint.connect_lazy(), endpoint: self.endpoint.clone() }
    }

    /// The underlying channel.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The key-value service.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// The watch service.
    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// The lease service.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// The cluster service.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// The maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// The authentication service.
    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    /// A linearizable read of a key that need not exist.
    ///
    /// # Errors
    /// The server's, or DeadlineExceeded after `wait`.
    pub async fn ping(&self, wait: Duration) -> Result<(), Status> {
        let request = pb::RangeRequest { key: "ready".into(), limit: 1, ..Default::default() };
        match tokio::time::timeout(wait, self.kv().range(request)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Status::deadline_exceeded("no answer to a linearizable read")),
        }
    }

    /// The member's status.
    ///
    /// # Errors
    /// The server's.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        let mut maintenance = self.maintenance();
        let answer = tokio::time::timeout(Duration::from_secs(2), maintenance.status(pb::StatusRequest {}));
        match answer.await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer to a status request")),
        }
    }
}
