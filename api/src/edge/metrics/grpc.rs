//! Counts per gRPC method, as Go's gRPC middleware for Prometheus does.
//!
//! Owns: [`GrpcMetrics`] (the counts), [`GrpcLayer`] (wraps the service of one runtime).
//! Invariants: recording is a handful of relaxed additions on cache lines of this runtime; unary calls cost no
//! allocation and only streaming calls have their messages counted by looking at the bytes; every started call is
//! handled exactly once, `Canceled` if the client or the server dropped it before its status.
//! Called by: the wiring, inside each runtime's service factory.
//! Source: go-grpc-middleware providers/prometheus (names, labels, which series exist from the start).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::instruments::Histogram;
use super::methods::{CANCELED, CODES, METHODS, Style, UNKNOWN, find, labels};
use super::registry::{Family, Registry};
use super::text::{FamilyWriter, Kind, to_f64};
use crate::edge::clock;
use crate::edge::complaints::Complaints;
use crate::edge::listener::ConnectionInfo;
use crate::edge::listener::stats::Padded;
use crate::edge::timestamp;
use crate::edge::tracer::{CallSpan, CallTracer};

/// Counts of one method on one runtime.
#[derive(Debug, Default)]
struct MethodCounts {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

/// Calls of one client version on one runtime.
#[derive(Debug, Default)]
struct VersionCounts {
    unary: AtomicU64,
    stream: AtomicU64,
}

/// Distinct client versions that are told apart; clients choose the string, so it is bounded.
const VERSIONS_MAX: usize = 32;
const VERSION_BYTES_MAX: usize = 32;
const VERSION_UNKNOWN: &str = "unknown";

/// Client versions seen, by number. The first is "unknown"; numbers are never reused.
type VersionNames = ArcSwap<Vec<String>>;

/// What one runtime counts. Each runtime holds its own `Arc`, so that not even the reference count is shared.
#[derive(Debug)]
struct RuntimeCounts {
    methods: Padded<Box<[MethodCounts]>>,
    versions: [VersionCounts; VERSIONS_MAX],
    /// Present only with `--metrics extensive`.
    durations: Option<Box<[Histogram]>>,
    names: Arc<VersionNames>,
}

/// Counts of all methods of a server.
pub struct GrpcMetrics {
    runtimes: Box<[Arc<RuntimeCounts>]>,
    names: Arc<VersionNames>,
}

impl std::fmt::Debug for GrpcMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcMetrics").field("runtimes", &self.runtimes.len()).finish_non_exhaustive()
    }
}

impl GrpcMetrics {
    /// Registers the families. `runtimes` is the number of runtimes that will count; `extensive` adds durations.
    ///
    /// # Panics
    /// If one of the names is taken already.
    #[must_use]
    pub fn new(registry: &Registry, runtimes: usize, extensive: bool) -> Arc<Self> {
        // The Go client's default buckets.
        let bounds = || Box::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let names = Arc::new(ArcSwap::from_pointee(vec![VERSION_UNKNOWN.to_owned()]));
        let runtime = || {
            Arc::new(RuntimeCounts {
                methods: Padded(METHODS.iter().map(|_| MethodCounts::default()).collect()),
                versions: Default::default(),
                durations: extensive.then(|| METHODS.iter().map(|_| Histogram::new(bounds())).collect()),
                names: Arc::clone(&names),
            })
        };
        let runtimes = (0..runtimes.max(1)).map(|_| runtime()).collect();
        let metrics = Arc::new(GrpcMetrics { runtimes, names });
        let add = |name, help, what| {
            registry.register(name, help, GrpcFamily { metrics: Arc::clone(&metrics), what })
        };
        add("grpc_server_started_total", "Calls started.", What::Started);
        add("grpc_server_handled_total", "Calls completed, by status.", What::Handled);
        add("grpc_server_msg_received_total", "Messages received.", What::Received);
        add("grpc_server_msg_sent_total", "Messages sent.", What::Sent);
        add(
            "etcd_server_client_requests_total",
            "Calls by the API version the client reports.",
            What::Versions,
        );
        if extensive {
            add(
                "grpc_server_handling_seconds",
                "Time from the start of a call to its status.",
                What::Durations,
            );
        }
        metrics
    }

