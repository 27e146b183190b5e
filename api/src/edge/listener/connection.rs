//! The life of one connection: first bytes, TLS, who is there, HTTP until the end.
//!
//! Owns: [`serve`] and [`ConnectionInfo`]. Invariants: no await without a deadline before the first request; the peer's
//! identity is parsed once and shared by all requests; a connection ends at the latest when its server closes.
//! Called by: [`super::server`], one task per connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::advice;
use super::gather::{Gathered, Sending};
use super::guard::Guard;
use super::options::ServerOptions;
use super::pending::Pending;
use super::server::{Endpoint, Phase};
use super::sniff::{self, Verdict};
use super::stats::{EdgeStats, Refusal};
use super::stream::{EdgeIo, Replayed, Stream, Transport};
use crate::edge::clock;
use crate::edge::complaints::Complaints;
use crate::edge::tls::error::chain;
use crate::edge::tls::{PeerIdentity, san};

/// Any error of a service or body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix,
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteAddress::Tcp(address) => address.fmt(f),
            RemoteAddress::Unix => f.write_str("unix"),
        }
    }
}

/// What is known about a connection; every request carries it as an `Arc<ConnectionInfo>` extension, and the
/// identity, if there is one, as an `Arc<PeerIdentity>` extension too.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Name of the listening address, as in `https://127.0.0.1:2379`.
    pub listener: Arc<str>,
    /// The other end.
    pub remote: RemoteAddress,
    /// Whether it is encrypted.
    pub secure: bool,
    /// Who is there, if a certificate was demanded.
    pub identity: Option<Arc<PeerIdentity>>,
    /// Index of the runtime that serves it.
    pub runtime: usize,
}

/// Everything the connections of a server share.
pub(crate) struct Shared {
    pub(crate) options: ServerOptions,
    pub(crate) stats: Arc<EdgeStats>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) complaints: Complaints,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Shared {
    pub(crate) fn new(options: ServerOptions, stats: Arc<EdgeStats>, pending: Arc<Pending>) -> Self {
        let mut h1 = http1::Builder::new();
        h1.timer(TokioTimer::new()).header_read_timeout(options.header_read_timeout);
        let mut h2 = http2::Builder::new(TokioExecutor::new());
        h2.timer(TokioTimer::new())
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .max_concurrent_streams(options.streams_max)
            .max_header_list_size(options.header_list_bytes_max)
            // Streams reset before they were accepted; the library's 20 ends connections of clients whose deadlines
            // expire in a burst. Each costs some hundred bytes.
            .max_pending_accept_reset_streams(256)
            // Body bytes that arrive after a call was answered early (refused credentials, message too large) count as
            // errors for the life of the connection; the library's 1,024 cut off busy clients in a load test.
            .max_local_error_reset_streams(16_384);
        if !options.keepalive.interval.is_zero() && !options.keepalive.timeout.is_zero() {
            h2.keep_alive_interval(options.keepalive.interval).keep_alive_timeout(options.keepalive.timeout);
        }
        Shared { options, stats, pending, complaints: Complaints::default(), http1: h1, http2: h2 }
    }
}

