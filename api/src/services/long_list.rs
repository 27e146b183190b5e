//! A list of any length in bounded memory.
//!
//! The length of a gRPC message stands in front of it, so the answer to a Range is known to its last byte before the
//! first one is sent. A list that fills more than one piece is therefore walked twice over the same view: once to
//! measure it, once to encode it piece by piece as the connection takes it. Walking costs less than holding: a list of
//! 375 MB used to need 739 MB, most of whose time went into fresh pages.
//!
//! Owns: [`measure`] and [`LongList`]. Called by: `range`, for plain lists at the newest revision. Invariants: one piece
//! is encoded at a time, on the blocking pool; both walks see the same rows, because a view is immutable at its own
//! revision; exactly the announced number of bytes is sent, or the call fails.
//! Source: gRPC over HTTP/2; `api/etcdserverpb/rpc.proto` (field numbers of `RangeResponse`).

use std::convert::Infallible;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use keelson_mvcc::{KeyValueRef, types::KeyRange};
use keelson_proto::etcdserverpb::{RangeResponse, ResponseHeader};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::Status;

use super::one_message::{PREFIX_BYTES, ok_trailers, put_prefix, trailers};
use crate::backend::View;
use crate::errors;
use crate::state::{AppState, Size};

/// A piece ends with the row that reaches this size. Smaller ones cost a change of threads more often.
const PIECE_BYTES: usize = 1 << 20;
/// Tag of `RangeResponse.kvs`.
const KVS: u8 = 2 << 3 | 2;

/// A list, measured.
pub(super) enum Measured {
    /// The whole message with its prefix: it fits into one piece.
    Short(Bytes),
    /// A first piece, and the rest.
    Long(LongList),
}

/// Measures the plain list of `range`, encoding its first piece on the way. `limit`: 0 for none.
///
/// # Errors
/// The engine; a message larger than gRPC can carry.
pub(super) fn measure(
    state: &AppState,
    view: Arc<dyn View>,
    range: KeyRange,
    keys_only: bool,
    limit: usize,
    header: ResponseHeader,
) -> Result<Measured, Status> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut walk = Walk { limit, ..Walk::default() };
    view.visit(&range, keys_only, &mut |row| walk.row(row)).map_err(errors::from_read)?;
    let more = walk.more;
    let count = if more {
        view.count(&range, 0).map_err(errors::from_read)?
    } else {
        i64::try_from(walk.rows).expect("rows fit into memory addresses")
    };
    let head = RangeResponse { header: Some(header), ..Default::default() }.encode_to_vec();
    let tail = RangeResponse { more, count, ..Default::default() }.encode_to_vec();
    let message_bytes = head.len() + walk.bytes + tail.len();
    let mut first = Vec::with_capacity(PREFIX_BYTES + head.len() + walk.piece.len() + tail.len());
    put_prefix(message_bytes, &mut first)?;
    first.extend_from_slice(&head);
    first.extend_from_slice(&walk.piece);
    let Some(next) = walk.next else {
        first.extend_from_slice(&tail);
        return Ok(Measured::Short(first.into()));
    };
    let left_bytes = walk.bytes - walk.piece.len();
    let rest = Rest {
        view,
        range: KeyRange { key: next.into(), end: range.end },
        keys_only,
        left_bytes,
        tail: tail.into(),
    };
    Ok(Measured::Long(LongList { state: state.clone(), step: Step::First(first.into(), rest) }))
}

/// The first walk.
#[derive(Default)]
struct Walk {
    limit: usize,
    rows: usize,
    /// Of all rows.
    bytes: usize,
    /// The first ones, encoded.
    piece: Vec<u8>,
    /// Key of the first row behind the piece.
    next: Option<Vec<u8>>,
    more: bool,
}

impl Walk {
    fn row(&mut self, row: KeyValueRef<'_>) -> ControlFlow<()> {
        if self.rows == self.limit {
            self.more = true;
            return ControlFlow::Break(());
        }
        self.rows += 1;
        let bytes = row.encoded_len();
        self.bytes += 1 + encoded_len_varint(bytes as u64) + bytes;
        if self.next.is_none() {
            if self.piece.len() < PIECE_BYTES {
                put_row(row, bytes, &mut self.piece);
            } else {
                self.next = Some(row.key.to_vec());
            }
        }
        ControlFlow::Continue(())
    }
}

fn put_row(row: KeyValueRef<'_>, bytes: usize, out: &mut Vec<u8>) {
    out.push(KVS);
    encode_varint(bytes as u64, out);
    row.encode(out);
}

/// What the second walk has still to do.
struct Rest {
    view: Arc<dyn View>,
    range: KeyRange,
    keys_only: bool,
    /// Rows of so many bytes were announced and are not encoded yet.
    left_bytes: usize,
    /// The fields behind the rows.
    tail: Bytes,
}

impl Rest {
    /// The next piece, and what comes after it.
    fn piece(mut self) -> Result<(Bytes, Option<Rest>), Status> {
        let mut piece = Vec::with_capacity(PIECE_BYTES.min(self.left_bytes) + self.tail.len());
        let (mut left, mut next) = (self.left_bytes, None);
        let visit = &mut |row: KeyValueRef<'_>| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            if piece.len() >= PIECE_BYTES {
                next = Some(row.key.to_vec());
                return ControlFlow::Break(());
            }
            let before = piece.len();
            put_row(row, row.encoded_len(), &mut piece);
            left -= piece.len() - before;
            ControlFlow::Continue(())
        };
        self.view.visit(&self.range, self.keys_only, visit).map_err(errors::from_read)?;
        self.left_bytes = left;
        let Some(next) = next else {
            assert_eq!(left, 0, "a view is the same at the second look");
            piece.extend_from_slice(&self.tail);
            return Ok((piece.into(), None));
        };
        self.range.key = next.into();
        Ok((piece.into(), Some(self)))
    }
}

/// The body of a long answer.
pub(super) struct LongList {
    state: AppState,
    step: Step,
}

/// A piece being encoded.
type Encoding = Pin<Box<dyn Future<Output = Result<(Bytes, Option<Rest>), Status>> + Send>>;

enum Step {
    First(Bytes, Rest),
    Idle(Rest),
    Encoding(Encoding),
    Trailers(HeaderMap),
    Done,
}

impl http_body::Body for LongList {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Done) {
                Step::First(piece, rest) => {
                    self.step = Step::Idle(rest);
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Step::Idle(rest) => {
                    let state = self.state.clone();
                    self.step = Step::Encoding(Box::pin(async move {
                        state.read_blocking(Size::Long, move || rest.piece()).await
                    }));
                }
                Step::Encoding(mut work) => {
                    let Poll::Ready(done) = work.as_mut().poll(context) else {
                        self.step = Step::Encoding(work);
                        return Poll::Pending;
                    };
                    match done {
                        Ok((piece, rest)) => {
                            self.step = rest.map_or_else(|| Step::Trailers(ok_trailers()), Step::Idle);
                            return Poll::Ready(Some(Ok(Frame::data(piece))));
                        }
                        Err(status) => self.step = Step::Trailers(trailers(&status)),
                    }
                }
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Step::Done => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.step, Step::Done)
    }
}
