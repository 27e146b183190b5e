//! Outgoing connections: what works, and what is said when it does not.

use tower::ServiceExt;

use super::*;
use crate::edge::tls::{AutoTls, ClientTls, ConnectError, PeerConnector, TlsError, TlsRole};

fn uri(scheme: &str, address: SocketAddr) -> http::Uri {
    format!("{scheme}://{address}").parse().unwrap()
}

fn peer(settings: TlsSettings) -> PeerConnector {
    let settings = TlsSettings { role: TlsRole::Peer, ..settings };
    PeerConnector::new(Some(ClientTls::load(settings).unwrap()))
}

async fn fails(connector: &PeerConnector, uri: &http::Uri, says: &[&str]) -> ConnectError {
    let error = soon("connecting", connector.connect(uri)).await.expect_err("must fail");
    let text = crate::edge::tls::error::chain(&error);
    assert!(says.iter().all(|part| text.contains(part)), "{says:?} in: {text}");
    assert!(text.contains(&uri.to_string().trim_end_matches('/').to_owned()), "what was tried: {text}");
    error
}

#[tokio::test]
async fn members_reach_each_other_with_certificates() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let connector = peer(pki.mutual());
    let io = connector.clone().oneshot(uri("https", server.address())).await.unwrap();
    let mut client = Client::over(io.into_inner(), true).await.unwrap();
    assert_eq!(
        client.get("/who").await.unwrap(),
        "server",
        "the server certificate serves as client certificate too"
    );
    let own = pki.ca.client("outgoing");
    let (cert, key) = own.write(pki.path(), "outgoing");
    let settings = TlsSettings { client_cert_file: Some(cert), client_key_file: Some(key), ..pki.mutual() };
    let stream = peer(settings).connect(&uri("https", server.address())).await.unwrap();
    assert_eq!(Client::over(stream, true).await.unwrap().get("/who").await.unwrap(), "outgoing");

    let plain = TestServer::start("http://127.0.0.1:0", None, quick());
    let stream = PeerConnector::new(None).connect(&uri("http", plain.address())).await.unwrap();
    assert_eq!(Client::over(stream, true).await.unwrap().get("/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn unix_urls_are_dialled_too() {
    let pki = Pki::new();
    let path = pki.path().join("p.sock");
    let server = TestServer::start_all(&[&format!("unix://{}", path.display())], None, quick(), |l| l);
    // A host is needed by the URI grammar; etcd's form unix://name:port is a relative path.
    let relative: http::Uri = "unix://localhost:1".parse().unwrap();
    fails(&PeerConnector::new(None), &relative, &["does not exist"]).await;
    drop(server);
}

#[tokio::test]
async fn every_failure_says_what_to_do() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let plain = TestServer::start("http://127.0.0.1:0", None, quick());
    let good = peer(pki.mutual());

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&good, &uri("https", free), &["nothing listens there"]).await;
    fails(&good, &uri("https", plain.address()), &["http instead of https"]).await;
    fails(&PeerConnector::new(None), &uri("https", server.address()), &["--peer-trusted-ca-file"]).await;
    fails(&good, &"ftp://127.0.0.1:1".parse().unwrap(), &["scheme"]).await;
    fails(&good, &"https://no-such-host.invalid:1".parse().unwrap(), &["does not resolve"]).await;

    let stranger = Authority::new("other CA");
    let other_ca = write(pki.path(), "other.pem", stranger.pem().as_bytes());
    let distrustful = peer(TlsSettings { trusted_ca_file: Some(other_ca), ..pki.mutual() });
    fails(&distrustful, &uri("https", server.address()), &["not in the trusted CA file"]).await;

    let named = peer(TlsSettings { server_name: Some("db.example".into()), ..pki.mutual() });
    fails(&named, &uri("https", server.address()), &["subject alternative name"]).await;

    let crl = write(pki.path(), "crl.der", &pki.ca.crl(&[&pki.server]));
    let informed = peer(TlsSettings { crl_file: Some(crl), ..pki.mutual() });
    fails(&informed, &uri("https", server.address()), &["revocation list"]).await;

    let picky = peer(TlsSettings { allowed_common_names: vec!["member".into()], ..pki.mutual() });
    fails(&picky, &uri("https", server.address()), &["not one of the allowed names"]).await;

    let no_ca = TlsSettings { role: TlsRole::Peer, ..pki.one_way() };
    assert!(matches!(ClientTls::load(no_ca), Err(TlsError::NoTrustedCa { .. })));
}

#[tokio::test]
async fn silence_is_bounded() {
    // Nobody accepts here: the kernel completes the connection, the handshake gets no answer.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pki = Pki::new();
    let connector = peer(pki.mutual()).with_timeouts(Duration::from_secs(5), Duration::from_millis(50));
    let error =
        fails(&connector, &uri("https", mute.local_addr().unwrap()), &["no answer to the TLS handshake"])
            .await;
    assert!(matches!(error, ConnectError::Timeout { .. }));
}

#[tokio::test]
async fn automatic_peer_certificates_accept_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let auto = |name: &str| TlsSettings {
        role: TlsRole::Peer,
        auto_tls: Some(AutoTls { directory: dir.path().join(name), hosts: vec![], validity_years: 1 }),
        ..TlsSettings::default()
    };
    let server = TestServer::start("https://127.0.0.1:0", Some(auto("a")), quick());
    let stream = peer(auto("b")).connect(&uri("https", server.address())).await.unwrap();
    assert_eq!(Client::over(stream, true).await.unwrap().get("/who").await.unwrap(), "nobody");
}
