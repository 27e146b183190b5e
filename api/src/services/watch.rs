//! The Watch method: admission, then a body that is the stream.
//!
//! Owns: the one method of the service. Called by: the router. It is written by hand because its responses are not
//! messages but shared bytes; see [`super::watch_body`].
//! Source: etcd `server/etcdserver/api/v3rpc/watch.go`; gRPC over HTTP/2 for the frame of the response.

use bytes::Bytes;
use http::{Request, Response};
use tonic::{Code, Status, body::Body};

use super::{one_message, watch_body::WatchBody};
use crate::{call::OnLearner, errors, state::AppState, transport};

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// Answers a request; an error is a response too.
pub(super) async fn call<B>(state: AppState, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    open(state, request).await.unwrap_or_else(Status::into_http)
}

async fn open<B>(state: AppState, request: Request<B>) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if request.uri().path() != PATH {
        return Err(Status::new(Code::Unimplemented, ""));
    }
    let (call, needs_leader) =
        state.admit_stream(request.headers(), request.extensions(), OnLearner::Refused)?;
    transport::check_encoding(request.headers())?;
    // Here a login this member has not applied yet is waited for; one that is wrong is told to each watch.
    let _ = state.visitor(&call).await;
    if state.is_isolated(&*state.view()) {
        return Err(errors::CORRUPT.into());
    }
    let requests = transport::messages(request.into_body(), state.options.message_bytes_max());
    Ok(one_message::response(WatchBody::new(state, requests, call, needs_leader)))
}
