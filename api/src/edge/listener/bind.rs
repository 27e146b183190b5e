//! Listening sockets.
//!
//! Owns: [`Listener`] (a bound socket with its TLS) and [`ListenError`]. Invariants: a Unix socket file is removed
//! only when it is a socket nobody answers on; it is created with the wanted mode and removed at close; URLs with the
//! same address share one socket that then speaks both plain and TLS, as in etcd.
//! Called by: the wiring before start, so that an address in use is known before anything else happens.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::address::{ListenUrl, Target};
use crate::edge::tls::ServerTls;
use crate::edge::tls::san::Resolver;

/// A listening address or server that could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The URL cannot be used.
    #[error("cannot listen on {url:?}: {problem}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody else listens there.
    #[error(
        "cannot listen on {url}: the address is in use; stop the other program (`ss -ltnp` shows it) or choose another port"
    )]
    InUse {
        /// The address.
        url: String,
    },
    /// A program answers on the Unix socket.
    #[error(
        "cannot listen on {url}: a running program answers on that socket; stop it or choose another path"
    )]
    SocketInUse {
        /// The address.
        url: String,
    },
    /// The path exists and is no socket.
    #[error(
        "cannot listen on {url}: the path exists and is not a socket; it was left alone, choose another path"
    )]
    NotASocket {
        /// The address.
        url: String,
    },
    /// No such local address.
    #[error(
        "cannot listen on {url}: this machine has no such address; use one of its own (`ip addr` lists them) or 0.0.0.0"
    )]
    NotLocal {
        /// The address.
        url: String,
    },
    /// Not allowed.
    #[error(
        "cannot listen on {url}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, sockets a writable directory"
    )]
    Denied {
        /// The address.
        url: String,
    },
    /// Any other refusal of the system.
    #[error("cannot listen on {url}")]
    System {
        /// The address.
        url: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A TLS address without TLS settings.
    #[error(
        "cannot listen on {url}: https and unixs need a certificate (--cert-file and --key-file, or --auto-tls)"
    )]
    NoTls {
        /// The address.
        url: String,
    },
    /// A thread or runtime could not be made.
    #[error("cannot start a runtime for connections")]
    Runtime(#[source] io::Error),
    /// No runtime to run on.
    #[error("the server was started with no runtimes of its own outside of a tokio runtime")]
    NoRuntime,
}

/// Options of listening sockets.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// `--socket-reuse-port`.
    pub reuse_port: bool,
    /// Connections the kernel keeps until they are accepted.
    pub backlog: i32,
    /// Mode of Unix sockets.
    pub unix_mode: u32,
}

impl Default for BindOptions {
    fn default() -> Self {
        // 4096 is Linux' own limit (net.core.somaxconn) since 5.4. Mode 0600: whoever reads the store reads secrets.
        BindOptions { reuse_port: false, backlog: 4096, unix_mode: 0o600 }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A socket file that is removed when its listener goes.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.0.display(), %error, "cannot remove the socket file");
        }
    }
}

