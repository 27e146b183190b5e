//! Rules for HTTP requests that browsers can send: cross-origin headers, allowed hosts, gateway and certificates.
//!
//! Owns: [`AccessControl`]. Invariants: applies to every HTTP request and to no gRPC call; hosts are checked on plain
//! connections only, because a certificate already binds the name on encrypted ones.
//! Called by: [`super::routes::router`] and the wiring for the JSON gateway.
//! Source: etcd server/embed/serve.go (`createAccessController`), CVE-2018-5702 (DNS rebinding).

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::{HOST, HeaderValue, ORIGIN};
use http::{HeaderName, Method, Request, StatusCode, Uri};

use super::reply;
use crate::edge::listener::ConnectionInfo;

const ALLOW_METHODS: HeaderName = HeaderName::from_static("access-control-allow-methods");
const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");
const ALLOW_HEADERS: HeaderName = HeaderName::from_static("access-control-allow-headers");

/// `--cors`, `--host-whitelist` and the rule about certificates on the gateway.
#[derive(Clone)]
pub struct AccessControl {
    origins: Arc<HashSet<String>>,
    hosts: Arc<HashSet<String>>,
    /// True while authentication is on and client certificates are demanded: then a common name must not be taken for
    /// a user by requests that pass through the gateway, and such requests are refused.
    refuse_gateway_names: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessControl")
            .field("origins", &self.origins)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Default for AccessControl {
    fn default() -> Self {
        AccessControl::new(["*".to_owned()], ["*".to_owned()])
    }
}

impl AccessControl {
    /// Origins and hosts; `*` allows all, no hosts at all allow all.
    #[must_use]
    pub fn new(origins: impl IntoIterator<Item = String>, hosts: impl IntoIterator<Item = String>) -> Self {
        AccessControl {
            origins: Arc::new(origins.into_iter().collect()),
            hosts: Arc::new(hosts.into_iter().collect()),
            refuse_gateway_names: Arc::new(|| false),
        }
    }

    /// Refuses gateway requests with a client certificate's common name while `when` says so.
    #[must_use]
    pub fn refuse_gateway_names(mut self, when: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.refuse_gateway_names = Arc::new(when);
        self
    }

    /// Puts the rules around a router.
    pub fn protect(self, router: Router) -> Router {
        // A layer of the router itself would run after routing and miss the rewritten path.
        Router::new().fallback_service(router).layer(middleware::from_fn(move |request, next| {
            let rules = self.clone();
            async move { rules.apply(request, next).await }
        }))
    }

    async fn apply(&self, mut request: Request<Body>, next: Next) -> Response {
        if let Some(renamed) = rename(request.uri()) {
            *request.uri_mut() = renamed;
        }
        let connection = request.extensions().get::<Arc<ConnectionInfo>>().cloned();
        let secure = connection.as_ref().is_some_and(|info| info.secure);
        if !secure {
            let host = host(&request);
            if !self.host_allowed(&host) {
                tracing::warn!(
                    host,
                    "request refused: its Host header is not in --host-whitelist (protection against DNS rebinding)"
                );
                return reply::error(StatusCode::MISDIRECTED_REQUEST, &unknown_host(&host));
            }
        } else if request.uri().path().starts_with("/v3/")
            && connection
                .as_ref()
                .and_then(|info| info.identity.as_ref())
                .is_some_and(|id| !id.common_name.is_empty())
            && (self.refuse_gateway_names)()
        {
            return reply::error(
                StatusCode::BAD_REQUEST,
                "CommonName of client sending a request against gateway will be ignored and not used as expected",
            );
        }
        let origin = self.allowed_origin(&request);
        let mut response = if request.method() == Method::OPTIONS {
            Response::new(Body::empty())
        } else {
            next.run(request).await
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
            headers.insert(ALLOW_ORIGIN, origin);
            headers.insert(ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
        }
        response
    }

    fn host_allowed(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains("*") || self.hosts.contains(host)
    }

    fn allowed_origin(&self, request: &Request<Body>) -> Option<HeaderValue> {
        if self.origins.contains("*") {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.headers().get(ORIGIN)?;
        self.origins.contains(origin.to_str().ok()?).then(|| origin.clone())
    }
}

/// The gateway's old prefix.
fn rename(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/v3beta/")?;
    format!("/v3/{rest}").parse().ok()
}

/// Host without port: from the URI in HTTP/2, from the header in HTTP/1.
fn host(request: &Request<Body>) -> String {
    let header = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(|a| a.as_str()).or(header).unwrap_or_default();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address.to_owned(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned(),
    }
}

fn unknown_host(host: &str) -> String {
    format!(
        "\nThe Host header {host:?} of this request is not allowed.\n\n\
         Either enable TLS, which accepts every host, or add the name to the allowed ones, for example with\n\
         --host-whitelist {host:?}\n\n\
         This protects against DNS rebinding (CVE-2018-5702).\n"
    )
}
