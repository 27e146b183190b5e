//! What members ask each other over plain HTTP on the peer port before they share a log: who is in the cluster.
//!
//! Owns: `GET /members` and the client of it. Called by: `server`, which serves the route beside the Raft streams, and
//! asks it when it joins a cluster or forms one.
//! Source: etcd `server/etcdserver/api/etcdhttp/peer.go` (path, header and JSON names).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use keelson_api::AppState;
use keelson_api::edge::tls::PeerConnector;
use serde::{Deserialize, Serialize};

static CLUSTER_HEADER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// Far more than the list of a large cluster takes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A member on the same network answers in milliseconds; one that does not is asked again later.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A member in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    pub(super) id: u64,
    #[serde(rename = "peerURLs", default)]
    pub(super) peer_urls: Vec<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "clientURLs", default)]
    pub(super) client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    pub(super) is_learner: bool,
}

/// What a running member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) cluster: u64,
    pub(super) members: Vec<Peer>,
}

/// Why a member gave no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0} is not an address")]
    Address(String),
    #[error(transparent)]
    Connect(#[from] keelson_api::edge::tls::ConnectError),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("not the list of members: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("no cluster id in the answer (status {0})")]
    NoCluster(u16),
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Slow,
}

/// The route, answered from this member's applied state.
pub(super) fn router(state: AppState) -> Router {
    Router::new().route("/members", get(move || async move { list(&state) }))
}

fn list(state: &AppState) -> Response {
    let members: Vec<Peer> = keelson_api::members::list(state)
        .into_iter()
        .map(|member| Peer {
            id: member.id,
            peer_urls: member.peer_ur_ls,
            name: member.name,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        })
        .collect();
    let cluster = HeaderValue::from_str(&format!("{:x}", state.options.cluster_id)).expect("hex digits");
    ([(CLUSTER_HEADER.clone(), cluster)], Json(members)).into_response()
}

/// Asks the member at a peer URL.
pub(super) async fn ask(connector: &PeerConnector, peer_url: &str) -> Result<Answer, AskError> {
    let uri: Uri = format!("{}/members", peer_url.trim_end_matches('/'))
        .parse()
        .map_err(|_| AskError::Address(peer_url.to_owned()))?;
    keelson_api::edge::clock::within(ANSWER_WITHIN, exchange(connector, &uri))
        .await
        .unwrap_or(Err(AskError::Slow))
}

async fn exchange(connector: &PeerConnector, uri: &Uri) -> Result<Answer, AskError> {
    let stream = connector.connect(uri).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(uri.path())
        .header(axum::http::header::HOST, authority)
        .body(Empty::<Bytes>::new())
        .map_err(|_| AskError::Address(uri.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let cluster = response
        .headers()
        .get(&CLUSTER_HEADER)
        .and_then(|value| u64::from_str_radix(value.to_str().ok()?, 16).ok())
        .ok_or(AskError::NoCluster(status))?;
    let body =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(AskError::Body)?;
    driver.abort();
    Ok(Answer { cluster, members: serde_json::from_slice(&body.to_bytes())? })
}
