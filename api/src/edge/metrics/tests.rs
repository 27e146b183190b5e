//! The catalogue against etcd's, and the counting of gRPC calls.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};

use super::scrape::{Scraped, parse};
use super::*;

/// Families of etcd 3.7.3: name, kind, labels, and for histograms the number of buckets with the first and last bound.
/// Scraped from a running server with `--metrics extensive`; the peer families, which a single member does not show,
/// are from its metrics.go files. Families that have no meaning here are left out (see `etcd.rs`).
const ETCD: &str = include_str!("etcd_families.txt");

/// Gives every labelled set one member, so that all families show.
fn touch(metrics: &EtcdMetrics) {
    let (server, network) = (&metrics.server, &metrics.network);
    for gauge in [&server.version, &server.id, &server.cluster_version] {
        gauge.with(&["a"]);
    }
    for counter in [
        &server.learner_promote_failures,
        &network.peer_sent_bytes,
        &network.peer_received_bytes,
        &network.peer_sent_failures,
        &network.peer_received_failures,
        &network.snapshot_send_success,
        &network.snapshot_send_failures,
        &network.snapshot_receive_success,
        &network.snapshot_receive_failures,
    ] {
        counter.with(&["a"]);
    }
    for gauge in [&network.snapshot_send_inflight, &network.snapshot_receive_inflight] {
        gauge.with(&["a"]);
    }
    for histogram in
        [&server.range_duration, &network.peer_round_trip, &network.snapshot_send, &network.snapshot_receive]
    {
        histogram.with(&["a"]).observe(1.0);
    }
    for gauge in [
        &server.feature_enabled,
        &server.healthcheck,
        &server.alarms,
        &network.known_peers,
        &network.active_peers,
    ] {
        gauge.with(&["a", "b"]);
    }
    for counter in [&network.server_stream_failures, &network.disconnected_peers] {
        counter.with(&["a", "b"]);
    }
    server.request_duration.with(&["a", "b"]);
    server.healthchecks.with(&["a", "b", "c"]);
    server.apply_duration.with(&["a", "b", "c"]);
}

/// A family in the notation of the list.
fn describe(name: &str, family: &Scraped) -> String {
    let mut labels: Vec<&str> = Vec::new();
    let mut bounds: Vec<&str> = Vec::new();
    for (label, value) in family.samples.iter().flat_map(|(_, labels, _)| labels) {
        let list = if label == "le" { &mut bounds } else { &mut labels };
        let shown = if label == "le" { value } else { label };
        if !list.contains(&shown.as_str()) {
            list.push(shown);
        }
    }
    labels.sort_unstable();
    let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(",") };
    match bounds[..] {
        [] => format!("{name} {} {labels}", family.kind),
        [first, .., last, _] => format!("{name} {} {labels} {}:{first}:{last}", family.kind, bounds.len()),
        _ => panic!("a histogram has more than two buckets"),
    }
}

