//! Exports a span per call to an OpenTelemetry collector: `--enable-distributed-tracing` and its companions.
//!
//! Owns: the exporter and the tracer. Called by: `server`, once clients are served and at the end. Invariants: a collector
//! that is slow or away costs spans, never requests; a caller's decision to trace is followed, whatever the rate.
//! Source: etcd `server/embed/config_tracing.go` (resource, sampling, propagation, a connection without TLS), otelgrpc
//! (names and attributes of spans).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use keelson_api::edge::listener::RemoteAddress;
use keelson_api::edge::tracer::{CallSpan, CallTracer};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::StartError;
use crate::config::effective::Tracing;

/// How long the last spans may take to reach the collector when the member stops.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// gRPC codes that are the server's fault, as OpenTelemetry's conventions count them.
const SERVER_ERRORS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// The export while it runs.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: Arc<dyn CallTracer>,
}

impl Traces {
    /// Begins; spans leave on the current runtime.
    pub(super) fn export(options: &Tracing) -> Result<Traces, StartError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", options.address))
            .build()
            .map_err(|error| {
                StartError::new(
                    format!("export traces to {}", options.address),
                    "check --distributed-tracing-address, which is host:port",
                )
                .caused_by(error)
            })?;
        let mut resource = Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", options.service_name.clone()));
        if let Some(id) = &options.instance_id {
            resource = resource.with_attribute(KeyValue::new("service.instance.id", id.clone()));
        }
        let own = match options.per_million {
            0 => Sampler::AlwaysOff,
            rate => Sampler::TraceIdRatioBased(f64::from(rate) / 1e6),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .with_resource(resource.build())
            .build();
        let tracer =
            Arc::new(Calls { tracer: provider.tracer("keelson"), callers: TraceContextPropagator::new() });
        Ok(Traces { provider, tracer })
    }

    /// Who is to be told of calls.
    pub(super) fn tracer(&self) -> Arc<dyn CallTracer> {
        self.tracer.clone()
    }

    /// Sends what is left.
    pub(super) async fn shutdown(self) {
        // It waits for this runtime, on which the connection lives.
        let ended =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

#[derive(Debug)]
struct Calls {
    tracer: SdkTracer,
    callers: TraceContextPropagator,
}

impl CallTracer for Calls {
    fn begin(
        &self,
        method: &'static str,
        headers: &HeaderMap,
        remote: Option<RemoteAddress>,
    ) -> Option<Box<dyn CallSpan>> {
        let name = method.trim_start_matches('/');
        let (service, rpc) = name.split_once('/')?;
        let caller = self.callers.extract_with_context(&Context::new(), &Headers(headers));
        let mut attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service),
            KeyValue::new("rpc.method", rpc),
        ];
        if let Some(RemoteAddress::Tcp(address)) = remote {
            attributes.push(KeyValue::new("network.peer.address", address.ip().to_string()));
            attributes.push(KeyValue::new("network.peer.port", i64::from(address.port())));
        }
        let span = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = span.start_with_context(&self.tracer, &caller);
        span.is_recording().then(|| Box::new(Call(span)) as Box<dyn CallSpan>)
    }
}

#[derive(Debug)]
struct Call(opentelemetry_sdk::trace::Span);

impl CallSpan for Call {
    fn end(mut self: Box<Self>, code: i32) {
        self.0.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code)));
        if SERVER_ERRORS.contains(&code) {
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}

/// Where a caller says which span is its own.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