    /// The layer for the service of one runtime.
    #[must_use]
    pub fn layer(&self, runtime: usize) -> GrpcLayer {
        let counts = Arc::clone(&self.runtimes[runtime % self.runtimes.len()]);
        GrpcLayer { counts, slow: None, tracer: None }
    }

    /// Calls of `path` that ended with status number `code`.
    #[must_use]
    pub fn handled(&self, path: &str, code: usize) -> u64 {
        find(path).map_or(0, |method| self.sum(method, |counts| &counts.handled[code]))
    }

    fn sum(&self, method: usize, pick: impl Fn(&MethodCounts) -> &AtomicU64) -> u64 {
        self.runtimes.iter().map(|runtime| pick(&runtime.methods.0[method]).load(Ordering::Relaxed)).sum()
    }
}

impl RuntimeCounts {
    fn count_version(&self, headers: &HeaderMap, style: Style) {
        let counts = &self.versions[self.version(headers)];
        let side = if style == Style::Unary { &counts.unary } else { &counts.stream };
        side.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of the version the client reports.
    fn version(&self, headers: &HeaderMap) -> usize {
        let Some(reported) = headers.get("client-api-version") else { return 0 };
        let plausible = |v: &&str| {
            v.len() <= VERSION_BYTES_MAX
                && v.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
        };
        let Some(reported) = reported.to_str().ok().filter(plausible) else { return 0 };
        let position = |names: &[String]| names.iter().position(|name| name == reported);
        let names = self.names.load();
        if let Some(found) = position(&names) {
            return found;
        }
        if names.len() >= VERSIONS_MAX {
            return 0;
        }
        drop(names);
        self.names.rcu(|names| {
            let mut names = Vec::clone(names);
            if position(&names).is_none() && names.len() < VERSIONS_MAX {
                names.push(reported.to_owned());
            }
            names
        });
        position(&self.names.load()).unwrap_or(0)
    }
}

/// Wraps the service of one runtime.
#[derive(Clone, Debug)]
pub struct GrpcLayer {
    counts: Arc<RuntimeCounts>,
    slow: Option<Arc<Slow>>,
    tracer: Option<Arc<dyn CallTracer>>,
}

/// Which unary calls are worth a line in the log.
#[derive(Debug)]
struct Slow {
    limit: Duration,
    complaints: Complaints,
}

impl GrpcLayer {
    /// Logs each unary call that takes longer.
    #[must_use]
    pub fn log_slower_than(mut self, limit: Duration) -> Self {
        self.slow = Some(Arc::new(Slow { limit, complaints: Complaints::default() }));
        self
    }

    /// Tells a tracer of each call.
    #[must_use]
    pub fn trace(mut self, tracer: Option<Arc<dyn CallTracer>>) -> Self {
        self.tracer = tracer;
        self
    }
}

impl Slow {
    /// The line has etcd's text and fields, so that what reads etcd's log reads ours. As there, a count or size that
    /// nobody knows is -1; more than ten lines a second are counted, not written.
    fn note(&self, call: &Call, took: Duration) {
        if took <= self.limit {
            return;
        }
        self.complaints.say(|suppressed| {
            let remote = call.connection.as_ref().map(|connection| connection.remote.to_string());
            tracing::warn!(
                "start time" = %timestamp::at(clock::unix_now().saturating_sub(took)),
                "time spent" = ?took,
                "remote" = remote.as_deref().unwrap_or("No remote client info."),
                "response type" = METHODS[call.method].path,
                "request count" = -1,
                "request size" = -1,
                "response count" = -1,
                "response size" = call.response_bytes,
                "expected-duration" = ?self.limit,
                status = CODES[call.code],
                suppressed,
                "request stats"
            );
        });
    }
}

impl<S> tower::Layer<S> for GrpcLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, layer: self.clone() }
    }
}

/// A service whose gRPC calls are counted. Other requests pass untouched.
#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
    layer: GrpcLayer,
}

impl<S, I, O> tower::Service<Request<I>> for Metered<S>
where
    S: tower::Service<Request<MeteredRequest<I>>, Response = Response<O>>,
    O: Body<Data = Bytes>,
{
    type Response = Response<MeteredBody<O>>;
    type Error = S::Error;
    type Future = MeteredCall<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let call = find(request.uri().path()).map(|method| Call::start(&self.layer, method, &request));
        let messages = call
            .as_ref()
            .filter(|call| call.style() == Style::BidiStream)
            .map(|call| (Arc::clone(&call.runtime), call.method, MessageScanner::default()));
        let request = request.map(|inner| MeteredRequest { inner, messages });
        MeteredCall { inner: self.inner.call(request), call }
    }
}

