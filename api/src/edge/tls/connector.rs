//! Connects to member URLs.
//!
//! Owns: [`PeerConnector`], a `tower` service from a URL to a connected stream that tonic's
//! `Endpoint::connect_with_connector` takes, and [`ConnectError`]. Invariants: connecting and the handshake are bounded
//! in time; every failure says what was tried, what was seen and what to do. Called by: the peer network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::client::ClientTls;
use super::error::chain;
use crate::edge::clock;
use crate::edge::listener::advice;

/// A connection to another member could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not `http`, `https`, `unix` or `unixs`, or no host in it.
    #[error("cannot connect to {uri}: it needs a scheme (http, https, unix, unixs) and a host")]
    BadUri {
        /// What was asked for.
        uri: String,
    },
    /// `https` without TLS settings.
    #[error(
        "cannot connect to {uri}: no TLS settings for peers; set --peer-trusted-ca-file or use http URLs"
    )]
    NoTls {
        /// What was asked for.
        uri: String,
    },
    /// The name could not be resolved.
    #[error("cannot connect to {uri}: the name does not resolve; check the peer URL and DNS")]
    Resolve {
        /// What was asked for.
        uri: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No address accepted the connection.
    #[error("cannot connect to {uri}: {advice}")]
    Dial {
        /// What was asked for.
        uri: String,
        /// What to do.
        advice: &'static str,
        /// What the last address answered.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake with {uri} failed: {advice}")]
    Handshake {
        /// What was asked for.
        uri: String,
        /// What to do.
        advice: &'static str,
        /// What the handshake failed with.
        #[source]
        source: io::Error,
    },
    /// Time ran out.
    #[error(
        "cannot connect to {uri}: no answer to {step} within {limit:?}; check that the member runs and that no firewall drops its port"
    )]
    Timeout {
        /// What was asked for.
        uri: String,
        /// What was under way.
        step: &'static str,
        /// How long was waited.
        limit: Duration,
    },
}

/// A connected stream, plain or TLS.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum PeerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    TcpTls(Box<TlsStream<TcpStream>>),
    UnixTls(Box<TlsStream<UnixStream>>),
}

/// Connects to member URLs; cheap to clone.
#[derive(Clone, Debug)]
pub struct PeerConnector {
    tls: Option<Arc<ClientTls>>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
}

impl PeerConnector {
    /// A connector with etcd-like bounds: 5 s to connect, 10 s for the handshake.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientTls>>) -> Self {
        PeerConnector {
            tls,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
        }
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with_timeouts(mut self, connect: Duration, handshake: Duration) -> Self {
        self.connect_timeout = connect;
        self.handshake_timeout = handshake;
        self
    }

    /// Connects to a URL.
    ///
    /// # Errors
    /// See [`ConnectError`].
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    pub async fn connect(&self, uri: &Uri) -> Result<PeerStream, ConnectError> {
        let shown = || uri.to_string();
        let scheme = uri.scheme_str().unwrap_or_default();
        let tls = match scheme {
            "http" | "unix" => None,
            "https" | "unixs" => Some(self.tls.as_ref().ok_or_else(|| ConnectError::NoTls { uri: shown() })?),
            _ => return Err(ConnectError::BadUri { uri: shown() }),
        };
        let host = uri.host().ok_or_else(|| ConnectError::BadUri { uri: shown() })?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if scheme.starts_with("unix") {
            let authority = uri.authority().map_or("", |a| a.as_str());
            let path =
                if uri.path() == "/" { authority.to_owned() } else { format!("{authority}{}", uri.path()) };
            let stream =
                self.bounded(&shown(), "connect", self.connect_timeout, UnixStream::connect(path)).await?;
            let stream = stream.map_err(|e| dial_error(shown(), e))?;
            return match tls {
                None => Ok(PeerStream::Unix(stream)),
                Some(tls) => {
                    Ok(PeerStream::UnixTls(Box::new(self.handshake(tls, &shown(), bare, stream).await?)))
                }
            };
        }
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let stream = self.bounded(&shown(), "connect", self.connect_timeout, dial(bare, port, uri)).await??;
        match tls {
            None => Ok(PeerStream::Tcp(stream)),
            Some(tls) => Ok(PeerStream::TcpTls(Box::new(self.handshake(tls, &shown(), bare, stream).await?))),
        }
    }

    async fn handshake<S>(
        &self,
        tls: &ClientTls,
        uri: &str,
        host: &str,
        stream: S,
    ) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let done =
            self.bounded(uri, "the TLS handshake", self.handshake_timeout, tls.connect(host, stream)).await?;
        done.map_err(|source| ConnectError::Handshake {
            uri: uri.to_owned(),
            advice: advice::for_handshake(&source, advice::Side::Connecting),
            source,
        })
    }

    async fn bounded<F: Future>(
        &self,
        uri: &str,
        step: &'static str,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, ConnectError> {
        clock::within(limit, future).await.ok_or_else(|| ConnectError::Timeout {
            uri: uri.to_owned(),
            step,
            limit,
        })
    }
}

async fn dial(host: &str, port: u16, uri: &Uri) -> Result<TcpStream, ConnectError> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|source| ConnectError::Resolve { uri: uri.to_string(), source })?
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small Raft messages must not wait for Nagle; failing to say so is no reason to give up.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot disable Nagle's algorithm");
                }
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(dial_error(uri.to_string(), last))
}

fn dial_error(uri: String, source: io::Error) -> ConnectError {
    let advice = match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there; check that the member runs and its peer URL"
        }
        io::ErrorKind::NotFound => "the socket file does not exist; check the path and that the member runs",
        io::ErrorKind::PermissionDenied => "not allowed; check the permissions of the socket file",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "no route; check the address and routing"
        }
        _ => "check the address and the network",
    };
    ConnectError::Dial { uri, advice, source }
}

impl tower::Service<Uri> for PeerConnector {
    type Response = TokioIo<PeerStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connected = connector.connect(&uri).await;
            if let Err(error) = &connected {
                tracing::debug!(error = %chain(error), "connection attempt failed");
            }
            connected.map(TokioIo::new)
        })
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            PeerStream::Tcp($stream) => $body,
            PeerStream::Unix($stream) => $body,
            PeerStream::TcpTls($stream) => $body,
            PeerStream::UnixTls($stream) => $body,
        }
    };
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            PeerStream::Tcp(stream) => stream.is_write_vectored(),
            PeerStream::Unix(stream) => stream.is_write_vectored(),
            PeerStream::TcpTls(stream) => stream.is_write_vectored(),
            PeerStream::UnixTls(stream) => stream.is_write_vectored(),
        }
    }
}
