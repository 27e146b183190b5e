//! gRPC and plain HTTP on one port.
//!
//! Owns: [`Dispatch`], which sends a request to one of two services by its content type. Invariants: a gRPC call never
//! meets HTTP middleware (cross-origin headers, host checks), an HTTP request never meets gRPC's "unimplemented"
//! fallback; the decision costs one header lookup. Called by: the wiring, inside each runtime's service factory.
//! Source: etcd server/embed/serve.go (cmux on plain ports, `grpcHandlerFunc` on TLS ports).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{Request, Response, Version, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Serves gRPC calls with `grpc` and everything else with `http`.
#[derive(Clone, Debug)]
pub struct Dispatch<G, H> {
    grpc: G,
    http: H,
}

impl<G, H> Dispatch<G, H> {
    /// Both services of a port.
    pub fn new(grpc: G, http: H) -> Self {
        Dispatch { grpc, http }
    }
}

/// True for a gRPC call: HTTP/2 with a content type that begins with `application/grpc`.
fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<G, H, I, O> tower::Service<Request<I>> for Dispatch<G, H>
where
    G: tower::Service<Request<I>, Response = Response<O>>,
    H: tower::Service<Request<I>, Response = Response<AxumBody>>,
    H::Error: Into<G::Error>,
    O: Body<Data = Bytes>,
{
    type Response = Response<EitherBody<O>>;
    type Error = G::Error;
    type Future = EitherFuture<G::Future, H::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Both must be ready because the request is not known yet; routers always are.
        match (self.grpc.poll_ready(cx), self.http.poll_ready(cx)) {
            (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        if is_grpc(&request) {
            EitherFuture::Grpc { future: self.grpc.call(request) }
        } else {
            EitherFuture::Http { future: self.http.call(request) }
        }
    }
}

pin_project! {
    /// Future of either service.
    #[project = EitherFutureProj]
    #[derive(Debug)]
    #[allow(missing_docs)]
    pub enum EitherFuture<A, B> {
        Grpc { #[pin] future: A },
        Http { #[pin] future: B },
    }
}

impl<A, B, O, E1, E2> Future for EitherFuture<A, B>
where
    A: Future<Output = Result<Response<O>, E1>>,
    B: Future<Output = Result<Response<AxumBody>, E2>>,
    E2: Into<E1>,
{
    type Output = Result<Response<EitherBody<O>>, E1>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            EitherFutureProj::Grpc { future } => {
                future.poll(cx).map_ok(|response| response.map(|body| EitherBody::Grpc { body }))
            }
            EitherFutureProj::Http { future } => future
                .poll(cx)
                .map_ok(|response| response.map(|body| EitherBody::Http { body }))
                .map_err(Into::into),
        }
    }
}

pin_project! {
    /// Body of either service.
    #[project = EitherBodyProj]
    #[derive(Debug)]
    #[allow(missing_docs)]
    pub enum EitherBody<A> {
        Grpc { #[pin] body: A },
        Http { #[pin] body: AxumBody },
    }
}

impl<A> Body for EitherBody<A>
where
    A: Body<Data = Bytes>,
    A::Error: Into<crate::edge::listener::BoxError>,
{
    type Data = Bytes;
    type Error = crate::edge::listener::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project() {
            EitherBodyProj::Grpc { body } => body.poll_frame(cx).map_err(Into::into),
            EitherBodyProj::Http { body } => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            EitherBody::Grpc { body } => body.is_end_stream(),
            EitherBody::Http { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            EitherBody::Grpc { body } => body.size_hint(),
            EitherBody::Http { body } => body.size_hint(),
        }
    }
}
