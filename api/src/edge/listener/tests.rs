//! Servers and clients over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use super::stats::Refusal;
use super::*;
use crate::edge::clock;
use crate::edge::testkit::{Authority, Leaf, write};
use crate::edge::tls::{PeerIdentity, ServerTls, TlsSettings};

mod connector;
mod http2_abuse;
mod lifecycle;
mod limits;
mod mutual_tls;
mod reload;
mod whole_port;
mod wrong_scheme;

/// Waits for a state; the deadline only bounds a broken test.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(20);
    while !holds() {
        assert!(clock::now() < deadline, "never: {what}");
        clock::sleep(Duration::from_millis(2)).await;
    }
}

/// Fails a test that hangs.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    clock::within(Duration::from_secs(20), future).await.unwrap_or_else(|| panic!("took too long: {what}"))
}

/// Certificates of one test.
struct Pki {
    dir: tempfile::TempDir,
    ca: Authority,
    server: Leaf,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new("test CA");
        let server = ca.server("server", &["localhost", "127.0.0.1"]);
        write(dir.path(), "ca.pem", ca.pem().as_bytes());
        server.write(dir.path(), "server");
        Pki { dir, ca, server }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Server certificate only.
    fn one_way(&self) -> TlsSettings {
        TlsSettings {
            cert_file: Some(self.path().join("server.pem")),
            key_file: Some(self.path().join("server.key")),
            ..TlsSettings::default()
        }
    }

    /// Client certificates demanded.
    fn mutual(&self) -> TlsSettings {
        TlsSettings {
            trusted_ca_file: Some(self.path().join("ca.pem")),
            client_cert_auth: true,
            ..self.one_way()
        }
    }

    /// Trusts our CA and shows `leaf`.
    fn client(&self, leaf: Option<&Leaf>) -> ClientConfig {
        client_config(&self.ca, leaf)
    }
}

fn client_config(ca: &Authority, leaf: Option<&Leaf>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match leaf {
        Some(leaf) => builder
            .with_client_auth_cert(
                vec![leaf.certificate().clone()],
                PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// Gates that requests wait at.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

fn service(gate: Gate) -> Router {
    let who = |request: Request| async move {
        let info =
            Arc::clone(request.extensions().get::<Arc<ConnectionInfo>>().expect("every request has it"));
        let identity = request.extensions().get::<Arc<PeerIdentity>>();
        assert_eq!(identity, info.identity.as_ref());
        identity.map_or_else(|| "nobody".to_owned(), |identity| identity.common_name.clone())
    };
    let runtime = |request: Request| async move {
        let info = request.extensions().get::<Arc<ConnectionInfo>>().expect("every request has it").runtime;
        format!("{info} {}", std::thread::current().name().unwrap_or_default())
    };
    Router::new()
        .route("/who", get(who))
        .route("/runtime", get(runtime))
        .route("/version", get(|request: Request| async move { format!("{:?}", request.version()) }))
        .route(
            "/wait",
            get(move || async move {
                gate.entered.notify_one();
                gate.open.notified().await;
                "done"
            }),
        )
}

struct TestServer {
    server: Server,
    tls: Option<Arc<ServerTls>>,
    gate: Gate,
}

impl TestServer {
    fn start(url: &str, tls: Option<TlsSettings>, options: ServerOptions) -> Self {
        Self::start_all(&[url], tls, options, |listener| listener)
    }

    fn start_all(
        urls: &[&str],
        tls: Option<TlsSettings>,
        options: ServerOptions,
        adjust: impl Fn(Listener) -> Listener,
    ) -> Self {
        let tls = tls.map(|settings| ServerTls::load_checking_every(settings, Duration::ZERO).unwrap());
        let urls: Vec<ListenUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let listeners = Listener::bind_all(&urls, tls.as_ref(), &BindOptions::default()).unwrap();
        let gate = Gate::default();
        let for_service = gate.clone();
        let listeners = listeners.into_iter().map(adjust).collect();
        let server = Server::start(listeners, options, move |_| service(for_service.clone())).unwrap();
        TestServer { server, tls, gate }
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addresses()[0].unwrap()
    }

    fn refused(&self, why: Refusal) -> u64 {
        self.server.stats().refused(why)
    }
}

fn quick() -> ServerOptions {
    ServerOptions::default()
}

/// A client connection that can send several requests.
enum Client {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    async fn over<S>(stream: S, h2: bool) -> Result<Self, AnyError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(Client::H2(sender))
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(Client::H1(sender))
        }
    }

    async fn plain(address: SocketAddr, h2: bool) -> Result<Self, AnyError> {
        Client::over(TcpStream::connect(address).await?, h2).await
    }

    /// Over TLS; the protocol is negotiated.
    async fn tls(address: SocketAddr, mut config: ClientConfig, h2: bool) -> Result<Self, AnyError> {
        config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(if h2 { &b"h2"[..] } else { b"http/1.1" }));
        Client::over(stream, h2).await
    }

    async fn get(&mut self, path: &str) -> Result<String, AnyError> {
        let request =
            |uri: String| http::Request::get(uri).header("host", "localhost").body(Empty::new()).unwrap();
        let response = match self {
            Client::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request(path.to_owned())).await?
            }
            Client::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request(format!("http://localhost{path}"))).await?
            }
        };
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

/// One request over TLS.
async fn tls_get(address: SocketAddr, config: ClientConfig, path: &str) -> Result<String, AnyError> {
    let attempt = async { Client::tls(address, config, true).await?.get(path).await };
    soon("a request over TLS", attempt).await
}
