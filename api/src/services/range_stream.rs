//! RangeStream: one range in several messages, all read at one revision.
//!
//! Owns: the size of the next message and the assembly of the last. Called by: the KV service. Invariants: every
//! chunk is read from the newest view at the pinned revision, so a compaction in between is noticed (rule 11); only
//! the last message has a header, a count and `more`; the next chunk is read when the connection asks for it.
//! Source: etcd 3.7 `server/etcdserver/v3_server.go` (`rangeStream`, `adjustChunkLimit`).

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, stream};
use keelson_mvcc::types::{KeyRange, RangeOptions, RangeReply, Revision};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use prost::Message;
use tonic::Status;

use crate::{
    backend::View,
    convert, errors,
    state::{AppState, Size},
};

/// Keys in the first message.
const FIRST_CHUNK_KEYS: usize = 10;

/// The stream handed to tonic.
pub(super) type RangeChunks = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

/// Answers a checked request.
///
/// `judged_at`: auth revision at which its caller was allowed to read the range, while authentication is on.
pub(super) fn chunks(state: AppState, request: RangeRequest, judged_at: Option<u64>) -> RangeChunks {
    let cursor = Cursor {
        range: KeyRange { key: convert::owned(&request.key), end: convert::owned(&request.range_end) },
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        left: usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX),
        chunk_keys: FIRST_CHUNK_KEYS,
        sent: 0,
        header: None,
        bytes_target: state.options.request_bytes_max,
    };
    Box::pin(stream::unfold(Some(cursor), move |cursor| {
        let state = state.clone();
        async move {
            let cursor = cursor?;
            let reader = state.clone();
            let header = state.header_now();
            let read = move || {
                let view = reader.view();
                // As etcd ends a stream whose caller may have lost the right meanwhile.
                if judged_at.is_some_and(|revision| revision != view.auth().revision()) {
                    return Err(errors::AUTH_OLD_REVISION.into());
                }
                cursor.next(&*view, header)
            };
            let read = state.read_blocking(Size::Short, read).await;
            Some(match read {
                Ok((response, rest)) => (Ok(response), rest),
                Err(status) => (Err(status), None),
            })
        }
    }))
}

/// Where the stream stands.
struct Cursor {
    range: KeyRange,
    /// 0 until the first chunk pins it.
    revision: Revision,
    keys_only: bool,
    count_only: bool,
    /// Keys still wanted.
    left: usize,
    chunk_keys: usize,
    sent: i64,
    header: Option<ResponseHeader>,
    bytes_target: usize,
}

impl Cursor {
    /// The next message, and what comes after it.
    fn next(
        mut self,
        view: &dyn View,
        header: ResponseHeader,
    ) -> Result<(RangeStreamResponse, Option<Cursor>), Status> {
        let header =
            *self.header.get_or_insert_with(|| ResponseHeader { revision: view.revision(), ..header });
        if self.count_only {
            let count = view.count(&self.range, self.revision).map_err(errors::from_read)?;
            return Ok((message(RangeResponse { header: Some(header), count, ..Default::default() }), None));
        }
        if self.revision == 0 {
            self.revision = header.revision;
        }
        let options = RangeOptions {
            range: self.range.clone(),
            limit: self.chunk_keys.min(self.left) as i64,
            revision: self.revision,
            keys_only: self.keys_only,
            ..Default::default()
        };
        let RangeReply { kvs, more, .. } = view.range(&options).map_err(errors::from_read)?;
        self.sent += kvs.len() as i64;
        self.left -= kvs.len().min(self.left);
        let next_key = kvs.last().map(|last| successor(&last.key));
        let kvs = kvs.into_iter().map(convert::key_value).collect();
        let mut response = RangeResponse { kvs, ..Default::default() };
        if let Some(next_key) = next_key.filter(|_| more) {
            self.range.key = next_key;
            if self.left > 0 {
                self.chunk_keys = next_chunk_keys(self.chunk_keys, response.encoded_len(), self.bytes_target);
                return Ok((message(response), Some(self)));
            }
            response.count = view.count(&self.range, self.revision).map_err(errors::from_read)?;
        }
        response.count += self.sent;
        response.more = more;
        response.header = Some(header);
        Ok((message(response), None))
    }
}

/// Doubles small chunks and halves large ones; in between nothing changes, so that sizes near the target stay put.
fn next_chunk_keys(keys: usize, bytes: usize, bytes_target: usize) -> usize {
    if bytes < bytes_target / 2 {
        keys.saturating_mul(2)
    } else if bytes > bytes_target * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// The smallest key after `key`.
fn successor(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

fn message(response: RangeResponse) -> RangeStreamResponse {
    RangeStreamResponse { range_response: Some(response) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_and_shrink_towards_the_target() {
        assert_eq!(next_chunk_keys(10, 49, 100), 20);
        assert_eq!(next_chunk_keys(10, 50, 100), 10);
        assert_eq!(next_chunk_keys(10, 200, 100), 10);
        assert_eq!(next_chunk_keys(10, 201, 100), 5);
        assert_eq!(next_chunk_keys(1, 201, 100), 1);
    }

    #[test]
    fn nothing_lies_between_a_key_and_its_successor() {
        assert_eq!(successor(&Bytes::from_static(b"a")).as_ref(), b"a\0");
    }
}
