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

fn ok_trailers() -> HeaderMap {
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
