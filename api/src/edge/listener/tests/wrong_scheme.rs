//! Clients that chose the wrong scheme get an answer they can understand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", socket.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn http_on_a_tls_port() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    let go = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    assert_eq!(exchange(server.address(), b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await, go);
    assert_eq!(exchange(server.address(), b"POST /v3/kv/put HTTP/1.1\r\n").await, go);
    eventually("counted", || server.refused(Refusal::WrongScheme) == 2).await;
}

#[tokio::test]
async fn grpc_without_tls_on_a_tls_port() {
    let pki = Pki::new();
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    let error = match Client::plain(server.address(), true).await {
        Ok(mut client) => client.get("/who").await.unwrap_err(),
        Err(error) => error,
    };
    let text = crate::edge::tls::error::chain(&*error);
    assert!(text.contains("INADEQUATE_SECURITY") || text.to_lowercase().contains("security"), "{text}");
    let raw = exchange(server.address(), sniff::PREFACE).await;
    assert!(String::from_utf8_lossy(&raw).contains("use an https:// endpoint"), "{raw:?}");
}

#[tokio::test]
async fn tls_on_a_plain_port() {
    let pki = Pki::new();
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let error = tls_get(server.address(), pki.client(None), "/who").await.unwrap_err();
    // What rustls says to an answer that is no TLS record, as Go says "first record does not look like a TLS handshake".
    assert!(
        error.to_string().contains("corrupt message") || error.to_string().contains("InvalidContentType"),
        "{error}"
    );
    let raw = exchange(server.address(), &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await;
    assert!(raw.starts_with(b"HTTP/1.0 400 Bad Request\r\n\r\n"), "{raw:?}");
    eventually("counted", || server.refused(Refusal::WrongScheme) == 2).await;
}

#[tokio::test]
async fn both_schemes_on_one_address() {
    let pki = Pki::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let urls = [format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{port}")];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let server = TestServer::start_all(&urls, Some(pki.mutual()), quick(), |l| l);
    assert_eq!(server.server.local_addresses().len(), 1);
    let alice = pki.ca.client("alice");
    assert_eq!(tls_get(server.address(), pki.client(Some(&alice)), "/who").await.unwrap(), "alice");
    for h2 in [true, false] {
        let mut client = Client::plain(server.address(), h2).await.unwrap();
        assert_eq!(client.get("/who").await.unwrap(), "nobody");
    }
}

#[tokio::test]
async fn noise_is_refused() {
    let pki = Pki::new();
    let tls = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), quick());
    assert_eq!(exchange(tls.address(), b"SSH-2.0-OpenSSH_9.2\r\n").await, b"");
    eventually("counted", || tls.refused(Refusal::Handshake) == 1).await;
    let plain = TestServer::start("http://127.0.0.1:0", None, quick());
    let answer = exchange(plain.address(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    // A port check that sends nothing is nobody's fault.
    drop(TcpStream::connect(tls.address()).await.unwrap());
    eventually("gone", || tls.server.stats().active() == 0).await;
    assert_eq!(Refusal::ALL.iter().map(|why| tls.refused(*why)).sum::<u64>(), 1);
}
