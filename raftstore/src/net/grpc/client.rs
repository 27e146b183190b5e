//! Connects to other members over gRPC.
//!
//! Owns: one connection per peer and purpose, made when first needed. Called by: `net::client`.
//! Invariants: connections live on the runtime the transport was made on, whoever calls; a dead connection is found by
//! pings within [`PING`] + [`PONG`] and replaced, because TCP alone would retry for minutes after a partition heals.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{CALL, MESSAGE_BYTES_MAX, RawCodec, STREAM, UPLOAD};
use crate::net::{Answers, Frame, Peer, Route, Transport, TransportError};
use crate::types::MemberId;

/// An idle or silent connection is asked for a sign of life this often.
const PING: Duration = Duration::from_secs(2);
/// And given up without one for this long.
const PONG: Duration = Duration::from_secs(2);
/// A new connection must stand within this time, TLS included.
const CONNECT: Duration = Duration::from_secs(1);
/// One append request and then some may be under way on a stream without an update of the window.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// A connection to a peer.
pub trait PeerIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> PeerIo for T {}

/// Makes connections: plain TCP ([`TcpDial`]), or TLS as the caller does it.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a peer URL, as members carry them (`http://host:port`, `https://host:port`).
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerIo>>>;
}

/// Connects to `http://` URLs.
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerIo>>> {
        let url = url.to_owned();
        async move {
            let invalid =
                |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("peer url {url}: {what}"));
            let uri: Uri = url.parse().map_err(|_| invalid("malformed"))?;
            if uri.scheme_str() != Some("http") {
                return Err(invalid("needs TLS, which is not configured for peers"));
            }
            let host = uri.host().ok_or_else(|| invalid("without host"))?.trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(2380))).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn PeerIo>)
        }
        .boxed()
    }
}

/// See the module.
pub struct GrpcTransport {
    dial: Arc<dyn Dial>,
    runtime: Handle,
    channels: Mutex<BTreeMap<(MemberId, Route), Connected>>,
}

/// A channel and the URLs it goes to.
type Connected = (Vec<String>, Channel);

impl GrpcTransport {
    /// Connections are made by `dial` and live on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        GrpcTransport { dial, runtime: Handle::current(), channels: Mutex::default() }
    }

    fn grpc(&self, to: &Peer, route: Route) -> tonic::client::Grpc<Channel> {
        let mut channels = self.channels.lock();
        let known = channels.get(&(to.id, route)).filter(|(urls, _)| *urls == to.urls);
        let channel = match known {
            Some((_, channel)) => channel.clone(),
            None => {
                let channel = self.connect(to);
                channels.insert((to.id, route), (to.urls.clone(), channel.clone()));
                channel
            }
        };
        tonic::client::Grpc::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn connect(&self, to: &Peer) -> Channel {
        let endpoint = Endpoint::from_static("http://keelson.peer")
            .executor(On(self.runtime.clone()))
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(2 * STREAM_WINDOW_BYTES);
        let (dial, urls) = (self.dial.clone(), to.urls.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (dial, urls) = (dial.clone(), urls.clone());
            async move {
                let mut last = io::Error::other("the peer has no url");
                for url in &urls {
                    // Here and not as the channel's own limit, so that it counts as "not delivered".
                    match tokio::time::timeout(CONNECT, dial.dial(url)).await {
                        Ok(Ok(connection)) => return Ok(TokioIo::new(connection)),
                        Ok(Err(error)) => last = error,
                        Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("connect to {url}")),
                    }
                }
                Err(last)
            }
        });
        let _context = self.runtime.enter();
        endpoint.connect_with_connector_lazy(connector)
    }
}

/// Runs connections on the transport's own runtime.
#[derive(Clone)]
struct On(Handle);

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for On {
    fn execute(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.0.spawn(future));
    }
}

/// A request that found no connection was not delivered; of any other failure nothing is known.
fn failed(status: Status) -> TransportError {
    let mut source: Option<&(dyn Error + 'static)> = Some(&status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return TransportError::Unreachable(causes(&status));
        }
        source = error.source();
    }
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => TransportError::Timeout,
        _ => TransportError::Lost(causes(&status)),
    }
}

fn causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Transport for GrpcTransport {
    fn call(
        &self,
        to: &Peer,
        route: Route,
        request: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let mut grpc = self.grpc(to, route);
        async move {
            let exchange = async {
                grpc.ready().await.map_err(|error| TransportError::Unreachable(error.to_string()))?;
                let answer =
                    grpc.unary(Request::new(request), PathAndQuery::from_static(CALL), RawCodec).await;
                answer.map(tonic::Response::into_inner).map_err(failed)
            };
            tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(TransportError::Timeout))
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Peer,
        route: Route,
        requests: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Answers, TransportError>> {
        let mut grpc = self.grpc(to, route);
        async move {
            grpc.ready().await.map_err(|error| TransportError::Unreachable(error.to_string()))?;
            let answers =
                grpc.streaming(Request::new(requests), PathAndQuery::from_static(STREAM), RawCodec).await;
            Ok(answers.map_err(failed)?.into_inner().map(|answer| answer.map_err(failed)).boxed())
        }
        .boxed()
    }

    fn upload(
        &self,
        to: &Peer,
        route: Route,
        chunks: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let mut grpc = self.grpc(to, route);
        async move {
            grpc.ready().await.map_err(|error| TransportError::Unreachable(error.to_string()))?;
            let request = Request::new(chunks);
            let answer = grpc.client_streaming(request, PathAndQuery::from_static(UPLOAD), RawCodec).await;
            answer.map(tonic::Response::into_inner).map_err(failed)
        }
        .boxed()
    }

    fn forget(&self, id: MemberId) {
        self.channels.lock().retain(|(peer, _), _| *peer != id);
    }
}
