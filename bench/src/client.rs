//! A gRPC client reduced to what a load generator needs: pre-encoded messages in, messages out.
//!
//! Owns: HTTP/2 connections, calls and streams. Called by: every workload.
//! Why not tonic: its client costs more CPU per call than a good server, and on a small machine the client then
//! caps the visible ratio between two servers. This one is the same for every server it drives.

use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::transport::Endpoint;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CallError {
    #[error("connect to {endpoint}: {source}")]
    Connect { endpoint: String, source: std::io::Error },
    #[error("endpoint {0:?} is not of the form host:port, http://host:port or https://host:port")]
    Endpoint(String),
    #[error("an https endpoint needs --cacert: the server is verified against it")]
    NoCa,
    #[error("{path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("the server answered {path} with grpc-status {status}: {message}")]
    Status { path: &'static str, status: String, message: String },
    #[error("the answer to {path} cannot be right: {reason}")]
    Answer { path: &'static str, reason: String },
    #[error("this workload needs the process ids of the servers (--pids)")]
    NoPids,
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    scheme: &'static str,
    authority: String,
}

impl Connection {
    /// Connects and drives the connection on a task of the current runtime.
    ///
    /// # Errors
    /// Nobody listens, or a handshake fails.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, CallError> {
        let socket = endpoint.connect().await?;
        let sender = match &endpoint.tls {
            None => handshake(socket).await?,
            Some(connector) => handshake(endpoint.secure(connector, socket).await?).await?,
        };
        Ok(Connection { sender, scheme: endpoint.scheme(), authority: endpoint.authority.clone() })
    }

    /// A template of the request for `path`, for example `/etcdserverpb.KV/Put`.
    pub fn template(&self, path: &'static str) -> Template {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
            .expect("an authority that accepted a connection and a constant path form a URI");
        Template { path, uri }
    }

    /// Calls and waits for the whole answer; returns the message (without its five-byte prefix).
    ///
    /// # Errors
    /// The connection broke, or the server answered with a status other than OK.
    pub async fn call(&mut self, template: &Template, message: Bytes) -> Result<Bytes, CallError> {
        let mut answers = self.stream(template, message, true).await?.answers;
        let answer = answers.message().await?.unwrap_or_default();
        answers.end().await?;
        Ok(answer)
    }

    /// Calls, reads the answer or the stream of answers to its end and drops it; returns its bytes.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_and_drop(&mut self, template: &Template, message: Bytes) -> Result<u64, CallError> {
        self.stream(template, message, true).await?.answers.end().await
    }

    /// Opens a stream with its first message; `last` closes our side of it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn stream(
        &mut self,
        template: &Template,
        message: Bytes,
        last: bool,
    ) -> Result<Stream, CallError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = template.uri.clone();
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        self.sender = self.sender.clone().ready().await?;
        let (response, mut requests) = self.sender.send_request(request, false)?;
        requests.send_data(message, last)?;
        let body = Body::Expected(response);
        Ok(Stream { requests, answers: Answers { path: template.path, body, buffer: BytesMut::new() } })
    }
}

async fn handshake<T>(socket: T) -> Result<SendRequest<Bytes>, CallError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(16 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(100_000)
        .handshake(socket)
        .await?;
    tokio::spawn(async move {
        // A broken connection is reported by the calls that were using it.
        let _ = connection.await;
    });
    Ok(sender)
}

/// An open stream.
pub struct Stream {
    /// Our side.
    pub requests: SendStream<Bytes>,
    /// The server's side.
    pub answers: Answers,
}

impl Stream {
    /// Sends one more message.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send(&mut self, message: Bytes) -> Result<(), CallError> {
        Ok(self.requests.send_data(message, false)?)
    }
}

/// What the server sends on a stream.
pub struct Answers {
    path: &'static str,
    body: Body,
    buffer: BytesMut,
}

enum Body {
    /// Until the headers come: [`Body::Open`].
    Expected(ResponseFuture),
    /// Until the trailers.
    Open(RecvStream),
}