#[tokio::test]
async fn every_family_of_etcd_has_its_name_kind_labels_and_buckets() {
    let registry = Registry::default();
    let metrics = EtcdMetrics::new(&registry);
    let grpc = GrpcMetrics::new(&registry, 2, true);
    process::register(&registry);
    touch(&metrics);
    call(&grpc, 0, "/etcdserverpb.KV/Range", Answer::Head("0")).await;
    let found = parse(&registry.text());
    let missing: Vec<&str> = ETCD
        .lines()
        .filter(|line| {
            let name = line.split(' ').next().unwrap();
            found.get(name).is_none_or(|family| describe(name, family) != *line)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let extra: Vec<&String> =
        found.keys().filter(|name| !ETCD.lines().any(|l| l.starts_with(&format!("{name} ")))).collect();
    assert!(extra.is_empty(), "not in etcd: {extra:?}");
    assert!(found.values().all(|family| !family.help.is_empty()));
}

#[test]
fn values_come_through() {
    let registry = Registry::default();
    let metrics = EtcdMetrics::new(&registry);
    metrics.identify("3.7.3", 0x0628_170c_800d_bcee);
    metrics.set_cluster_version("3.6.0");
    metrics.set_cluster_version("3.7.0");
    metrics.server.has_leader.set_bool(true);
    metrics.server.leader_changes.add(3);
    metrics.mvcc.db_total_size.follow(|| 4096.0);
    metrics.disk.wal_fsync.observe_duration(std::time::Duration::from_micros(1500));
    let text = registry.text();
    for line in [
        "etcd_server_version{server_version=\"3.7.3\"} 1",
        "etcd_server_id{server_id=\"628170c800dbcee\"} 1",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "etcd_server_has_leader 1",
        "etcd_server_leader_changes_seen_total 3",
        "etcd_mvcc_db_total_size_in_bytes 4096",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_sum 0.0015",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(!text.contains("cluster_version=\"3.6\""), "only the current version is reported");
}

#[test]
#[should_panic(expected = "registered twice")]
fn names_are_unique() {
    let registry = Registry::default();
    drop(EtcdMetrics::new(&registry));
    drop(EtcdMetrics::new(&registry));
}

/// How the service under test answers.
#[derive(Clone)]
enum Answer {
    /// Status in the head.
    Head(&'static str),
    /// Messages in these chunks, then a status in the trailers.
    Messages(Vec<Bytes>, &'static str),
    /// Messages, then no status.
    Cut(Vec<Bytes>),
    /// The service fails.
    Error,
}

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.extend(std::iter::repeat_n(7, length));
    bytes
}

/// A body of given frames.
struct Scripted(VecDeque<Frame<Bytes>>);

impl Body for Scripted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn answer(answer: Answer) -> Result<Response<Scripted>, &'static str> {
    let data = |chunks: Vec<Bytes>| chunks.into_iter().map(Frame::data).collect::<VecDeque<_>>();
    match answer {
        Answer::Head(code) => {
            Ok(Response::builder().header("grpc-status", code).body(Scripted(VecDeque::new())).unwrap())
        }
        Answer::Messages(messages, code) => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            let mut frames = data(messages);
            frames.push_back(Frame::trailers(trailers));
            Ok(Response::new(Scripted(frames)))
        }
        Answer::Cut(messages) => Ok(Response::new(Scripted(data(messages)))),
        Answer::Error => Err("broken"),
    }
}

async fn call(grpc: &GrpcMetrics, runtime: usize, path: &str, reply: Answer) {
    request(grpc, runtime, path, Vec::new(), reply, None).await;
}

async fn request(
    grpc: &GrpcMetrics,
    runtime: usize,
    path: &str,
    body: Vec<Bytes>,
    reply: Answer,
    version: Option<&str>,
) {
    let service =
        grpc.layer(runtime).layer(service_fn(move |request: Request<grpc::MeteredRequest<Scripted>>| {
            let reply = reply.clone();
            async move {
                request.into_body().collect().await.unwrap();
                answer(reply)
            }
        }));
    let body = Scripted(body.into_iter().map(Frame::data).collect());
    let mut request = Request::post(path).body(body).unwrap();
    if let Some(version) = version {
        request.headers_mut().insert("client-api-version", version.parse().unwrap());
    }
    if let Ok(response) = service.oneshot(request).await {
        drop(response.into_body().collect().await);
    }
}

fn sample(registry: &Registry, family: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    let found = parse(&registry.text());
    let matches = |labels: &[(String, String)]| {
        wanted.iter().all(|(name, value)| labels.iter().any(|(n, v)| n == name && v == value))
    };
    found.get(family)?.samples.iter().find(|(_, labels, _)| matches(labels)).map(|(_, _, value)| *value)
}

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

#[tokio::test]
async fn statuses_are_counted_once_wherever_they_stand() {
    let registry = Registry::default();
    let grpc = GrpcMetrics::new(&registry, 2, true);
    let hello = || vec![Bytes::from(message(5))];
    call(&grpc, 0, PUT, Answer::Messages(hello(), "0")).await;
    call(&grpc, 1, PUT, Answer::Messages(hello(), "0")).await;
    call(&grpc, 0, PUT, Answer::Head("3")).await;
    call(&grpc, 0, PUT, Answer::Cut(hello())).await;
    call(&grpc, 0, PUT, Answer::Error).await;
    call(&grpc, 0, PUT, Answer::Head("99")).await;
    call(&grpc, 0, "/not.A/Method", Answer::Head("12")).await;
    let put = [("grpc_method", "Put"), ("grpc_service", "etcdserverpb.KV"), ("grpc_type", "unary")];
    assert_eq!(sample(&registry, "grpc_server_started_total", &put), Some(6.0));
    for (code, count) in [("OK", 2.0), ("InvalidArgument", 1.0), ("Unknown", 3.0), ("Canceled", 0.0)] {
        let labels = [&put[..], &[("grpc_code", code)]].concat();
        assert_eq!(sample(&registry, "grpc_server_handled_total", &labels), Some(count), "{code}");
    }
    assert_eq!(sample(&registry, "grpc_server_msg_received_total", &put), Some(6.0));
    assert_eq!(
        sample(&registry, "grpc_server_msg_sent_total", &put),
        Some(4.0),
        "answers that carried a status"
    );
    assert_eq!(
        sample(&registry, "grpc_server_handling_seconds", &[put[0], put[1], put[2], ("le", "+Inf")]),
        Some(6.0)
    );
    assert_eq!(grpc.handled(PUT, 0), 2);
    assert!(!registry.text().contains("not.A"), "clients cannot create series");
}

