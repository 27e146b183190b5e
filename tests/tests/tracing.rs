//! Traces reach an OpenTelemetry collector, with the names, resource and sampling that etcd's flags promise.
//!
//! `cargo test -p keelson-tests --test tracing`. The collector is one of our own; real etcd is asked first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Kind, Options, free_port};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use tonic::{Request, Response, Status};

const CALLER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// Spans with the attributes of what sent them.
type Spans = Arc<Mutex<Vec<(Vec<KeyValue>, Span)>>>;

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for group in request.into_inner().resource_spans {
            let resource = group.resource.map(|resource| resource.attributes).unwrap_or_default();
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

/// Starts a collector; gives its address and what it receives.
fn collector() -> (String, Spans) {
    let (address, spans) = (format!("127.0.0.1:{}", free_port()), Spans::default());
    let server =
        tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(spans.clone())));
    tokio::spawn(server.serve(address.parse().unwrap()));
    (address, spans)
}

/// Two puts, the second on behalf of a caller that traces; then the server ends, which sends what it has.
async fn record(kind: Kind, rate: u32) -> Vec<(Vec<KeyValue>, Span)> {
    let (address, spans) = collector();
    let options = Options::new(kind, 1)
        .quick()
        .flag("--enable-distributed-tracing")
        .flag(format!("--distributed-tracing-address={address}"))
        .flag("--distributed-tracing-service-name=shop")
        .flag("--distributed-tracing-instance-id=shop-7")
        .flag(format!("--distributed-tracing-sampling-rate={rate}"));
    let mut cluster = Cluster::start(options).await.expect("the server starts");
    let client = Client::lazy(&cluster.member(0).client_url());
    let put = || pb::PutRequest { key: "k".into(), ..Default::default() };
    client.kv().put(put()).await.expect("a put");
    let mut traced = Request::new(put());
    let parent = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01");
    traced.metadata_mut().insert("traceparent", parent.parse().unwrap());
    client.kv().put(traced).await.expect("a put");
    let stopping = std::thread::spawn(move || {
        let ended = cluster.member_mut(0).terminate(Duration::from_secs(20));
        (ended, cluster)
    });
    while !stopping.is_finished() {
        tokio::task::yield_now().await;
    }
    stopping.join().unwrap().0.expect("a graceful end");
    let mut spans = std::mem::take(&mut *spans.lock().unwrap_or_else(PoisonError::into_inner));
    spans.retain(|(_, span)| span.name == "etcdserverpb.KV/Put");
    spans
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_exported_and_belong_to_their_callers_traces() {
    for kind in Kind::each(&[]) {
        let spans = record(kind, 1_000_000).await;
        assert_eq!(spans.len(), 2, "{kind:?}: {spans:?}");
        for (resource, span) in &spans {
            assert_eq!(attribute(resource, "service.name"), Some("shop"), "{kind:?}");
            assert_eq!(attribute(resource, "service.instance.id"), Some("shop-7"), "{kind:?}");
            assert_eq!(span.kind, SpanKind::Server as i32, "{kind:?}");
            assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{kind:?}");
        }
        let of_caller = |(_, span): &&(_, Span)| hex(&span.trace_id) == CALLER_TRACE;
        let called = spans.iter().find(of_caller).unwrap_or_else(|| panic!("{kind:?}: {spans:?}"));
        assert_eq!(hex(&called.1.parent_span_id), CALLER_SPAN, "{kind:?}");
        let own = spans.iter().find(|span| !of_caller(span)).expect("a trace of its own");
        assert!(own.1.parent_span_id.is_empty(), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rate_zero_only_callers_decide() {
    for kind in Kind::each(&[]) {
        let spans = record(kind, 0).await;
        let traces: Vec<String> = spans.iter().map(|(_, span)| hex(&span.trace_id)).collect();
        assert_eq!(traces, [CALLER_TRACE], "{kind:?}");
    }
}

/// A collector that is not there costs spans and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_everything_else_goes_on() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let options = Options::new(kind, 1)
        .quick()
        .flag("--enable-distributed-tracing")
        .flag(format!("--distributed-tracing-address=127.0.0.1:{}", free_port()))
        .flag("--distributed-tracing-sampling-rate=1000000");
    let mut cluster = Cluster::start(options).await.expect("the server starts");
    let client = Client::lazy(&cluster.member(0).client_url());
    for _ in 0..100 {
        client.kv().put(pb::PutRequest { key: "k".into(), ..Default::default() }).await.expect("a put");
    }
    cluster.member_mut(0).terminate(Duration::from_secs(20)).expect("a graceful end");
}
