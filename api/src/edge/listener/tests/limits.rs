//! Bounds in time and number.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    drop(soon("the server closes", socket.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn slow_handshakes_end() {
    let pki = Pki::new();
    let options = ServerOptions { handshake_timeout: Duration::from_millis(100), ..quick() };
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), options);
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    closed(&mut silent).await;
    // A hello that never ends: the record says 512 bytes and brings a few.
    let mut partial = TcpStream::connect(server.address()).await.unwrap();
    partial.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    closed(&mut partial).await;
    eventually("counted", || server.refused(Refusal::Timeout) == 2).await;
    assert_eq!(tls_get(server.address(), pki.client(None), "/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn silence_after_the_handshake_ends() {
    let pki = Pki::new();
    let options = ServerOptions { first_byte_timeout: Duration::from_millis(100), ..quick() };
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), options.clone());
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(pki.client(None))).connect(name, socket).await.unwrap();
    drop(soon("the server closes", stream.read_to_end(&mut Vec::new())).await);
    eventually("counted", || server.refused(Refusal::Timeout) == 1).await;

    let plain = TestServer::start("http://127.0.0.1:0", None, options);
    for start in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut socket = TcpStream::connect(plain.address()).await.unwrap();
        socket.write_all(start).await.unwrap();
        closed(&mut socket).await;
    }
    eventually("counted", || plain.refused(Refusal::Timeout) == 2).await;
}

#[tokio::test]
async fn slow_request_heads_end() {
    let options = ServerOptions { header_read_timeout: Duration::from_millis(100), ..quick() };
    let server = TestServer::start("http://127.0.0.1:0", None, options);
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\nx-").await.unwrap();
    closed(&mut socket).await;
    eventually("gone", || server.server.stats().active() == 0).await;
}

#[tokio::test]
async fn silent_connections_cannot_keep_others_out() {
    let pki = Pki::new();
    let options = ServerOptions { handshakes_pending_max: 8, ..quick() };
    let server = TestServer::start("https://127.0.0.1:0", Some(pki.one_way()), options);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let stats = Arc::clone(server.server.stats());
    eventually("all but eight are gone", || stats.active() == 8).await;
    assert_eq!(stats.pending(), 8);
    assert_eq!(server.refused(Refusal::Evicted), 192);
    assert_eq!(tls_get(server.address(), pki.client(None), "/who").await.unwrap(), "nobody");
    // A connection that has proven itself is not in the bounded stage any more.
    let mut client = Client::tls(server.address(), pki.client(None), true).await.unwrap();
    assert_eq!(client.get("/who").await.unwrap(), "nobody");
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    eventually("the newest pushed out the oldest", || server.refused(Refusal::Evicted) >= 212).await;
    assert_eq!(client.get("/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let options = ServerOptions { connections_max: 2, ..quick() };
    let server = TestServer::start("http://127.0.0.1:0", None, options);
    let mut first = Client::plain(server.address(), false).await.unwrap();
    let mut second = Client::plain(server.address(), false).await.unwrap();
    first.get("/who").await.unwrap();
    second.get("/who").await.unwrap();
    let mut third = Client::plain(server.address(), false).await.unwrap(); // accepted by the kernel only
    {
        let mut waiting = std::pin::pin!(third.get("/who"));
        assert!(clock::within(Duration::from_millis(50), waiting.as_mut()).await.is_none());
        assert_eq!(server.server.stats().active(), 2);
        drop(first);
        assert_eq!(soon("a place is free", waiting).await.unwrap(), "nobody");
    }
}

#[tokio::test]
async fn descriptors_bound_connections_by_default() {
    let options = ServerOptions::default();
    let limit = crate::edge::metrics::process::descriptor_limit().unwrap_or(1024);
    assert!(options.connections_max as u64 <= limit.max(214));
    assert_eq!(options.handshake_timeout, Duration::from_secs(10));
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    // The task of a connection beside what it boxes for its protocol; a hundred thousand of them must not hurt.
    let task = connection::task_bytes(service(Gate::default()));
    assert!(task <= 1024, "{task} bytes");
}
