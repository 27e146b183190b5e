//! A client port as the wiring builds it: gRPC counted, HTTP endpoints, access rules, one address.

use axum::routing::post;
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use tower::Layer;

use super::*;
use crate::edge::dispatch::Dispatch;
use crate::edge::http::source::{AlarmKind, HealthSource, ReadResult, Versions};
use crate::edge::http::{AccessControl, HttpOptions};
use crate::edge::metrics::{EtcdMetrics, GrpcMetrics, Registry, edge, process};

struct AllGood;

impl HealthSource for AllGood {
    fn alarms(&self) -> Vec<AlarmKind> {
        Vec::new()
    }
    fn has_leader(&self) -> bool {
        true
    }
    fn is_learner(&self) -> bool {
        false
    }
    fn linearizable_read(&self) -> ReadResult<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn serializable_read(&self) -> ReadResult<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn versions(&self) -> Versions {
        Versions { server: "3.7.3".into(), cluster: None, storage: None }
    }
}

const PUT: &str = "/etcdserverpb.KV/Put";

/// Stands in for the gRPC routes: one message of ten bytes, then a status.
fn grpc_routes() -> Router {
    let put = |request: Request| async move {
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        let status = if bytes.len() > 5 { "0" } else { "3" };
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
        let message = Bytes::from_static(b"\0\0\0\0\x0a0123456789");
        let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
        http::Response::builder()
            .header("content-type", "application/grpc")
            .body(axum::body::Body::new(body))
            .unwrap()
    };
    Router::new().route(PUT, post(put)).fallback(|| async { "unimplemented" })
}

#[tokio::test]
async fn grpc_and_http_share_a_port_and_do_not_mix() {
    let registry = Arc::new(Registry::default());
    let metrics = EtcdMetrics::new(&registry);
    let grpc_metrics = GrpcMetrics::new(&registry, 2, true);
    process::register(&registry);
    let options = HttpOptions::new(Arc::new(AllGood), Arc::clone(&registry), Arc::clone(&metrics));
    let layers = Arc::clone(&grpc_metrics);
    let factory = move |runtime: usize| {
        let grpc = layers.layer(runtime).layer(grpc_routes());
        let http = AccessControl::default().protect(crate::edge::http::router(&options));
        Dispatch::new(grpc, http)
    };
    let urls: Vec<ListenUrl> = vec!["http://127.0.0.1:0".parse().unwrap()];
    let listeners = Listener::bind_all(&urls, None, &BindOptions::default()).unwrap();
    let server = Server::start(listeners, ServerOptions { runtimes: 2, ..quick() }, factory).unwrap();
    let stats = Arc::clone(server.stats());
    edge::register(&registry, vec![edge::Observed { port: "client", stats: Arc::clone(&stats), tls: None }]);
    let (received, sent) = (Arc::clone(&stats), Arc::clone(&stats));
    metrics.network.client_grpc_received_bytes.follow(move || received.received_bytes() as f64);
    metrics.network.client_grpc_sent_bytes.follow(move || sent.sent_bytes() as f64);

    let socket = TcpStream::connect(server.local_addresses()[0].unwrap()).await.unwrap();
    let (mut client, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let mut call = async |content_type: &str, path: &str, body: &'static [u8]| {
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", content_type)
            .body(Full::new(Bytes::from_static(body)))
            .unwrap();
        client.ready().await.unwrap();
        let response = client.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let status = body.trailers().map(|t| t["grpc-status"].to_str().unwrap().to_owned());
        (head, String::from_utf8_lossy(&body.to_bytes()).into_owned(), status)
    };
    let (head, body, status) = call("application/grpc", PUT, b"\0\0\0\0\x05hello").await;
    assert_eq!((body.as_str(), status.as_deref()), ("\0\0\0\0\n0123456789", Some("0")));
    assert!(head.headers.get("access-control-allow-origin").is_none(), "gRPC meets no browser rules");
    assert_eq!(call("application/grpc+proto", PUT, b"\0\0\0\0\0").await.2.as_deref(), Some("3"));
    assert_eq!((grpc_metrics.handled(PUT, 0), grpc_metrics.handled(PUT, 3)), (1, 1));
    assert_eq!(stats.received_bytes(), 15);
    // Counted after the write, on another thread: the answer may be here first.
    eventually("both answers are counted", || stats.sent_bytes() == 30).await;
    assert_eq!(call("application/grpc", "/no.Such/Method", b"").await.1, "unimplemented");

    let (head, body, _) = call("application/json", PUT, b"{}").await;
    assert_eq!((head.status.as_u16(), body.as_str()), (404, "404 page not found\n"));
    assert_eq!(head.headers["access-control-allow-origin"], "*");
    let (_, text, _) = call("text/plain", "/metrics", b"").await;
    let families = crate::edge::metrics::scrape::parse(&text);
    for line in [
        "etcd_network_client_grpc_received_bytes_total 17", // the two bytes of JSON came over HTTP/2 as well
        "grpc_server_msg_sent_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 2",
        "keelson_edge_connections_accepted_total{port=\"client\"} 1",
        "keelson_edge_connections_refused_total{port=\"client\",reason=\"handshake\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert_eq!(families["keelson_edge_connections"].samples.len(), 2);

    // The same over HTTP/1.1.
    let mut plain = Client::plain(server.local_addresses()[0].unwrap(), false).await.unwrap();
    assert_eq!(plain.get("/health").await.unwrap(), r#"{"health":"true","reason":""}"#);
    assert_eq!(plain.get("/livez").await.unwrap(), "ok\n");
    server.shutdown(Duration::from_secs(20)).await;
}