/// One call under way; counts itself as handled when dropped.
#[derive(Debug)]
struct Call {
    runtime: Arc<RuntimeCounts>,
    method: usize,
    code: usize,
    started: Option<Instant>,
    slow: Option<Arc<Slow>>,
    /// Who asks, where a slow answer is worth a line.
    connection: Option<Arc<ConnectionInfo>>,
    /// Of a unary call, the head of the message included.
    response_bytes: usize,
    /// What a tracer began for it.
    span: Option<Box<dyn CallSpan>>,
}

impl Call {
    fn start<I>(layer: &GrpcLayer, method: usize, request: &Request<I>) -> Self {
        let slow = layer.slow.as_ref().filter(|_| METHODS[method].style == Style::Unary).cloned();
        let call = Call {
            runtime: Arc::clone(&layer.counts),
            method,
            code: CANCELED,
            started: (slow.is_some() || layer.counts.durations.is_some()).then(clock::now),
            connection: slow.as_ref().and_then(|_| request.extensions().get().cloned()),
            response_bytes: 0,
            span: layer.tracer.as_ref().and_then(|tracer| {
                let connection = request.extensions().get::<Arc<ConnectionInfo>>();
                tracer.begin(METHODS[method].path, request.headers(), connection.map(|it| it.remote))
            }),
            slow,
        };
        let counts = call.counts();
        counts.started.fetch_add(1, Ordering::Relaxed);
        if call.style() != Style::BidiStream {
            counts.received.fetch_add(1, Ordering::Relaxed);
        }
        layer.counts.count_version(request.headers(), call.style());
        call
    }

    fn counts(&self) -> &MethodCounts {
        &self.runtime.methods.0[self.method]
    }

    fn style(&self) -> Style {
        METHODS[self.method].style
    }

    fn note_status(&mut self, headers: &HeaderMap) -> bool {
        let Some(status) = headers.get("grpc-status") else { return false };
        self.code = status
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|code| *code < CODES.len())
            .unwrap_or(UNKNOWN);
        if self.style() == Style::Unary {
            // Go's middleware counts the answer of a failed unary call as a message too.
            self.counts().sent.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let counts = self.counts();
        counts.handled[self.code].fetch_add(1, Ordering::Relaxed);
        if let Some(span) = self.span.take() {
            span.end(self.code as i32);
        }
        let Some(started) = self.started else { return };
        let took = clock::now().duration_since(started);
        if let Some(durations) = &self.runtime.durations {
            durations[self.method].observe_duration(took);
        }
        if let Some(slow) = &self.slow {
            slow.note(self, took);
        }
    }
}

pin_project! {
    /// Future of a counted call.
    #[derive(Debug)]
    pub struct MeteredCall<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, O, E> Future for MeteredCall<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<MeteredBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                if let Some(call) = this.call {
                    call.code = UNKNOWN;
                }
                this.call.take();
                return Poll::Ready(Err(error));
            }
        };
        let mut call = this.call.take();
        // Calls without messages carry their status in the head.
        if call.as_mut().is_some_and(|call| call.note_status(response.headers())) {
            call = None;
        }
        Poll::Ready(Ok(response.map(|inner| MeteredBody {
            inner,
            call,
            messages: MessageScanner::default(),
        })))
    }
}

/// Counts gRPC messages in a byte stream by their five-byte heads.
#[derive(Debug, Default)]
struct MessageScanner {
    skip: u64,
    head: [u8; 5],
    head_len: u8,
}

impl MessageScanner {
    /// Messages that begin in `bytes`.
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        while !bytes.is_empty() {
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= u64::try_from(passed).expect("bounded by skip");
            bytes = &bytes[passed..];
            let have = usize::from(self.head_len);
            let take = bytes.len().min(self.head.len() - have);
            self.head[have..have + take].copy_from_slice(&bytes[..take]);
            self.head_len += u8::try_from(take).expect("at most five");
            bytes = &bytes[take..];
            if usize::from(self.head_len) == self.head.len() {
                let [_, length @ ..] = self.head;
                self.skip = u64::from(u32::from_be_bytes(length));
                self.head_len = 0;
                messages += 1;
            }
        }
        messages
    }
}

