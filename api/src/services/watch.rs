//! The Watch service: admission, then a body that is the stream.
//!
//! Owns: the one path of the service. Called by: the router. The service is written by hand because its responses
//! are not messages but shared bytes; see [`super::watch_body`].
//! Source: etcd `server/etcdserver/api/v3rpc/watch.go`; gRPC over HTTP/2 for the frame of the response.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header};
use keelson_proto::etcdserverpb::{WatchRequest, WatchResponse};
use tonic::{Code, Status, Streaming, body::Body, codec::Codec, server::NamedService};
use tonic_prost::ProstCodec;
use tower::Service;

use super::watch_body::WatchBody;
use crate::{call::OnLearner, state::AppState};

const PATH: &str = "/etcdserverpb.Watch/Watch";
const GRPC_ENCODING: &str = "grpc-encoding";

/// See the module.
#[derive(Clone)]
pub(super) struct WatchServer(pub(super) AppState);

impl NamedService for WatchServer {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl Service<Request<Body>> for WatchServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.open(request).unwrap_or_else(Status::into_http)))
    }
}

impl WatchServer {
    fn open(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if request.uri().path() != PATH {
            return Err(Status::new(Code::Unimplemented, ""));
        }
        let (_, needs_leader) = self.0.admit_stream(request.headers(), OnLearner::Refused)?;
        if let Some(encoding) = request.headers().get(GRPC_ENCODING).filter(|encoding| *encoding != "identity") {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            return Err(Status::unimplemented(format!(
                "grpc: Decompressor is not installed for grpc-encoding \"{encoding}\""
            )));
        }
        let decoder = ProstCodec::<WatchResponse, WatchRequest>::default().decoder();
        let bytes_max = self.0.options.message_bytes_max();
        let requests = Streaming::new_request(decoder, request.into_body(), None, Some(bytes_max));
        let body = WatchBody::new(self.0.clone(), requests, needs_leader);
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}
