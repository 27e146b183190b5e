//! The endpoints against a table taken from a running etcd 3.7.3.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::*;
use crate::edge::http::source::ReadResult;
use crate::edge::listener::{ConnectionInfo, RemoteAddress};
use crate::edge::metrics::{EtcdMetrics, Registry};
use crate::edge::tls::PeerIdentity;

/// A server whose every property a test can set.
#[derive(Default)]
struct Fake {
    alarms: Mutex<Vec<AlarmKind>>,
    no_leader: AtomicBool,
    learner: AtomicBool,
    stalled: AtomicBool,
    read_error: Mutex<Option<String>>,
    undecided: AtomicBool,
}

impl HealthSource for Fake {
    fn alarms(&self) -> Vec<AlarmKind> {
        self.alarms.lock().clone()
    }
    fn has_leader(&self) -> bool {
        !self.no_leader.load(Ordering::Relaxed)
    }
    fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }
    fn linearizable_read(&self) -> ReadResult<'_> {
        let lost = self.no_leader.load(Ordering::Relaxed);
        Box::pin(async move {
            if lost {
                Err(HealthError("etcdserver: no leader".into()))
            } else {
                self.serializable_read().await
            }
        })
    }
    fn serializable_read(&self) -> ReadResult<'_> {
        Box::pin(async move {
            if self.stalled.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.read_error.lock().clone().map_or(Ok(()), |text| Err(HealthError(text)))
        })
    }
    fn versions(&self) -> Versions {
        let known = !self.undecided.load(Ordering::Relaxed);
        let version = known.then(|| "3.7.0".to_owned());
        Versions { server: "3.7.3".into(), cluster: version.clone(), storage: version }
    }
}

struct Bench {
    fake: Arc<Fake>,
    options: HttpOptions,
    router: Router,
}

fn bench() -> Bench {
    let registry = Arc::new(Registry::default());
    let metrics = EtcdMetrics::new(&registry);
    let fake = Arc::new(Fake::default());
    let mut options = HttpOptions::new(fake.clone(), registry, metrics);
    options.read_timeout = Duration::from_millis(50);
    options.variables.push(("raft", Arc::new(|| serde_json::json!({"term": 2}))));
    let router = AccessControl::default().protect(router(&options));
    Bench { fake, options, router }
}

impl Bench {
    async fn call(&self, method: &str, path: &str) -> (StatusCode, String, Response<()>) {
        call(&self.router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    }

    async fn expect(&self, method: &str, path: &str, status: u16, body: &str) {
        let (got, text, _) = self.call(method, path).await;
        assert_eq!((got.as_u16(), text.as_str()), (status, body), "{method} {path}");
    }
}

async fn call(router: &Router, request: Request<Body>) -> (StatusCode, String, Response<()>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(bytes.to_vec()).unwrap(), Response::from_parts(head, ()))
}

const READY: &str =
    "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";