/// Why a connection did not get to its first request.
enum Early {
    /// The client left; nobody's fault.
    Gone,
    Refused(Refusal, String, &'static str),
}

/// Serves a connection to its end.
pub(crate) async fn serve<S, B>(
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    transport: Transport,
    remote: RemoteAddress,
    worker: usize,
    service: S,
    mut phase: watch::Receiver<Phase>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let established = {
        let slot = shared.pending.enter();
        tokio::select! {
            biased;
            () = closing(&mut phase) => return,
            () = slot.evicted() => Err(Early::Refused(
                Refusal::Evicted,
                "too many connections without a request or a finished handshake; the oldest is closed".to_owned(),
                "look for clients or scanners that open connections and stay silent",
            )),
            // Boxed, so that the state of the handshake is given back when it is over.
            done = Box::pin(establish(&shared, &endpoint, transport, remote)) => done,
        }
    };
    let (stream, verdict, identity) = match established {
        Ok(established) => established,
        Err(Early::Gone) => return,
        Err(Early::Refused(why, problem, remedy)) => {
            shared.stats.count_refused(why);
            shared.complaints.say(|suppressed| {
                tracing::warn!(listener = %endpoint.name, %remote, reason = why.label(), problem, remedy, suppressed, "connection refused");
            });
            return;
        }
    };
    let info = Arc::new(ConnectionInfo {
        listener: Arc::clone(&endpoint.name),
        remote,
        secure: matches!(stream.inner, Stream::Tls(_)),
        identity: identity.map(Arc::new),
        runtime: worker,
    });
    let inner = TowerToHyperService::new(service);
    let service = hyper::service::service_fn({
        let info = Arc::clone(&info);
        move |mut request: Request<Incoming>| {
            if let Some(identity) = &info.identity {
                request.extensions_mut().insert(Arc::clone(identity));
            }
            request.extensions_mut().insert(Arc::clone(&info));
            hyper::service::Service::call(&inner, request)
        }
    });
    let http2 = verdict == Verdict::Http2;
    let guard = http2.then(|| Guard::new(&shared.options.keepalive));
    let io = EdgeIo::new(stream, guard, Arc::clone(&shared.stats), worker);
    let abuse = io.abuse();
    // Boxed, one or the other: a connection keeps only the state machine of its own protocol for its (long) life.
    let outcome = if http2 {
        let io = Gathered::new(io);
        let connection = Box::pin(shared.http2.serve_connection(TokioIo::new(io.clone()), service));
        let sending = Sending { connection, io };
        drive(sending, &mut phase, |sending| sending.connection.as_mut().graceful_shutdown()).await
    } else {
        let connection = Box::pin(shared.http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        drive(connection, &mut phase, |connection| connection.as_mut().graceful_shutdown()).await
    };
    let abuse = *abuse.lock();
    if let Some(abuse) = abuse {
        shared.stats.count_refused(Refusal::Abuse);
        shared.complaints.say(|suppressed| {
            tracing::warn!(listener = %endpoint.name, %remote, problem = %abuse, suppressed, "connection closed");
        });
    } else if let Some(Err(error)) = outcome {
        tracing::debug!(listener = %endpoint.name, %remote, error = %chain(&error), "connection ended");
    }
}

/// Runs a connection to its end, asking it to finish when the server drains; `None` when the server closes first.
async fn drive<C>(
    mut connection: C,
    phase: &mut watch::Receiver<Phase>,
    finish: impl Fn(&mut C),
) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    loop {
        tokio::select! {
            biased;
            outcome = &mut connection => return Some(outcome),
            next = next_phase(phase) => match next {
                Phase::Serving => {}
                Phase::Draining => finish(&mut connection),
                Phase::Closing => return None,
            },
        }
    }
}

type Established = (Replayed<Stream>, Verdict, Option<PeerIdentity>);

/// From a fresh socket to the first bytes of HTTP.
async fn establish(
    shared: &Shared,
    endpoint: &Endpoint,
    transport: Transport,
    remote: RemoteAddress,
) -> Result<Established, Early> {
    let options = &shared.options;
    let mut socket = Replayed::new(transport);
    let started = clock::now();
    let judge = |bytes: &[u8]| sniff::classify(bytes, endpoint.plain, endpoint.tls.is_some());
    let limit = if endpoint.tls.is_some() { options.handshake_timeout } else { options.first_byte_timeout };
    let verdict = match clock::within(limit, socket.first_bytes(judge)).await {
        Some(Ok(Some(verdict))) => verdict,
        Some(Ok(None) | Err(_)) => return Err(Early::Gone),
        None => return Err(late(limit, "the first byte")),
    };
    match verdict {
        Verdict::Tls => {}
        Verdict::Http1 | Verdict::Http2 => {
            let stream = Replayed { first: socket.first, inner: Stream::Plain(socket.inner) };
            return Ok((stream, verdict, None));
        }
        Verdict::Http1OnTls => return Err(wrong_scheme(socket, sniff::HTTP1_ON_TLS).await),
        Verdict::Http2OnTls => return Err(wrong_scheme(socket, &sniff::http2_on_tls()).await),
        Verdict::TlsOnPlain => {
            drop(wrong_scheme(socket, sniff::TLS_ON_PLAIN).await);
            return Err(Early::Refused(
                Refusal::WrongScheme,
                "a client opened a TLS connection to a plain port".to_owned(),
                "use http:// in the client's endpoint, or give this server certificates and an https:// listen URL",
            ));
        }
        Verdict::Unknown | Verdict::More => {
            return Err(Early::Refused(
                Refusal::Handshake,
                "the first bytes are neither TLS nor HTTP".to_owned(),
                "check which program connects to this port",
            ));
        }
    }

    let tls = endpoint.tls.as_ref().expect("classified as TLS only where TLS is configured");
    let left = limit.saturating_sub(clock::now().duration_since(started));
    let accepted = clock::within(left, TlsAcceptor::from(tls.config()).accept(socket)).await;
    let tls_stream = match accepted {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => {
            let remedy = advice::for_handshake(&error, advice::Side::Accepting);
            return Err(Early::Refused(
                Refusal::Handshake,
                format!("TLS handshake failed: {}", chain(&error)),
                remedy,
            ));
        }
        None => return Err(late(limit, "the TLS handshake")),
    };
    let identity = tls_stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|certificates| certificates.first())
        .and_then(PeerIdentity::parse);
    if let (Some(resolver), Some(identity), RemoteAddress::Tcp(address)) =
        (&endpoint.peer_resolver, &identity, remote)
    {
        match clock::within(options.handshake_timeout, san::check(identity, address.ip(), &**resolver)).await
        {
            Some(Ok(())) => {}
            Some(Err(mismatch)) => {
                return Err(Early::Refused(Refusal::PeerAddress, mismatch.to_string(), "see the message"));
            }
            None => return Err(late(options.handshake_timeout, "the name lookup of the peer's certificate")),
        }
    }
    let mut stream = Replayed::new(Stream::Tls(Box::new(tls_stream)));
    match clock::within(options.first_byte_timeout, stream.first_bytes(sniff::http_version)).await {
        Some(Ok(Some(verdict))) => Ok((stream, verdict, identity)),
        Some(Ok(None)) => Err(Early::Gone),
        // With TLS 1.3 a client reports its objection to our certificate only after our side is done.
        Some(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            let remedy = advice::for_handshake(&error, advice::Side::Accepting);
            Err(Early::Refused(
                Refusal::Handshake,
                format!("TLS handshake failed: {}", chain(&error)),
                remedy,
            ))
        }
        Some(Err(_)) => Err(Early::Gone),
        None => Err(late(options.first_byte_timeout, "the first request")),
    }
}

