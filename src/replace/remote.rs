//! The cluster as a client reaches it: the few calls that replacing a member takes.
//!
//! Owns: connections, the token of a user. Called by: `replace`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use keelson_api::edge::tls::{ClientTls, PeerConnector, TlsError, TlsRole, TlsSettings};
use keelson_proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use super::plan::Seen;

/// A member that is well answers in milliseconds.
const HEALTH_WAIT: Duration = Duration::from_secs(3);
/// A change of the membership waits for a majority's disks.
const CALL_WAIT: Duration = Duration::from_secs(15);

/// How to get in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// URLs of members, any of them.
    pub endpoints: Vec<String>,
    /// Signs the members' certificates.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The key to it.
    pub key: Option<PathBuf>,
    /// Name and password, where authentication is on.
    pub user: Option<(String, String)>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The files of TLS.
    #[error("load the certificates")]
    Tls(#[from] TlsError),
    /// Not a URL.
    #[error("the endpoint {0:?} is not an address like http://host:2379")]
    Endpoint(String),
    /// Nobody answered.
    #[error("no endpoint answered; the last one said: {}", .0.message())]
    Unreachable(Box<Status>),
    /// The learner has not caught up yet.
    #[error("the learner has not caught up")]
    NotReady,
    /// The cluster refused.
    #[error("{action}: {}", .status.message())]
    Refused {
        /// What was asked.
        action: &'static str,
        /// What was said.
        status: Box<Status>,
    },
}

/// A cluster.
pub struct Remote {
    connector: PeerConnector,
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Remote {
    /// Connects to the first endpoint that answers, and logs in.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(access: &Access) -> Result<Self, RemoteError> {
        let secure = access.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        let tls = match secure || access.ca.is_some() {
            false => None,
            true => Some(ClientTls::load(TlsSettings {
                role: TlsRole::Client,
                client_cert_file: access.cert.clone(),
                client_key_file: access.key.clone(),
                trusted_ca_file: access.ca.clone(),
                ..TlsSettings::default()
            })?),
        };
        let connector = PeerConnector::new(tls);
        let mut last = Status::unavailable("there are no endpoints");
        for endpoint in &access.endpoints {
            let channel = channel(&connector, endpoint, CALL_WAIT)?;
            match MaintenanceClient::new(channel.clone()).status(pb::StatusRequest {}).await {
                // Without a token this is refused where authentication is on; an answer it is.
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                    last = status;
                }
                _ => {
                    let token = login(&channel, access.user.as_ref()).await?;
                    return Ok(Remote { connector, channel, token });
                }
            }
        }
        Err(RemoteError::Unreachable(Box::new(last)))
    }

    /// Everybody, as the quorum lists them, and whether they answer.
    pub(super) async fn members(&self) -> Result<Vec<Seen>, RemoteError> {
        let request = self.request(pb::MemberListRequest { linearizable: true });
        let listed = self.cluster().member_list(request).await.map_err(refused("list the members"))?;
        let looks = listed.into_inner().members.into_iter().map(|member| async move {
            let healthy = self.answers(&member).await;
            Seen {
                id: member.id,
                name: member.name,
                peer_urls: member.peer_ur_ls,
                learner: member.is_learner,
                healthy,
            }
        });
        Ok(futures::future::join_all(looks).await)
    }

    async fn answers(&self, member: &pb::Member) -> bool {
        for url in &member.client_ur_ls {
            let Ok(channel) = channel(&self.connector, url, HEALTH_WAIT) else { continue };
            let status = MaintenanceClient::new(channel).status(self.request(pb::StatusRequest {})).await;
            if let Ok(status) = status {
                return status.get_ref().leader != 0;
            }
        }
        false
    }

    pub(super) async fn add_learner(&self, peer_urls: &[String]) -> Result<u64, RemoteError> {
        let request = pb::MemberAddRequest { peer_ur_ls: peer_urls.to_vec(), is_learner: true };
        let added =
            self.cluster().member_add(self.request(request)).await.map_err(refused("add the learner"))?;
        Ok(added.into_inner().member.map_or(0, |member| member.id))
    }

    pub(super) async fn promote(&self, id: u64) -> Result<(), RemoteError> {
        match self.cluster().member_promote(self.request(pb::MemberPromoteRequest { id })).await {
            Ok(_) => Ok(()),
            // Not in sync with the leader yet, or not connected to it.
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) => {
                Err(RemoteError::NotReady)
            }
            Err(status) => Err(refused("promote the learner")(status)),
        }
    }

    pub(super) async fn remove(&self, id: u64) -> Result<(), RemoteError> {
        let request = self.request(pb::MemberRemoveRequest { id });
        self.cluster().member_remove(request).await.map(drop).map_err(refused("remove the old member"))
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

fn refused(action: &'static str) -> impl FnOnce(Status) -> RemoteError {
    move |status| RemoteError::Refused { action, status: Box::new(status) }
}

async fn login(
    channel: &Channel,
    user: Option<&(String, String)>,
) -> Result<Option<MetadataValue<Ascii>>, RemoteError> {
    let Some((name, password)) = user.cloned() else { return Ok(None) };
    let request = pb::AuthenticateRequest { name, password };
    let answer = AuthClient::new(channel.clone()).authenticate(request).await.map_err(refused("log in"))?;
    let token = answer.into_inner().token.parse();
    token.map(Some).map_err(|_| refused("log in")(Status::internal("the token is no text")))
}

fn channel(connector: &PeerConnector, url: &str, wait: Duration) -> Result<Channel, RemoteError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let connector = Arc::new(connector.clone());
    // The scheme decides about TLS in the connector; tonic must not.
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| RemoteError::Endpoint(url.clone()))?;
    let target: Uri = url.parse().map_err(|_| RemoteError::Endpoint(url))?;
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, target) = (connector.clone(), target.clone());
        async move {
            let stream = connector.connect(&target).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.timeout(wait).connect_timeout(wait).connect_with_connector_lazy(connect))
}
