//! Floods of HTTP/2 frames end their connection and nobody else's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Preface and settings; then `flood` frames until the server ends the connection. Returns what it sent.
async fn flood(address: SocketAddr, mut flood: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        // The end may be a reset, because unread frames are left; what came before counts.
        while let Ok(count @ 1..) = read.read(&mut chunk).await {
            all.extend_from_slice(&chunk[..count]);
        }
        all
    });
    write.write_all(&[sniff::PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()).await.unwrap();
    for round in 0..200_000 {
        if write.write_all(&flood(round)).await.is_err() {
            break;
        }
        if reader.is_finished() {
            break;
        }
    }
    drop(write);
    soon("the server ends the connection", reader).await.unwrap()
}

/// Smallest request head: method GET, scheme http, path /who, from the static table and a literal.
fn request(stream: u32) -> Vec<u8> {
    frame(1, 0x5, stream, &[0x82, 0x86, 0x04, 4, b'/', b'w', b'h', b'o', 0x41, 1, b'x'])
}

async fn bystander(server: &TestServer) -> Client {
    let mut client = Client::plain(server.address(), true).await.unwrap();
    assert_eq!(client.get("/who").await.unwrap(), "nobody");
    client
}

#[tokio::test]
async fn ping_floods() {
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let mut other = bystander(&server).await;
    let sent = flood(server.address(), |_| frame(6, 0, 0, &[0; 8])).await;
    assert!(String::from_utf8_lossy(&sent).contains("too_many_pings"), "{sent:?}");
    eventually("counted", || server.refused(Refusal::Abuse) == 1).await;
    assert_eq!(other.get("/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn keepalive_pings_at_a_fair_pace_pass() {
    let keepalive = Keepalive { min_time: Duration::ZERO, ..Keepalive::default() };
    let server = TestServer::start("http://127.0.0.1:0", None, ServerOptions { keepalive, ..quick() });
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(&[sniff::PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()).await.unwrap();
    for _ in 0..50 {
        socket.write_all(&frame(6, 0, 0, &[7; 8])).await.unwrap();
    }
    let answer = frame(6, 1, 0, &[7; 8]);
    let mut seen = Vec::new();
    while seen.windows(answer.len()).filter(|part| *part == answer).count() < 50 {
        let count = soon("an answer", socket.read_buf(&mut seen)).await.unwrap();
        assert!(count > 0, "the server hung up");
    }
}

#[tokio::test]
async fn rapid_resets() {
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let mut other = bystander(&server).await;
    flood(server.address(), |round| {
        let stream = 2 * round + 1;
        [request(stream), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
    eventually("gone", || server.server.stats().active() == 1).await;
    assert_eq!(other.get("/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn settings_and_empty_data_floods() {
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let mut other = bystander(&server).await;
    flood(server.address(), |_| frame(4, 0, 0, &[]).repeat(100)).await;
    eventually("gone", || server.server.stats().active() == 1).await;
    flood(server.address(), |round| match round {
        0 => frame(1, 0x4, 1, &[0x83, 0x86, 0x04, 4, b'/', b'w', b'h', b'o', 0x41, 1, b'x']),
        _ => frame(0, 0, 1, &[]).repeat(100),
    })
    .await;
    eventually("gone", || server.server.stats().active() == 1).await;
    assert_eq!(other.get("/who").await.unwrap(), "nobody");
}

#[tokio::test]
async fn endless_headers() {
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let mut other = bystander(&server).await;
    let junk: Vec<u8> = [&[0x40, 1, b'a', 0x7f, 0xe1, 0x7f][..], &[b'z'; 16_352]].concat();
    flood(server.address(), |round| match round {
        0 => frame(1, 0, 1, &[0x82]),
        _ => frame(9, 0, 1, &junk[..16_000]),
    })
    .await;
    eventually("gone", || server.server.stats().active() == 1).await;
    assert_eq!(other.get("/who").await.unwrap(), "nobody");
}

/// A call that is refused before its body came is no abuse: found by a load test in which the connection of a busy
/// client ended after 1,024 such calls, the library's default.
#[tokio::test]
async fn calls_answered_before_their_body_came_do_not_end_the_connection() {
    const BATCH: u32 = 100;
    let server = TestServer::start("http://127.0.0.1:0", None, quick());
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(&[sniff::PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()).await.unwrap();
    // POST to a route that takes GET: answered from the head alone.
    let head = |stream| frame(1, 0x4, stream, &[0x83, 0x86, 0x04, 4, b'/', b'w', b'h', b'o', 0x41, 1, b'x']);
    let mut scanner = guard::Scanner::after(0);
    let mut answers = 0;
    let mut chunk = [0; 16 << 10];
    for batch in 0..30 {
        let streams = move || (0..BATCH).map(move |n| 2 * (batch * BATCH + n) + 1);
        socket.write_all(&streams().flat_map(head).collect::<Vec<u8>>()).await.unwrap();
        while answers < (batch + 1) * BATCH {
            let count = soon("an answer", socket.read(&mut chunk)).await.unwrap();
            assert!(count > 0, "the connection ended after {answers} answers");
            scanner.feed(&chunk[..count], |frame| {
                assert_ne!(frame.kind, 7, "GOAWAY after {answers} answers");
                answers += u32::from(frame.kind == 1);
            });
        }
        socket
            .write_all(&streams().flat_map(|stream| frame(0, 1, stream, &[7; 10])).collect::<Vec<u8>>())
            .await
            .unwrap();
    }
}