/// A bound address, ready to be served.
pub struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) socket: ListenSocket,
    pub(crate) plain: bool,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) peer_resolver: Option<Arc<dyn Resolver>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("plain", &self.plain)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds every distinct address of `urls`. `tls` is used by the secure ones.
    ///
    /// # Errors
    /// The first address that cannot be bound; those bound before it are released.
    pub fn bind_all(
        urls: &[ListenUrl],
        tls: Option<&Arc<ServerTls>>,
        options: &BindOptions,
    ) -> Result<Vec<Self>, ListenError> {
        let mut listeners: Vec<(Target, Listener)> = Vec::new();
        for url in urls {
            let same = |target: &Target| {
                // Port 0 means "any": two such URLs are two sockets.
                *target == *url.target() && !matches!(target, Target::Tcp(a) if a.port() == 0)
            };
            let secure_tls = match (url.scheme().is_secure(), tls) {
                (true, Some(tls)) => Some(Arc::clone(tls)),
                (true, None) => return Err(ListenError::NoTls { url: url.to_string() }),
                (false, _) => None,
            };
            if let Some((_, listener)) = listeners.iter_mut().find(|(target, _)| same(target)) {
                listener.plain |= secure_tls.is_none();
                listener.tls = listener.tls.take().or(secure_tls);
                continue;
            }
            let (socket, name) = bind(url, options)?;
            if !url.scheme().is_secure() && tls.is_some() {
                tracing::warn!(%url, "this address is plain although certificates are configured; use https or unixs to encrypt it");
            }
            let plain = secure_tls.is_none();
            let listener =
                Listener { name: name.into(), socket, plain, tls: secure_tls, peer_resolver: None };
            listeners.push((url.target().clone(), listener));
        }
        Ok(listeners.into_iter().map(|(_, listener)| listener).collect())
    }

    /// Demands that verified peers come from an address their certificate names (peer port).
    #[must_use]
    pub fn check_peer_addresses(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.peer_resolver = Some(resolver);
        self
    }

    /// The address as bound, with the port the system chose; `None` for Unix sockets.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix(..) => None,
        }
    }
}

fn bind(url: &ListenUrl, options: &BindOptions) -> Result<(ListenSocket, String), ListenError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { url: url.to_string() },
        io::ErrorKind::AddrNotAvailable => ListenError::NotLocal { url: url.to_string() },
        io::ErrorKind::PermissionDenied => ListenError::Denied { url: url.to_string() },
        _ => ListenError::System { url: url.to_string(), source: error },
    };
    match url.target() {
        Target::Tcp(address) => {
            let socket = bind_tcp(*address, options).map_err(failed)?;
            let bound = socket.local_addr().map_err(failed)?;
            let scheme = if url.scheme().is_secure() { "https" } else { "http" };
            Ok((ListenSocket::Tcp(socket), format!("{scheme}://{bound}")))
        }
        Target::Unix(path) => {
            make_way(url, path)?;
            let socket = UnixListener::bind(path).map_err(failed)?;
            let file = SocketFile(path.clone());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(options.unix_mode))
                .map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            Ok((ListenSocket::Unix(socket, file), url.to_string()))
        }
    }
}

fn bind_tcp(address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME_WAIT; Go sets it always.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Removes what a dead process left at `path`, and nothing else.
fn make_way(url: &ListenUrl, path: &Path) -> Result<(), ListenError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ListenError::System { url: url.to_string(), source }),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { url: url.to_string() });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::SocketInUse { url: url.to_string() });
    }
    std::fs::remove_file(path).map_err(|source| ListenError::System { url: url.to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<ListenUrl> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first =
            Listener::bind_all(&urls(&["http://127.0.0.1:0"]), None, &BindOptions::default()).unwrap();
        let taken = format!("http://{}", first[0].local_address().unwrap());
        let error = Listener::bind_all(&urls(&[&taken]), None, &BindOptions::default()).unwrap_err();
        assert!(matches!(&error, ListenError::InUse { url } if *url == taken), "{error}");
        let error =
            Listener::bind_all(&urls(&["http://203.0.113.1:1"]), None, &BindOptions::default()).unwrap_err();
        assert!(matches!(error, ListenError::NotLocal { .. }), "{error}");
        let error =
            Listener::bind_all(&urls(&["https://127.0.0.1:0"]), None, &BindOptions::default()).unwrap_err();
        assert!(matches!(error, ListenError::NoTls { .. }), "{error}");
    }

    #[test]
    fn unix_sockets_are_private_replaced_when_dead_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.sock");
        let url = urls(&[&format!("unix://{}", path.display())]);
        let options = BindOptions::default();
        let listener = Listener::bind_all(&url, None, &options).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = Listener::bind_all(&url, None, &options).unwrap_err();
        assert!(matches!(error, ListenError::SocketInUse { .. }), "{error}");
        drop(listener);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap()); // a dead process leaves its file
        assert!(path.exists());
        drop(Listener::bind_all(&url, None, &options).unwrap());

        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind_all(&url, None, &options).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
