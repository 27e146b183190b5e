//! One watch stream, as the body of its HTTP response.
//!
//! Owns: the client's requests on the way to the hub, the hub's frames on the way to the socket. Called by: hyper,
//! which asks for the next piece when the connection has room: so a slow client holds nothing here but its cursor in
//! the hub, and no task is spawned per stream.
//! Invariants: frames go out in the order in which the hub gave them; a large event is not copied, its shared bytes
//! go to the socket as they are; at most one batch of frames is encoded ahead.
//! Source: etcd `server/etcdserver/api/v3rpc/watch.go` (`recvLoop`, `sendLoop`).

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::Frame as BodyFrame;
use keelson_mvcc::auth::Access;
use keelson_mvcc::types::{KeyRange, Revision};
use keelson_proto::etcdserverpb::{
    ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use keelson_watch::{self as hub, ControlError, EventBatch, Frame, StreamEnd, WatchControl, WatchStream};
use prost::Message;
use tonic::{Code, Status, Streaming};

use super::{
    lease::ended,
    one_message::{PREFIX_BYTES, trailers},
    watch_codec::put_head,
};
use crate::{
    call::Call,
    convert,
    errors::{self, WireError},
    state::AppState,
    transport::transport_status,
};

/// Shared pieces from this size on go to the socket without a copy; below, a copy is cheaper than a frame of its own.
const SHARED_BYTES_MIN: usize = 4096;
/// Requests taken between two looks at the events, so that a client which only creates watches still gets events.
const REQUESTS_PER_TURN: usize = 256;

/// See the module.
pub(super) struct WatchBody {
    state: AppState,
    requests: Option<Streaming<WatchRequest>>,
    /// A request the hub had no room for.
    held: Option<WatchRequest>,
    stream: WatchStream,
    control: WatchControl,
    /// Completes when the server wants the stream to end.
    ended: Pin<Box<dyn Future<Output = Status> + Send>>,
    out: VecDeque<Bytes>,
    /// What the client showed of itself when it opened the stream.
    call: Call,
    /// Set once nothing but trailers is left.
    last: Option<Status>,
    done: bool,
}

impl WatchBody {
    pub(super) fn new(
        state: AppState,
        requests: Streaming<WatchRequest>,
        call: Call,
        needs_leader: bool,
    ) -> Self {
        let stream = state.hub.open();
        let mut lifecycle = state.lifecycle();
        WatchBody {
            control: stream.control(),
            stream,
            requests: Some(requests),
            held: None,
            ended: Box::pin(async move { ended(&mut lifecycle, needs_leader).await }),
            out: VecDeque::new(),
            call,
            last: None,
            done: false,
            state,
        }
    }

    /// Hands waiting requests to the hub. An error ends the stream.
    fn take_requests(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_PER_TURN {
            let request = match self.held.take() {
                Some(request) => request,
                None => {
                    let Some(requests) = &mut self.requests else { return Ok(()) };
                    match Pin::new(requests).poll_next(context) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Some(Ok(request))) => request,
                        Poll::Ready(Some(Err(status))) if status.code() == Code::Cancelled => {
                            return Err(errors::WATCH_CANCELED.into());
                        }
                        Poll::Ready(Some(Err(status))) => {
                            return Err(transport_status(&status).unwrap_or(status));
                        }
                        // The client will ask for nothing more, and still gets its events.
                        Poll::Ready(None) => {
                            self.requests = None;
                            return Ok(());
                        }
                    }
                }
            };
            match self.hand_over(&request) {
                Ok(()) => {}
                Err(ControlError::Full) => {
                    // Replies wait to be sent, so the hub has frames for us: there is room after the next look.
                    self.held = Some(request);
                    return Ok(());
                }
                Err(ControlError::Closed) => return Err(errors::STOPPED.into()),
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    fn hand_over(&self, request: &WatchRequest) -> Result<(), ControlError> {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let create = watch_request(create);
                // A start before all history is refused first, by the hub.
                if create.start >= 0
                    && let Err(refused) = self.permit(&create.range)
                {
                    return self.control.try_refuse(refused.go_string());
                }
                self.control.try_create(&create).map(drop)
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.control.try_cancel(cancel.watch_id).map(drop),
            Some(RequestUnion::ProgressRequest(_)) => self.control.progress(),
            // Not worth a whole stream: a newer client may know more kinds of requests.
            None => Ok(()),
        }
    }

    /// Whether the client may watch these keys. Asked once: a right lost later does not end a watch, as in etcd.
    fn permit(&self, range: &KeyRange) -> Result<(), WireError> {
        let invalid = |_| errors::INVALID_AUTH_TOKEN;
        let (view, caller) = self.state.visitor_now(&self.call).map_err(invalid)?;
        // An empty key is the smallest one.
        let key = if range.key.is_empty() { Bytes::from_static(&[0]) } else { range.key.clone() };
        let range = KeyRange { key, end: range.end.clone() };
        view.auth().check(caller.as_ref(), Access::Read, &range).map_err(errors::from_auth)
    }

    /// Encodes frames into pieces for the socket.
    fn encode(&mut self, frames: Vec<Frame>) {
        let _sending = tracing::debug_span!("watch.send", frames = frames.len()).entered();
        let bytes_max = self.state.options.message_bytes_max();
        let header = self.state.header(0);
        let mut buffer = BytesMut::new();
        for frame in frames {
            match frame {
                Frame::Created { id, revision } => {
                    let head = WatchResponse { created: true, ..head(&header, id, revision) };
                    put_head(&head, 0, &mut buffer);
                }
                Frame::Canceled { id, created, revision, compact_revision, reason } => {
                    let head = WatchResponse {
                        created,
                        canceled: true,
                        compact_revision,
                        cancel_reason: reason.into_owned(),
                        ..head(&header, id, revision)
                    };
                    put_head(&head, 0, &mut buffer);
                }
                Frame::Progress { id, revision } => put_head(&head(&header, id, revision), 0, &mut buffer),
                Frame::Events { id, revision, events, fragment: false } => {
                    self.put_events(&head(&header, id, revision), &events, &mut buffer);
                }
                Frame::Events { id, revision, events, fragment: true } => {
                    let mut head = WatchResponse { fragment: true, ..head(&header, id, revision) };
                    let mut parts =
                        events.split(bytes_max.saturating_sub(head.encoded_len())).into_iter().peekable();
                    while let Some(part) = parts.next() {
                        head.fragment = parts.peek().is_some();
                        self.put_events(&head, &part, &mut buffer);
                    }
                }
            }
        }
        if !buffer.is_empty() {
            self.out.push_back(buffer.freeze());
        }
    }

    fn put_events(&mut self, head: &WatchResponse, events: &EventBatch, buffer: &mut BytesMut) {
        let events_len = events.encoded_len();
        put_head(head, events_len, buffer);
        if events_len < SHARED_BYTES_MIN {
            events.copy_to(buffer);
            return;
        }
        events.pieces(|piece| {
            if piece.len() < SHARED_BYTES_MIN {
                buffer.extend_from_slice(&piece);
            } else {
                self.out.push_back(buffer.split().freeze());
                self.out.push_back(piece);
            }
        });
    }

    fn finish(&mut self, status: Status) {
        tracing::debug!(%status, "watch stream ends");
        self.requests = None;
        self.last = Some(status);
    }

    /// The next piece for the socket, once everything before it is taken.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(piece) = self.out.pop_front() {
                // A split can leave an empty buffer in front of a shared piece.
                if piece.is_empty() {
                    continue;
                }
                return Poll::Ready(Some(piece));
            }
            if self.last.is_some() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(status) = self.ended.as_mut().poll(context) {
                self.finish(status);
                continue;
            }
            if let Err(status) = self.take_requests(context) {
                self.finish(status);
                continue;
            }
            match self.stream.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(frames)) => self.encode(frames),
                Poll::Ready(Err(StreamEnd::Closed)) => self.finish(errors::STOPPED.into()),
                Poll::Ready(Err(StreamEnd::Source(reason))) => {
                    tracing::error!(reason, "old events cannot be read");
                    self.finish(Status::unknown(reason));
                }
            }
        }
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        match this.poll_piece(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(BodyFrame::data(piece)))),
            Poll::Ready(None) => {
                this.done = true;
                let status = this.last.take().unwrap_or_else(|| Status::new(Code::Ok, ""));
                Poll::Ready(Some(Ok(BodyFrame::trailers(trailers(&status)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

fn head(header: &ResponseHeader, id: hub::WatchId, revision: Revision) -> WatchResponse {
    WatchResponse { header: Some(ResponseHeader { revision, ..*header }), watch_id: id, ..Default::default() }
}

/// The hub keeps the range for as long as the watcher lives, so it gets copies.
fn watch_request(create: &WatchCreateRequest) -> hub::WatchRequest {
    hub::WatchRequest {
        id: create.watch_id,
        range: KeyRange { key: convert::owned(&create.key), end: convert::owned(&create.range_end) },
        start: create.start_revision,
        prev_kv: create.prev_kv,
        no_put: create.filters.contains(&0),
        no_delete: create.filters.contains(&1),
        progress_notify: create.progress_notify,
        fragment: create.fragment,
    }
}

const _: () = assert!(PREFIX_BYTES < SHARED_BYTES_MIN, "heads are always copied");
