//! New files while the server runs.

use super::*;
use crate::edge::tls::AutoTls;

/// Serial number of the certificate a server shows.
async fn shown(address: SocketAddr, config: ClientConfig) -> String {
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let stream = soon("handshake", TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap();
    PeerIdentity::parse(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap().serial
}

fn serial(leaf: &Leaf) -> String {
    PeerIdentity::parse(leaf.certificate()).unwrap().serial
}

#[tokio::test]
async fn fifty_rotations_drop_no_connection() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    let mut open = Client::tls(server.address(), pki.client(None), true).await.unwrap();
    assert_eq!(shown(server.address(), pki.client(None)).await, serial(&pki.server));
    for _ in 0..50 {
        let next = pki.ca.server("server", &["localhost"]);
        next.write(pki.path(), "server");
        assert_eq!(shown(server.address(), pki.client(None)).await, serial(&next));
        assert_eq!(open.get("/who").await.unwrap(), "nobody");
    }
    assert_eq!(server.refused(Refusal::Handshake), 0);
}

#[tokio::test]
async fn half_written_files_leave_the_old_ones_in_use() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    let next = pki.ca.server("server", &["localhost"]);
    write(pki.path(), "server.pem", next.certificate_pem().as_bytes()); // the key is still the old one
    assert_eq!(shown(server.address(), pki.client(None)).await, serial(&pki.server));
    write(pki.path(), "server.key", b"-----BEGIN PRIVATE KEY-----\ngarbage");
    assert_eq!(shown(server.address(), pki.client(None)).await, serial(&pki.server));
    std::fs::remove_file(pki.path().join("server.key")).unwrap();
    assert_eq!(shown(server.address(), pki.client(None)).await, serial(&pki.server));
    write(pki.path(), "server.key", next.key_pem().as_bytes());
    assert_eq!(shown(server.address(), pki.client(None)).await, serial(&next));
}

#[tokio::test]
async fn a_new_ca_is_trusted_without_restart() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let second = Authority::new("second CA");
    let carol = second.client("carol");
    let dave = pki.ca.client("dave");
    assert!(tls_get(server.address(), pki.client(Some(&carol)), "/who").await.is_err());
    write(pki.path(), "ca.pem", format!("{}{}", pki.ca.pem(), second.pem()).as_bytes());
    assert_eq!(tls_get(server.address(), pki.client(Some(&carol)), "/who").await.unwrap(), "carol");
    write(pki.path(), "ca.pem", second.pem().as_bytes());
    assert!(tls_get(server.address(), pki.client(Some(&dave)), "/who").await.is_err(), "the old CA is gone");
}

#[tokio::test]
async fn a_rotated_ca_ends_session_resumption() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let dave = pki.ca.client("dave");
    let config = pki.client(Some(&dave)); // one configuration keeps its sessions
    assert_eq!(tls_get(server.address(), config.clone(), "/who").await.unwrap(), "dave");
    write(pki.path(), "ca.pem", Authority::new("second CA").pem().as_bytes());
    assert!(tls_get(server.address(), config, "/who").await.is_err());
}

#[tokio::test]
async fn explicit_reload_reports_what_is_wrong() {
    let pki = Pki::new();
    let tls = ServerTls::load(pki.one_way()).unwrap();
    tls.reload().unwrap();
    write(pki.path(), "server.pem", b"nothing");
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("server.pem") && error.contains("--cert-file"), "{error}");
    let status = tls.status();
    assert_eq!((status.loads, status.reload_failures), (2, 1));
    assert!(status.not_after_unix_s > 0);
}

#[tokio::test]
async fn automatic_certificates_serve_and_can_be_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let auto = AutoTls {
        directory: dir.path().join("fixtures/client"),
        hosts: vec!["127.0.0.1".into()],
        validity_years: 1,
    };
    let settings = TlsSettings { auto_tls: Some(auto), ..TlsSettings::default() };
    let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
    let pinned = std::fs::read(dir.path().join("fixtures/client/cert.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pinned).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(tls_get(server.address(), config, "/who").await.unwrap(), "nobody");
    assert_eq!(server.tls.as_ref().unwrap().status().loads, 1, "making the files is not a change of them");
}
