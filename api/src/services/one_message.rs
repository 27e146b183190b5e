//! The body of a unary answer: one message that is encoded already, then the status.
//!
//! Owns: [`OneMessage`]. Called by: the methods that encode by themselves. Source: gRPC over HTTP/2.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use tonic::{Status, body::Body};

/// Bytes of gRPC's message prefix: a compression flag and the length.
pub(super) const PREFIX_BYTES: usize = 5;

/// See the module.
pub(super) struct OneMessage {
    state: State,
}

enum State {
    Message(Bytes),
    Trailers,
    Done,
}

impl OneMessage {
    /// `message` begins with its prefix.
    pub(super) fn new(message: Bytes) -> Self {
        OneMessage { state: State::Message(message) }
    }
}

impl http_body::Body for OneMessage {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (next, frame) = match std::mem::replace(&mut self.state, State::Done) {
            State::Message(message) => (State::Trailers, Some(Frame::data(message))),
            State::Trailers => (State::Done, Some(Frame::trailers(ok_trailers()))),
            State::Done => (State::Done, None),
        };
        self.state = next;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// Appends gRPC's prefix of a message of `bytes`.
///
/// # Errors
/// A message that is too large, in etcd's words.
pub(super) fn put_prefix(bytes: usize, out: &mut Vec<u8>) -> Result<(), Status> {
    if bytes > i32::MAX as usize {
        let max = i32::MAX;
        return Err(Status::resource_exhausted(format!(
            "grpc: trying to send message larger than max ({bytes} vs. {max})"
        )));
    }
    out.push(0);
    out.extend_from_slice(&(bytes as u32).to_be_bytes());
    Ok(())
}

pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // The text holds what no header may; the code still says enough.
        let bare = Status::new(status.code(), "");
        let _ = bare.add_header(&mut trailers);
    }
    trailers
}

/// What ends an answer that succeeded.
pub(super) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

/// The response head of a gRPC answer.
pub(super) fn response(
    body: impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
