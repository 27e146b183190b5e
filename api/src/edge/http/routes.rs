//! The routes themselves.
//!
//! Owns: paths and the handlers that are too small for a file. Invariants: paths match exactly (no trailing slash),
//! unknown ones get Go's 404 text. Called by: the wiring.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use http::{Method, StatusCode, Uri};

use super::checks::{Checker, Group, LIVEZ, READYZ};
use super::reply;
use super::source::HealthSource;
use crate::edge::metrics::{EtcdMetrics, Registry, process, text};

/// A named variable of `/debug/vars`; the function returns JSON.
pub type Variable = (&'static str, Arc<dyn Fn() -> serde_json::Value + Send + Sync>);

/// What the endpoints are made from.
#[derive(Clone)]
pub struct HttpOptions {
    /// State of the server.
    pub source: Arc<dyn HealthSource>,
    /// All metrics.
    pub registry: Arc<Registry>,
    /// Where health checks are counted.
    pub metrics: Arc<EtcdMetrics>,
    /// Longest wait for a read of a health check; etcd's request timeout (5 s and twice the election timeout).
    pub read_timeout: Duration,
    /// Further variables of `/debug/vars`.
    pub variables: Vec<Variable>,
}

impl HttpOptions {
    /// Options with etcd's default timeout and no further variables.
    #[must_use]
    pub fn new(source: Arc<dyn HealthSource>, registry: Arc<Registry>, metrics: Arc<EtcdMetrics>) -> Self {
        HttpOptions { source, registry, metrics, read_timeout: Duration::from_secs(7), variables: Vec::new() }
    }
}

/// All endpoints of the client port. The gateway's routes may be merged in; the fallback is Go's 404.
pub fn router(options: &HttpOptions) -> Router {
    let source = Arc::clone(&options.source);
    let variables = options.variables.clone();
    metrics_router(options)
        .route("/version", any(move |method: Method| async move { version(&method, &*source) }))
        .route("/debug/vars", any(move |method: Method| async move { debug_vars(&method, &variables) }))
}

/// Endpoints of `--listen-metrics-urls`: metrics and health.
pub fn metrics_router(options: &HttpOptions) -> Router {
    let checker = Checker {
        source: Arc::clone(&options.source),
        metrics: Arc::clone(&options.metrics),
        read_timeout: options.read_timeout,
    };
    let registry = Arc::clone(&options.registry);
    let health = checker.clone();
    let mut router = Router::new()
        .route("/metrics", any(move || async move { metrics(&registry) }))
        .route(
            "/health",
            any(move |method: Method, uri: Uri| async move { health.health(&method, &uri).await }),
        )
        .fallback(|| async { reply::not_found() });
    for group in [LIVEZ, READYZ] {
        router = add_group(router, &checker, group);
    }
    router
}

/// A port without HTTP endpoints: Go's 404 for everything.
pub fn nothing() -> Router {
    Router::new().fallback(|| async { reply::not_found() })
}

fn add_group(mut router: Router, checker: &Checker, group: Group) -> Router {
    let root = checker.clone();
    router = router.route(
        &format!("/{}", group.name),
        any(move |method: Method, uri: Uri| async move { root.group(group, &method, &uri).await }),
    );
    for check in group.checks {
        let (single, check) = (checker.clone(), *check);
        router =
            router.route(
                &format!("/{}/{}", group.name, check.name()),
                any(move |method: Method, uri: Uri| async move {
                    single.single(group, check, &method, &uri).await
                }),
            );
    }
    router
}

fn version(method: &Method, source: &dyn HealthSource) -> Response {
    if method != Method::GET {
        return reply::method_not_allowed();
    }
    let versions = source.versions();
    let json = |text: &str| serde_json::Value::from(text);
    reply::json(
        "application/json",
        format!(
            r#"{{"etcdserver":{},"etcdcluster":{},"storage":{}}}"#,
            json(&versions.server),
            json(versions.cluster.as_deref().unwrap_or("not_decided")),
            json(versions.storage.as_deref().unwrap_or("unknown")),
        ),
    )
}

fn metrics(registry: &Registry) -> Response {
    let mut response = reply::text(StatusCode::OK, registry.text());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(text::CONTENT_TYPE));
    response
}

/// A few variables in the form of Go's expvar. The command line is left out: it may hold secrets.
fn debug_vars(method: &Method, variables: &[Variable]) -> Response {
    if method != Method::GET {
        return reply::method_not_allowed();
    }
    let mut fields: Vec<(String, serde_json::Value)> = vec![
        ("file_descriptor_limit".to_owned(), process::descriptor_limit().into()),
        ("file_descriptors_open".to_owned(), process::descriptors_open().into()),
        ("resident_memory_bytes".to_owned(), process::resident_bytes().into()),
    ];
    fields.extend(variables.iter().map(|(name, read)| ((*name).to_owned(), read())));
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}: {value}", serde_json::Value::from(name.as_str())))
        .collect();
    reply::json("application/json; charset=utf-8", format!("{{\n{}\n}}\n", lines.join(",\n")))
}