#[tokio::test]
async fn healthy_server() {
    let bench = bench();
    for (path, body) in [
        ("/version", r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#),
        ("/health", r#"{"health":"true","reason":""}"#),
        ("/health?serializable=true", r#"{"health":"true","reason":""}"#),
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read?verbose", "[+]serializable_read ok\nok\n"),
        ("/readyz", "ok\n"),
        ("/readyz?verbose", READY),
        ("/readyz?verbose=", READY),
        (
            "/readyz?verbose&exclude=non_learner&exclude=bogus",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
        ),
        ("/readyz/non_learner", "ok\n"),
        ("/readyz/non_learner?verbose", "[+]non_learner ok\nok\n"),
    ] {
        bench.expect("GET", path, 200, body).await;
    }
    for path in ["/nothing", "/", "/livez/none", "/readyz/", "/health/", "/livez/linearizable_read"] {
        bench.expect("GET", path, 404, "404 page not found\n").await;
    }
}

#[tokio::test]
async fn methods_and_headers() {
    let bench = bench();
    for path in ["/version", "/health", "/livez", "/readyz", "/readyz/non_learner", "/debug/vars"] {
        for method in ["POST", "PUT", "DELETE"] {
            let (status, body, head) = bench.call(method, path).await;
            assert_eq!((status.as_u16(), body.as_str()), (405, "Method Not Allowed\n"), "{method} {path}");
            assert_eq!(head.headers()["allow"], "GET");
        }
        assert_eq!(bench.call("HEAD", path).await.0.as_u16(), 405, "etcd answers HEAD {path} so");
        bench.expect("OPTIONS", path, 200, "").await;
    }
    assert_eq!(bench.call("POST", "/metrics").await.0.as_u16(), 200, "metrics take any method");
    let header = |head: &Response<()>, name: &str| {
        head.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    for (path, content_type, sniff) in [
        ("/version", "application/json", ""),
        ("/health", "text/plain; charset=utf-8", ""),
        ("/livez", "text/plain; charset=utf-8", "nosniff"),
        ("/nothing", "text/plain; charset=utf-8", "nosniff"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", ""),
        ("/debug/vars", "application/json; charset=utf-8", ""),
    ] {
        let (_, _, head) = bench.call("GET", path).await;
        assert_eq!(header(&head, "content-type"), content_type, "{path}");
        assert_eq!(header(&head, "x-content-type-options"), sniff, "{path}");
        assert_eq!(header(&head, "access-control-allow-origin"), "*", "{path}");
        assert_eq!(header(&head, "access-control-allow-methods"), "POST, GET, OPTIONS, PUT, DELETE");
        assert_eq!(header(&head, "access-control-allow-headers"), "accept, content-type, authorization");
    }
}

#[tokio::test]
async fn alarms() {
    let bench = bench();
    *bench.fake.alarms.lock() = vec![AlarmKind::Corrupt];
    bench.expect("GET", "/health", 503, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n").await;
    bench
        .expect(
            "GET",
            "/health?exclude=NOSPACE",
            503,
            "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n",
        )
        .await;
    bench.expect("GET", "/health?exclude=CORRUPT", 200, r#"{"health":"true","reason":""}"#).await;
    let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n";
    let rest = "[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n";
    bench.expect("GET", "/readyz", 503, &format!("{failed}{rest}\n")).await;
    bench.expect("GET", "/readyz/data_corruption", 503, &format!("{failed}\n")).await;
    bench.expect("GET", "/readyz?exclude=data_corruption", 200, "ok\n").await;
    bench.expect("GET", "/livez", 200, "ok\n").await;
    *bench.fake.alarms.lock() = vec![AlarmKind::NoSpace, AlarmKind::Corrupt];
    bench.expect("GET", "/health", 503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n").await;
    bench
        .expect("GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 200, r#"{"health":"true","reason":""}"#)
        .await;
}

#[tokio::test]
async fn lost_quorum_fails_readiness_and_never_liveness() {
    let bench = bench();
    bench.fake.no_leader.store(true, Ordering::Relaxed);
    bench.expect("GET", "/health", 503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n").await;
    bench.expect("GET", "/health?serializable=true", 200, r#"{"health":"true","reason":""}"#).await;
    bench.expect("GET", "/livez", 200, "ok\n").await;
    bench
        .expect(
            "GET",
            "/readyz/linearizable_read",
            503,
            "[-]linearizable_read failed: etcdserver: no leader\n\n",
        )
        .await;
}

#[tokio::test]
async fn stalled_and_failing_reads() {
    let bench = bench();
    bench.fake.stalled.store(true, Ordering::Relaxed);
    bench
        .expect(
            "GET",
            "/health",
            503,
            "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n",
        )
        .await;
    bench
        .expect("GET", "/livez", 503, "[-]serializable_read failed: etcdserver: request timed out\n\n")
        .await;
    bench.fake.stalled.store(false, Ordering::Relaxed);
    *bench.fake.read_error.lock() = Some("etcdserver: corrupt cluster".into());
    bench.expect("GET", "/livez", 503, "[-]serializable_read failed: etcdserver: corrupt cluster\n\n").await;
}

#[tokio::test]
async fn learners_and_early_versions() {
    let bench = bench();
    bench.fake.learner.store(true, Ordering::Relaxed);
    bench
        .expect("GET", "/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner\n\n")
        .await;
    bench.fake.undecided.store(true, Ordering::Relaxed);
    bench
        .expect(
            "GET",
            "/version",
            200,
            r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}"#,
        )
        .await;
}

#[tokio::test]
async fn checks_are_counted() {
    let bench = bench();
    bench.fake.learner.store(true, Ordering::Relaxed);
    for path in ["/readyz", "/readyz", "/livez", "/health"] {
        bench.call("GET", path).await;
    }
    *bench.fake.alarms.lock() = vec![AlarmKind::NoSpace];
    bench.call("GET", "/health").await;
    bench.call("POST", "/health").await;
    let (_, text, _) = bench.call("GET", "/metrics").await;
    for line in [
        "etcd_server_health_success 1",
        "etcd_server_health_failures 1",
        "etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 0",
        "etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1",
        "etcd_server_healthchecks_total{name=\"non_learner\",status=\"error\",type=\"readyz\"} 2",
        "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn variables_are_json() {
    let (_, text, _) = bench().call("GET", "/debug/vars").await;
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["raft"]["term"], 2);
    assert!(parsed["file_descriptor_limit"].is_u64());
    assert!(parsed.get("cmdline").is_none(), "flags may hold secrets");
}

#[tokio::test]
async fn metrics_port_has_health_but_no_version() {
    let router = metrics_router(&bench().options);
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(call(&router, get("/version")).await.0.as_u16(), 404);
    for path in ["/metrics", "/health", "/livez", "/readyz"] {
        assert_eq!(call(&router, get(path)).await.0.as_u16(), 200, "{path}");
    }
}

fn connection(secure: bool, common_name: &str) -> Arc<ConnectionInfo> {
    let identity = PeerIdentity { common_name: common_name.into(), ..PeerIdentity::default() };
    Arc::new(ConnectionInfo {
        listener: "test".into(),
        remote: RemoteAddress::Unix,
        secure,
        identity: Some(Arc::new(identity)),
        runtime: 0,
    })
}

#[tokio::test]
async fn hosts_origins_and_the_gateway() {
    let echo = Router::new().fallback(|uri: http::Uri| async move { uri.to_string() });
    let rules = AccessControl::new(["https://ui.example".to_owned()], ["db.example".to_owned()])
        .refuse_gateway_names(|| true);
    let router = rules.protect(echo);
    let request = |host: &str, path: &str| Request::post(path).header("host", host);
    let send = |builder: http::request::Builder| builder.body(Body::empty()).unwrap();

    let (status, body, _) = call(&router, send(request("evil.example:2379", "/version"))).await;
    assert_eq!(status.as_u16(), 421);
    assert!(body.contains("evil.example") && body.contains("--host-whitelist"), "{body}");
    let (status, body, head) = call(&router, send(request("db.example:2379", "/v3beta/kv/put?x=1"))).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, "/v3/kv/put?x=1"));
    assert!(head.headers().get("access-control-allow-origin").is_none());
    let allowed = request("db.example", "/").header("origin", "https://ui.example");
    let (_, _, head) = call(&router, send(allowed)).await;
    assert_eq!(head.headers()["access-control-allow-origin"], "https://ui.example");
    let other = request("db.example", "/").header("origin", "https://other.example");
    assert!(call(&router, send(other)).await.2.headers().get("access-control-allow-origin").is_none());

    // TLS binds the name, so any host passes; a certificate's name must not reach the gateway while auth is on.
    let secure =
        |name: &str, path: &str| send(request("evil.example", path).extension(connection(true, name)));
    assert_eq!(call(&router, secure("", "/v3/kv/put")).await.0.as_u16(), 200);
    assert_eq!(call(&router, secure("alice", "/version")).await.0.as_u16(), 200);
    let (status, body, _) = call(&router, secure("alice", "/v3beta/kv/put")).await;
    assert_eq!(status.as_u16(), 400);
    assert!(body.starts_with("CommonName of client"), "{body}");
    let plain = send(request("[::1]:2379", "/").extension(connection(false, "")));
    assert_eq!(call(&router, plain).await.0.as_u16(), 421);
}
