//! The smallest HTTP/1.1 client that the tests need: one request, one connection, the whole answer as text.
//!
//! Owns: nothing but the exchange. Called by: health, version and bad-input tests.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer for this long is an error.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines, as sent.
    pub headers: String,
    /// The body, with chunks joined.
    pub body: String,
}

/// Sends raw bytes and reads until the server closes the connection or stays silent.
///
/// # Errors
/// Of the connection.
pub async fn raw(address: &str, bytes: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    match tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await {
        Ok(read) => read.map(|_| answer),
        Err(_) => Ok(answer),
    }
}

/// One request.
///
/// # Errors
/// Of the connection, or if the answer is not HTTP.
pub async fn request(address: &str, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let bytes = raw(address, head.as_bytes(), ANSWER_WAIT).await?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// A GET request.
///
/// # Errors
/// As [`request`].
pub async fn get(address: &str, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, "").await
}

fn parse(text: &str) -> io::Result<Answer> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {text:?}"));
    let (headers, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = headers.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    let chunked = headers.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { join_chunks(body) } else { body.to_owned() };
    Ok(Answer { status, headers: headers.to_owned(), body })
}

fn join_chunks(body: &str) -> String {
    let mut joined = String::new();
    let mut rest = body;
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || size > tail.len() {
            break;
        }
        joined.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    joined
}
