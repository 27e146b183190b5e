//! Serves a member's [`PeerService`] over gRPC.
//!
//! Owns: the mapping of three paths. Called by: the peer listener, as a tower service on its router.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tonic::server::{ClientStreamingService, Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};

use super::{CALL, MESSAGE_BYTES_MAX, RawCodec, SERVICE, STREAM, UPLOAD};
use crate::net::{Frame, Incoming, PeerService, TransportError};

/// A tower service for a router of tonic or axum; see the module.
#[derive(Clone)]
pub struct PeerGrpc {
    service: Arc<dyn PeerService>,
}

impl PeerGrpc {
    /// Serves `service`, as [`crate::Handle::peer_service`] gives it.
    pub fn new(service: Arc<dyn PeerService>) -> Self {
        PeerGrpc { service }
    }
}

impl NamedService for PeerGrpc {
    const NAME: &'static str = SERVICE;
}

impl<B> tower::Service<http::Request<B>> for PeerGrpc
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.service.clone();
        async move {
            let mut grpc = Grpc::new(RawCodec)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            Ok(match request.uri().path() {
                CALL => grpc.unary(Call(service), request).await,
                STREAM => grpc.streaming(Stream(service), request).await,
                UPLOAD => grpc.client_streaming(Upload(service), request).await,
                _ => Status::unimplemented("unknown method").into_http(),
            })
        }
        .boxed()
    }
}

struct Call(Arc<dyn PeerService>);
struct Stream(Arc<dyn PeerService>);
struct Upload(Arc<dyn PeerService>);

type Reply<T> = BoxFuture<'static, Result<Response<T>, Status>>;

fn one(answer: Bytes) -> Frame {
    Frame::new(vec![answer])
}

fn incoming(requests: Streaming<Bytes>) -> Incoming {
    requests.map(|request| request.map_err(|status| TransportError::Lost(status.to_string()))).boxed()
}

impl UnaryService<Bytes> for Call {
    type Response = Frame;
    type Future = Reply<Frame>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = self.0.call(request.into_inner());
        async move { Ok(Response::new(one(answer.await))) }.boxed()
    }
}

impl StreamingService<Bytes> for Stream {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Result<Frame, Status>>;
    type Future = Reply<Self::ResponseStream>;

    fn call(&mut self, requests: Request<Streaming<Bytes>>) -> Self::Future {
        let answers = self.0.stream(incoming(requests.into_inner()));
        std::future::ready(Ok(Response::new(answers.map(|answer| Ok(one(answer))).boxed()))).boxed()
    }
}

impl ClientStreamingService<Bytes> for Upload {
    type Response = Frame;
    type Future = Reply<Frame>;

    fn call(&mut self, requests: Request<Streaming<Bytes>>) -> Self::Future {
        let answer = self.0.upload(incoming(requests.into_inner()));
        async move { Ok(Response::new(one(answer.await))) }.boxed()
    }
}
