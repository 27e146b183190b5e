//! Gives errors of the transport the words of grpc-go.
//!
//! Owns: [`TransportLayer`], and the fallback for unknown services. Called by: `services::routes`. Invariants: texts
//! are rewritten only on responses that carry their whole status in the headers; bodies pass untouched.
//! A message that is too large, or no protobuf, is refused by tonic before any handler sees it; clients and their
//! users know the texts of grpc-go.
//! Source: grpc-go `rpc_util.go` (size limit), `server.go` (unmarshalling, unknown services).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Wraps a service; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransportLayer;

impl<S> Layer<S> for TransportLayer {
    type Service = TransportService<S>;

    fn layer(&self, inner: S) -> TransportService<S> {
        TransportService { inner }
    }
}

/// A wrapped service.
#[derive(Clone, Debug)]
pub struct TransportService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for TransportService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ResponseFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// Completes with the response headers.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = ready!(self.project().inner.poll(context));
        translate(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

/// Answers a path that belongs to no service.
pub(crate) async fn unknown_service(request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/');
    let service = path.rsplit_once('/').map_or(path, |(service, _)| service);
    Status::unimplemented(format!("unknown service {service}")).into_http()
}

/// Rewrites the status of a request that never reached its handler.
fn translate(headers: &mut HeaderMap) {
    let Some(code) = headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes())) else { return };
    if !matches!(code, Code::OutOfRange | Code::Internal) {
        return;
    }
    let Some(status) = Status::from_header_map(headers).as_ref().and_then(transport_status) else { return };
    headers.remove(Status::GRPC_MESSAGE);
    // Only an unprintable text could fail, and none of ours is.
    let _ = status.add_header(headers);
}

/// A transport error of tonic in grpc-go's words, `None` for any other status.
pub(crate) fn transport_status(status: &Status) -> Option<Status> {
    let text = status.message();
    match status.code() {
        Code::OutOfRange => {
            let numbers = text.strip_prefix("Error, decoded message length too large: found ")?;
            let (found, rest) = numbers.split_once(" bytes, the limit is: ")?;
            let limit = rest.strip_suffix(" bytes")?;
            Some(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({found} vs. {limit})"
            )))
        }
        Code::Internal if text.starts_with("failed to decode Protobuf message") => {
            Some(Status::internal(format!("grpc: error unmarshalling request: {text}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_errors_speak_as_grpc_go_does() {
        let tonic = Status::out_of_range(
            "Error, decoded message length too large: found 2097153 bytes, the limit is: 2097152 bytes",
        );
        let ours = transport_status(&tonic).unwrap();
        assert_eq!(ours.code(), Code::ResourceExhausted);
        assert_eq!(ours.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
        assert!(transport_status(&crate::errors::COMPACTED.status()).is_none());
        let garbled = Status::internal("failed to decode Protobuf message: invalid wire type");
        assert_eq!(transport_status(&garbled).unwrap().code(), Code::Internal);
    }
}