impl Answers {
    /// The next message; `None` after the last, if the server ended the stream with OK.
    ///
    /// # Errors
    /// The connection broke, or the status is not OK.
    /// # Cancel safety
    /// Nothing received is lost.
    pub async fn message(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(prefix) = self.buffer.get(..5) {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
                self.buffer.reserve(5 + length - self.buffer.len());
            }
            match self.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// Reads to the end without keeping anything; returns the bytes seen, prefixes included.
    async fn end(&mut self) -> Result<u64, CallError> {
        let mut bytes = self.buffer.len() as u64;
        while let Some(chunk) = self.chunk().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        if let Body::Expected(response) = &mut self.body {
            let response = response.await?;
            check(self.path, response.headers())?;
            self.body = Body::Open(response.into_body());
        }
        let Body::Open(body) = &mut self.body else { unreachable!("opened above") };
        match body.data().await {
            Some(chunk) => {
                let chunk = chunk?;
                body.flow_control().release_capacity(chunk.len())?;
                Ok(Some(chunk))
            }
            None => {
                if let Some(trailers) = body.trailers().await? {
                    check(self.path, &trailers)?;
                }
                Ok(None)
            }
        }
    }
}

/// Everything about a call that does not change between requests.
#[derive(Clone)]
pub struct Template {
    path: &'static str,
    uri: Uri,
}

fn check(path: &'static str, headers: &http::HeaderMap) -> Result<(), CallError> {
    match headers.get("grpc-status") {
        None => Ok(()),
        Some(status) if status == "0" => Ok(()),
        Some(status) => {
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let message = headers.get("grpc-message").map(text).unwrap_or_default();
            Err(CallError::Status { path, status: text(status), message })
        }
    }
}

/// A message with the gRPC prefix in front, ready to be sent.
pub fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(5 + length);
    buffer.extend_from_slice(&[0]);
    buffer.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode(&mut buffer).expect("a BytesMut grows as needed");
    buffer.freeze()
}

/// Decodes an answer to `path`.
///
/// # Errors
/// The bytes are not such a message.
pub fn decode<M: prost::Message + Default>(path: &'static str, answer: Bytes) -> Result<M, CallError> {
    M::decode(answer).map_err(|error| CallError::Answer { path, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Response};

    use super::*;

    /// A connection to a server that answers one call with these pieces of body and this status.
    async fn answered_by(pieces: Vec<&'static [u8]>, status: &'static str) -> Connection {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(theirs).await.expect("a handshake");
            let (_request, mut respond) = server.accept().await.expect("a request").expect("no fault");
            let mut stream = respond.send_response(Response::new(()), false).expect("headers");
            for piece in pieces {
                stream.send_data(Bytes::from_static(piece), false).expect("data");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static("why"));
            stream.send_trailers(trailers).expect("trailers");
            // Driven until the client is gone.
            while server.accept().await.is_some() {}
        });
        let sender = handshake(ours).await.expect("a handshake");
        Connection { sender, scheme: "http", authority: "test:1".to_owned() }
    }

    #[tokio::test]
    async fn messages_are_put_together_however_they_were_cut() {
        let pieces: Vec<&[u8]> = vec![b"\0\0\0", b"\0\x03ab", b"c\0\0\0\0\0\0\0\0\0\x02", b"de"];
        let mut connection = answered_by(pieces.clone(), "0").await;
        let template = connection.template("/test");
        let mut stream = connection.stream(&template, Bytes::new(), true).await.expect("a stream");
        for expected in [Some(&b"abc"[..]), Some(b""), Some(b"de"), None] {
            assert_eq!(stream.answers.message().await.expect("OK").as_deref(), expected);
        }
        let mut connection = answered_by(pieces, "0").await;
        assert_eq!(connection.call_and_drop(&template, Bytes::new()).await.expect("OK"), 20);
    }

    #[tokio::test]
    async fn a_status_other_than_ok_is_an_error_even_after_messages() {
        let mut connection = answered_by(vec![b"\0\0\0\0\x01x"], "14").await;
        let template = connection.template("/test");
        let error = connection.call(&template, Bytes::new()).await.expect_err("unavailable");
        assert_eq!(error.to_string(), "the server answered /test with grpc-status 14: why");
    }
}
