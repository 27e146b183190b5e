//! From a place to a stream of bytes: names, TCP or a socket file, TLS.
//!
//! Owns: the error that tells at which of these steps it ended. Called by: `client` and the diagnoses, so that both see
//! the same.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::endpoint::{Address, Place};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The name has no address.
    #[error("look up {host}: {source}")]
    Lookup {
        /// The name.
        host: String,
        /// The resolver's words.
        source: io::Error,
    },
    /// Nobody answers at the address.
    #[error("connect to {address}: {source}")]
    Connect {
        /// Address or path.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Silence.
    #[error("{step} {target}: no answer within {}", crate::go::duration(*.wait))]
    Silent {
        /// What was going on.
        step: &'static str,
        /// With whom.
        target: String,
        /// For how long.
        wait: Duration,
    },
    /// TLS failed.
    #[error("TLS with {target}: {source}")]
    Tls {
        /// With whom.
        target: String,
        /// rustls's words, as a rule.
        source: io::Error,
    },
}

impl ConnectError {
    /// What TLS complained about.
    pub(crate) fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Tls { source, .. } => tls_error(source),
            _ => None,
        }
    }
}

/// The error of TLS inside one of input and output.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

/// Connects, and puts TLS on it if `tls` is there.
///
/// # Errors
/// The step that failed.
pub(crate) async fn connect(
    place: &Place,
    tls: Option<&Arc<ClientConfig>>,
    wait: Duration,
) -> Result<Stream, ConnectError> {
    let socket = match &place.address {
        Address::Unix(path) => {
            let failed = |source| ConnectError::Connect { address: path.clone(), source };
            Box::new(UnixStream::connect(path).await.map_err(failed)?) as Stream
        }
        Address::Tcp(target) => Box::new(tcp(target, wait).await?) as Stream,
    };
    let Some(config) = tls else { return Ok(socket) };
    let failed = |source| ConnectError::Tls { target: place.target().to_owned(), source };
    let name =
        ServerName::try_from(place.server_name.clone()).map_err(|error| failed(io::Error::other(error)))?;
    let silent = |_| ConnectError::Silent { step: "TLS with", target: place.target().to_owned(), wait };
    let handshake = TlsConnector::from(config.clone()).connect(name, socket);
    let secured = tokio::time::timeout(wait, handshake).await.map_err(silent)?.map_err(failed)?;
    Ok(Box::new(secured))
}

async fn tcp(target: &str, wait: Duration) -> Result<TcpStream, ConnectError> {
    let lookup = |source| ConnectError::Lookup { host: target.to_owned(), source };
    let silent = |step| move |_| ConnectError::Silent { step, target: target.to_owned(), wait };
    let addresses = tokio::time::timeout(wait, tokio::net::lookup_host(target))
        .await
        .map_err(silent("look up"))?
        .map_err(lookup)?;
    let mut last = lookup(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match tokio::time::timeout(wait, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                let failed = |source| ConnectError::Connect { address: address.to_string(), source };
                socket.set_nodelay(true).map_err(failed)?;
                return Ok(socket);
            }
            Ok(Err(source)) => last = ConnectError::Connect { address: address.to_string(), source },
            Err(_) => {
                last = ConnectError::Silent { step: "connect to", target: address.to_string(), wait };
            }
        }
    }
    Err(last)
}

/// Bytes to and from a server.
pub(crate) type Stream = Box<dyn Bytes>;

/// What can be read and written.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A stream in the form that tonic takes.
pub(crate) struct Carrier(pub(crate) Stream);

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
