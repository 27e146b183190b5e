//! LeaseKeepAlive, written by hand: thousands of streams, each with a small message every few seconds.
//!
//! Owns: the method from request to answers. Called by: the router; hyper asks the body for the next piece. Invariants: a
//! stream holds no task, no channel and no copy of its state per message; an unknown lease is no error (time to live 0);
//! answers come in the order of the requests.
//! Source: etcd `server/etcdserver/api/v3rpc/lease.go` (`leaseKeepAlive`); gRPC over HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::{Request, Response};
use http_body::Frame;
use keelson_mvcc::auth::Access;
use keelson_mvcc::types::LeaseId;
use keelson_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader};
use prost::Message;
use tonic::{Status, Streaming, body::Body};

use super::lease::{check_leases, ended};
use super::one_message::{self, PREFIX_BYTES, ok_trailers, put_prefix, trailers};
use crate::call::{Call, OnLearner};
use crate::state::AppState;
use crate::transport::{self, transport_status};

/// Where the method is served.
pub(super) const PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Answers a request; an error is a response too.
pub(super) async fn call<B>(state: AppState, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    open(state, request).unwrap_or_else(Status::into_http)
}

fn open<B>(state: AppState, request: Request<B>) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (call, needs_leader) =
        state.admit_stream(request.headers(), request.extensions(), OnLearner::Refused)?;
    transport::check_encoding(request.headers())?;
    let requests = transport::messages(request.into_body(), state.options.message_bytes_max());
    // A stream may outlive the deadline of its first request by far; each renewal gets the server's own timeout.
    let call = Call { timeout: state.options.request_timeout(), ..call };
    let mut lifecycle = state.lifecycle();
    Ok(one_message::response(KeepAlive {
        ended: Box::pin(async move { ended(&mut lifecycle, needs_leader).await }),
        requests,
        work: None,
        done: false,
        call,
        state,
    }))
}

type Work = Pin<Box<dyn Future<Output = Result<LeaseKeepAliveResponse, Status>> + Send>>;

/// One stream.
struct KeepAlive {
    state: AppState,
    call: Call,
    /// Completes when the server wants the stream to end.
    ended: Pin<Box<dyn Future<Output = Status> + Send>>,
    requests: Streaming<LeaseKeepAliveRequest>,
    /// A renewal that could not be decided on the spot.
    work: Option<Work>,
    done: bool,
}

impl KeepAlive {
    /// The answer to the next request; `None` once the client has no more.
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<LeaseKeepAliveResponse>, Status>> {
        if let Poll::Ready(status) = self.ended.as_mut().poll(context) {
            return Poll::Ready(Err(status));
        }
        if self.work.is_none() {
            let id = match ready!(Pin::new(&mut self.requests).poll_next(context)) {
                Some(Ok(LeaseKeepAliveRequest { id })) => id,
                Some(Err(status)) => return Poll::Ready(Err(transport_status(&status).unwrap_or(status))),
                None => return Poll::Ready(Ok(None)),
            };
            if let Some(answer) = self.renew_now(id) {
                return Poll::Ready(Ok(Some(answer)));
            }
            self.work = Some(Box::pin(renew(self.state.clone(), self.call.clone(), id)));
        }
        let work = self.work.as_mut().expect("set above");
        let answer = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(answer.map(Some))
    }

    /// The usual case: this member leads, knows the lease, and everybody may renew it.
    fn renew_now(&self, id: LeaseId) -> Option<LeaseKeepAliveResponse> {
        let view = self.state.view();
        if view.auth().is_enabled() {
            return None;
        }
        let header = self.state.header(view.revision());
        self.state.leases.renew_now(id).map(|ttl| answer(header, id, ttl))
    }
}

async fn renew(state: AppState, call: Call, id: LeaseId) -> Result<LeaseKeepAliveResponse, Status> {
    check_leases(&state, &call, Access::Write, &[id]).await?;
    // Taken before the renewal: the client must not see a revision at which the lease was already gone.
    let header = state.header_now();
    let ttl = state.leases.renew(id, call.timeout).await?.unwrap_or(0);
    Ok(answer(header, id, ttl))
}

fn answer(header: ResponseHeader, id: LeaseId, ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse { header: Some(header), id, ttl }
}

impl http_body::Body for KeepAlive {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.poll_answer(context)) {
            Ok(Some(answer)) => Frame::data(encode(&answer)),
            Ok(None) => Frame::trailers(ok_trailers()),
            Err(status) => Frame::trailers(trailers(&status)),
        };
        self.done = frame.is_trailers();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

fn encode(answer: &LeaseKeepAliveResponse) -> Bytes {
    let bytes = answer.encoded_len();
    let mut out = Vec::with_capacity(PREFIX_BYTES + bytes);
    put_prefix(bytes, &mut out).expect("a few numbers are no large message");
    answer.encode_raw(&mut out);
    out.into()
}
