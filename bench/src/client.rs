//! A gRPC client reduced to what a load generator needs: pre-encoded requests in, status and body length out.
//!
//! Owns: HTTP/2 connections. Called by: `load`.
//! Why not tonic: its client costs more CPU per call than a good server, and on a small machine the client then
//! caps the visible ratio between two servers. This one is the same for every server it drives.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, Uri, Version};
use tokio::net::TcpStream;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CallError {
    #[error("connect to {endpoint}: {source}")]
    Connect { endpoint: String, source: std::io::Error },
    #[error("endpoint {0:?} is not of the form host:port or http://host:port")]
    Endpoint(String),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("the server answered {path} with grpc-status {status}: {message}")]
    Status { path: &'static str, status: String, message: String },
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    authority: String,
}

impl Connection {
    /// Connects to `host:port` or `http://host:port` and drives the connection on a task of the current runtime.
    ///
    /// # Errors
    /// The endpoint is malformed, nobody listens, or the handshake fails.
    pub async fn open(endpoint: &str) -> Result<Self, CallError> {
        let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/').to_owned();
        if !authority.contains(':') || authority.contains('/') {
            return Err(CallError::Endpoint(endpoint.to_owned()));
        }
        let connect = |source| CallError::Connect { endpoint: endpoint.to_owned(), source };
        let socket = TcpStream::connect(&authority).await.map_err(connect)?;
        socket.set_nodelay(true).map_err(connect)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(16 << 20)
            .initial_connection_window_size(64 << 20)
            .max_concurrent_streams(100_000)
            .handshake(socket)
            .await?;
        tokio::spawn(async move {
            // A broken connection is reported by the calls that were using it.
            let _ = connection.await;
        });
        Ok(Connection { sender, authority })
    }

    /// A template of the request for `path`, for example `/etcdserverpb.KV/Put`.
    pub fn template(&self, path: &'static str) -> Template {
        let uri = Uri::builder()
            .scheme("http")
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
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = template.uri.clone();
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        self.sender = self.sender.clone().ready().await?;
        let (response, mut stream) = self.sender.send_request(request, false)?;
        stream.send_data(message, true)?;
        let response = response.await?;
        check(template.path, response.headers())?;
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
        }
        if let Some(trailers) = body.trailers().await? {
            check(template.path, &trailers)?;
        }
        // An answer without a message (headers and trailers only) has no prefix either.
        Ok(if answer.len() < 5 { Bytes::new() } else { answer.freeze().slice(5..) })
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
    let mut buffer = BytesMut::with_capacity(5 + message.encoded_len());
    buffer.extend_from_slice(&[0]);
    buffer.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut buffer).expect("a BytesMut grows as needed");
    buffer.freeze()
}