#[tokio::test]
async fn dropped_calls_are_canceled() {
    let registry = Registry::default();
    let grpc = GrpcMetrics::new(&registry, 1, false);
    let never = grpc.layer(0).layer(service_fn(|_: Request<grpc::MeteredRequest<Scripted>>| {
        std::future::pending::<Result<Response<Scripted>, Infallible>>()
    }));
    let pending = never.oneshot(Request::post(PUT).body(Scripted(VecDeque::new())).unwrap());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1), pending).await.is_err());
    assert_eq!(grpc.handled(PUT, 1), 1);

    let service = grpc.layer(0).layer(service_fn(|_: Request<grpc::MeteredRequest<Scripted>>| async {
        answer(Answer::Messages(vec![Bytes::from(message(5))], "0"))
    }));
    let response =
        service.oneshot(Request::post(WATCH).body(Scripted(VecDeque::new())).unwrap()).await.unwrap();
    assert_eq!(grpc.handled(WATCH, 1), 0, "a stream is under way until its body ends");
    drop(response);
    assert_eq!(grpc.handled(WATCH, 1), 1);
    assert!(
        !registry.text().contains("grpc_server_handling_seconds"),
        "durations only with --metrics extensive"
    );
}

#[tokio::test]
async fn messages_of_streams_are_counted_however_they_are_cut() {
    let all: Vec<u8> = [message(0), message(3), message(300), message(1)].concat();
    for piece in [1, 2, 4, 5, 6, 7, 100, all.len()] {
        let registry = Registry::default();
        let grpc = GrpcMetrics::new(&registry, 1, false);
        let chunks: Vec<Bytes> = all.chunks(piece).map(Bytes::copy_from_slice).collect();
        request(&grpc, 0, WATCH, chunks.clone(), Answer::Messages(chunks, "0"), None).await;
        let watch = [("grpc_method", "Watch"), ("grpc_service", "etcdserverpb.Watch")];
        assert_eq!(
            sample(&registry, "grpc_server_msg_received_total", &watch),
            Some(4.0),
            "pieces of {piece}"
        );
        assert_eq!(sample(&registry, "grpc_server_msg_sent_total", &watch), Some(4.0), "pieces of {piece}");
    }
}

#[tokio::test]
async fn client_versions_are_bounded() {
    let registry = Registry::default();
    let grpc = GrpcMetrics::new(&registry, 1, false);
    let report =
        async |version: Option<&str>| request(&grpc, 0, PUT, vec![], Answer::Head("0"), version).await;
    report(None).await;
    report(Some("3.7.0")).await;
    report(Some("3.7.0")).await;
    report(Some("a version with spaces\u{e9}")).await;
    report(Some(&"9".repeat(100))).await;
    for n in 0..200 {
        report(Some(&format!("4.{n}.0"))).await;
    }
    let found = parse(&registry.text());
    let samples = &found["etcd_server_client_requests_total"].samples;
    assert!(samples.len() <= 32, "{}", samples.len());
    let total: f64 = samples.iter().map(|(_, _, value)| value).sum();
    assert_eq!(total, 205.0);
    let known = [("client_api_version", "3.7.0"), ("type", "unary")];
    assert_eq!(sample(&registry, "etcd_server_client_requests_total", &known), Some(2.0));
}

#[tokio::test]
async fn lock_and_election_appear_with_their_first_call() {
    let registry = Registry::default();
    let grpc = GrpcMetrics::new(&registry, 1, false);
    assert!(!registry.text().contains("v3lockpb"));
    let found = parse(&registry.text());
    // As in a fresh etcd: every listed method, and every method with every code.
    assert_eq!(found["grpc_server_started_total"].samples.len(), 45);
    assert_eq!(found["grpc_server_handled_total"].samples.len(), 765);
    call(&grpc, 0, "/v3lockpb.Lock/Lock", Answer::Head("0")).await;
    let lock = [("grpc_method", "Lock"), ("grpc_service", "v3lockpb.Lock")];
    assert_eq!(sample(&registry, "grpc_server_started_total", &lock), Some(1.0));
}