fn late(limit: Duration, what: &str) -> Early {
    Early::Refused(
        Refusal::Timeout,
        format!("{what} did not come within {} s", limit.as_secs_f64()),
        "if this was not a scanner, look at the network between the two",
    )
}

/// Answers a client that came with plain HTTP, and waits a moment for it to read the answer.
async fn wrong_scheme(mut socket: Replayed<Transport>, answer: &[u8]) -> Early {
    const LINGER: Duration = Duration::from_secs(1);
    let farewell = async {
        socket.inner.write_all(answer).await?;
        socket.inner.shutdown().await?;
        // Closing with unread input makes the kernel send a reset that can overtake the answer.
        let mut rest = [0u8; 4096];
        let mut budget = 64;
        while budget > 0 && socket.inner.read(&mut rest).await? > 0 {
            budget -= 1;
        }
        io::Result::Ok(())
    };
    drop(clock::within(LINGER, farewell).await);
    Early::Refused(
        Refusal::WrongScheme,
        "a client sent plain HTTP to a TLS port".to_owned(),
        "use https:// in the client's endpoint, with --cacert for the CA of this server",
    )
}

async fn next_phase(phase: &mut watch::Receiver<Phase>) -> Phase {
    match phase.changed().await {
        Ok(()) => *phase.borrow_and_update(),
        Err(_) => Phase::Closing,
    }
}

/// Completes when connections without a request have to go: they have nothing to finish.
async fn closing(phase: &mut watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase != Phase::Serving).await);
}

/// Size of a connection's task, for a test that keeps it small.
#[cfg(test)]
pub(crate) fn task_bytes(service: axum::Router) -> usize {
    let pending = Pending::new(1);
    let stats = Arc::new(EdgeStats::new(1, Arc::clone(&pending)));
    let shared = Arc::new(Shared::new(ServerOptions::default(), stats, pending));
    let endpoint = Arc::new(Endpoint { name: "".into(), plain: true, tls: None, peer_resolver: None });
    let (socket, _other) = tokio::net::UnixStream::pair().expect("a socket pair");
    let phase = watch::Sender::new(Phase::Serving).subscribe();
    let task = serve(shared, endpoint, Transport::Unix(socket), RemoteAddress::Unix, 0, service, phase);
    std::mem::size_of_val(&task)
}
