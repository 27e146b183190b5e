//! Who gets in.

use super::*;
use crate::edge::tls::TlsVersion;

/// A client must be turned away during the handshake, and be counted.
async fn refused(server: &TestServer, config: ClientConfig) {
    let before = server.refused(Refusal::Handshake);
    let answer = tls_get(server.address(), config, "/who").await;
    assert!(answer.is_err(), "got in: {answer:?}");
    eventually("the refusal is counted", || server.refused(Refusal::Handshake) > before).await;
}

#[tokio::test]
async fn good_certificates_are_identified_on_both_protocols() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let alice = pki.ca.client("alice");
    for h2 in [true, false] {
        let mut client = Client::tls(server.address(), pki.client(Some(&alice)), h2).await.unwrap();
        assert_eq!(client.get("/who").await.unwrap(), "alice");
        assert_eq!(client.get("/version").await.unwrap(), if h2 { "HTTP/2.0" } else { "HTTP/1.1" });
    }
    assert_eq!(server.server.stats().accepted(), 2);
}

#[tokio::test]
async fn bad_certificates_are_refused() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    refused(&server, pki.client(None)).await;
    refused(&server, pki.client(Some(&Authority::new("other CA").client("mallory")))).await;
    refused(&server, pki.client(Some(&pki.ca.expired("late")))).await;
    assert_eq!(
        tls_get(server.address(), pki.client(Some(&pki.ca.client("bob"))), "/who").await.unwrap(),
        "bob"
    );
}

#[tokio::test]
async fn a_ca_file_alone_demands_certificates() {
    let pki = Pki::new();
    let settings = TlsSettings { client_cert_auth: false, ..pki.mutual() };
    let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
    refused(&server, pki.client(None)).await;
}

#[tokio::test]
async fn without_client_authentication_everybody_is_nobody() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    assert_eq!(tls_get(server.address(), pki.client(None), "/who").await.unwrap(), "nobody");
    let alice = pki.ca.client("alice");
    assert_eq!(tls_get(server.address(), pki.client(Some(&alice)), "/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn common_names_are_limited() {
    let pki = Pki::new();
    let settings =
        TlsSettings { allowed_common_names: vec!["member-1".into(), "member-2".into()], ..pki.mutual() };
    let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
    for name in ["member-1", "member-2"] {
        let leaf = pki.ca.client(name);
        assert_eq!(tls_get(server.address(), pki.client(Some(&leaf)), "/who").await.unwrap(), name);
    }
    for name in ["member-3", "Member-1", "member-1 ", ""] {
        refused(&server, pki.client(Some(&pki.ca.client(name)))).await;
    }
}

#[tokio::test]
async fn hostnames_are_limited() {
    let pki = Pki::new();
    let settings =
        TlsSettings { allowed_hostnames: vec!["web.corp.example".into(), "10.1.2.3".into()], ..pki.mutual() };
    let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
    for names in
        [&["web.corp.example"][..], &["*.corp.example"], &["10.1.2.3"], &["x.org", "web.corp.example"]]
    {
        let leaf = pki.ca.client_for("c", names);
        let answer = tls_get(server.address(), pki.client(Some(&leaf)), "/who").await;
        assert_eq!(answer.map_err(|e| format!("{names:?}: {e}")), Ok("c".to_owned()));
    }
    for names in [&["db.corp.example"][..], &["10.1.2.4"], &[]] {
        refused(&server, pki.client(Some(&pki.ca.client_for("web.corp.example", names)))).await;
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused_from_the_next_handshake_on() {
    let pki = Pki::new();
    let (alice, bob) = (pki.ca.client("alice"), pki.ca.client("bob"));
    let crl = write(pki.path(), "crl.der", &pki.ca.crl(&[&alice]));
    let settings = TlsSettings { crl_file: Some(crl), ..pki.mutual() };
    let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
    refused(&server, pki.client(Some(&alice))).await;
    let mut open = Client::tls(server.address(), pki.client(Some(&bob)), true).await.unwrap();
    assert_eq!(open.get("/who").await.unwrap(), "bob");

    write(pki.path(), "crl.der", &pki.ca.crl(&[&bob]));
    refused(&server, pki.client(Some(&bob))).await;
    assert_eq!(tls_get(server.address(), pki.client(Some(&alice)), "/who").await.unwrap(), "alice");
    assert_eq!(open.get("/who").await.unwrap(), "bob", "established connections are not touched");
}

#[tokio::test]
async fn protocol_versions_are_limited() {
    let pki = Pki::new();
    let only = |version: &'static rustls::SupportedProtocolVersion| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca.pem().as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let (v12, v13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (min, max, refuses, accepts) in
        [(Some(TlsVersion::Tls13), None, v12, v13), (None, Some(TlsVersion::Tls12), v13, v12)]
    {
        let settings = TlsSettings { version_min: min, version_max: max, ..pki.one_way() };
        let server = TestServer::start("https://127.0.0.1:0", Some(settings), quick());
        refused(&server, only(refuses)).await;
        assert_eq!(tls_get(server.address(), only(accepts), "/who").await.unwrap(), "nobody");
    }
}

#[tokio::test]
async fn peers_must_come_from_an_address_their_certificate_names() {
    let pki = Pki::new();
    let url = ["https://127.0.0.1:0"];
    let system = || Arc::new(crate::edge::tls::san::SystemResolver);
    let strict =
        TestServer::start_all(&url, Some(pki.mutual()), quick(), |l| l.check_peer_addresses(system()));
    let lax = TestServer::start("https://127.0.0.1:0", Some(pki.mutual()), quick());
    let here = pki.ca.server("here", &["127.0.0.1"]);
    let elsewhere = pki.ca.server("elsewhere", &["192.0.2.1"]);
    assert_eq!(tls_get(strict.address(), pki.client(Some(&here)), "/who").await.unwrap(), "here");
    assert!(tls_get(strict.address(), pki.client(Some(&elsewhere)), "/who").await.is_err());
    assert_eq!(strict.refused(Refusal::PeerAddress), 1);
    assert_eq!(tls_get(lax.address(), pki.client(Some(&elsewhere)), "/who").await.unwrap(), "elsewhere");
}