pin_project! {
    /// Request body of a counted call.
    #[derive(Debug)]
    pub struct MeteredRequest<I> {
        #[pin]
        inner: I,
        messages: Option<(Arc<RuntimeCounts>, usize, MessageScanner)>,
    }
}

impl<I: Body<Data = Bytes>> Body for MeteredRequest<I> {
    type Data = Bytes;
    type Error = I::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, I::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(Ok(frame)), Some((runtime, method, scanner))) = (&frame, this.messages)
            && let Some(data) = frame.data_ref()
        {
            runtime.methods.0[*method].received.fetch_add(scanner.feed(data), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// Response body of a counted call.
    #[derive(Debug)]
    pub struct MeteredBody<O> {
        #[pin]
        inner: O,
        call: Option<Call>,
        messages: MessageScanner,
    }
}

impl<O> Body for MeteredBody<O>
where
    O: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = O::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, O::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let Some(call) = this.call else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    call.note_status(trailers);
                    this.call.take();
                } else if let Some(data) = frame.data_ref()
                    && data.has_remaining()
                {
                    if call.style() == Style::Unary {
                        call.response_bytes += data.len();
                    } else {
                        call.counts().sent.fetch_add(this.messages.feed(data), Ordering::Relaxed);
                    }
                }
            }
            Some(Err(_)) => {
                call.code = UNKNOWN;
                this.call.take();
            }
            None => {
                call.code = UNKNOWN; // ended without a status
                this.call.take();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[derive(Clone, Copy)]
enum What {
    Started,
    Handled,
    Received,
    Sent,
    Durations,
    Versions,
}

struct GrpcFamily {
    metrics: Arc<GrpcMetrics>,
    what: What,
}

impl Family for GrpcFamily {
    fn kind(&self) -> Kind {
        if matches!(self.what, What::Durations) { Kind::Histogram } else { Kind::Counter }
    }

    fn write(&self, out: &mut FamilyWriter<'_>) {
        let metrics = &*self.metrics;
        let mut order: Vec<usize> = (0..METHODS.len()).collect();
        order.sort_by_key(|method| (METHODS[*method].name(), METHODS[*method].service()));
        let used =
            |method: &usize| METHODS[*method].listed || metrics.sum(*method, |counts| &counts.started) > 0;
        order.retain(used);
        let simple = |out: &mut FamilyWriter<'_>, pick: fn(&MethodCounts) -> &AtomicU64| {
            for method in &order {
                out.sample(&labels(*method), to_f64(metrics.sum(*method, pick)));
            }
        };
        match self.what {
            What::Started => simple(out, |counts| &counts.started),
            What::Received => simple(out, |counts| &counts.received),
            What::Sent => simple(out, |counts| &counts.sent),
            What::Handled => {
                let mut codes: Vec<usize> = (0..CODES.len()).collect();
                codes.sort_by_key(|code| CODES[*code]);
                for code in codes {
                    for method in &order {
                        let count = metrics.sum(*method, |counts| &counts.handled[code]);
                        if METHODS[*method].listed || count > 0 {
                            let [name, service, kind] = labels(*method);
                            out.sample(&[("grpc_code", CODES[code]), name, service, kind], to_f64(count));
                        }
                    }
                }
            }
            What::Durations => {
                for method in order {
                    let parts =
                        metrics.runtimes.iter().filter_map(|r| r.durations.as_ref().map(|d| &d[method]));
                    Histogram::write_sum(parts, out, &labels(method));
                }
            }
            What::Versions => {
                let names = metrics.names.load();
                let mut numbers: Vec<usize> = (0..names.len()).collect();
                numbers.sort_by_key(|number| &names[*number]);
                let sum = |number: usize, pick: fn(&VersionCounts) -> &AtomicU64| -> u64 {
                    metrics.runtimes.iter().map(|r| pick(&r.versions[number]).load(Ordering::Relaxed)).sum()
                };
                for number in numbers {
                    for (kind, count) in
                        [("stream", sum(number, |v| &v.stream)), ("unary", sum(number, |v| &v.unary))]
                    {
                        if count > 0 {
                            out.sample(
                                &[("client_api_version", &names[number]), ("type", kind)],
                                to_f64(count),
                            );
                        }
                    }
                }
            }
        }
    }
}
