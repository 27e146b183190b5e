//! Lists of the whole data set: in pages, in one answer, as a stream.
//!
//! Owns: the requests, and the check that the answers hold what was stored. Called by: `workload::run`.
//! Invariants: a page after the first is read at the revision of the first, from the key after the last one seen, and
//! its count is asked for, as kube-apiserver does it for `limit=500`.

use bytes::{Bytes, BytesMut};
use keelson_proto::etcdserverpb as pb;

use super::{Seat, path};
use crate::client::{CallError, Connection, Template, decode, frame};
use crate::data::Shape;
use crate::load::Client;

/// Reads page after page, and begins again after the last.
pub(super) struct Pages {
    connection: Connection,
    template: Template,
    shape: Shape,
    page_keys: u64,
    /// The first key not read yet, and the revision of the list.
    from: Bytes,
    revision: i64,
    read: u64,
}

impl Pages {
    pub(super) fn new(seat: Seat, shape: Shape, page_keys: u64) -> Self {
        let template = seat.connection.template(path::RANGE);
        Pages {
            connection: seat.connection,
            template,
            shape,
            page_keys,
            from: shape.prefix(),
            revision: 0,
            read: 0,
        }
    }
}

impl Client for Pages {
    async fn operate(&mut self) -> Result<(), CallError> {
        let request = pb::RangeRequest {
            key: self.from.clone(),
            range_end: self.shape.prefix_end(),
            limit: self.page_keys as i64,
            revision: self.revision,
            ..Default::default()
        };
        let answer = self.connection.call(&self.template, frame(&request)).await?;
        let page: pb::RangeResponse = decode(path::RANGE, answer)?;
        self.read += page.kvs.len() as u64;
        match page.kvs.last().filter(|_| page.more) {
            Some(last) => {
                let mut next = BytesMut::from(last.key.as_ref());
                next.extend_from_slice(&[0]);
                self.from = next.freeze();
                self.revision = page.header.map_or(0, |header| header.revision).max(self.revision);
            }
            None => {
                expect_keys(path::RANGE, self.read, self.shape.key_space)?;
                (self.from, self.revision, self.read) = (self.shape.prefix(), 0, 0);
            }
        }
        Ok(())
    }
}

/// Reads everything at once.
pub(super) struct Whole {
    connection: Connection,
    template: Template,
    request: Bytes,
    bytes_min: u64,
    path: &'static str,
}

impl Whole {
    pub(super) fn new(seat: Seat, shape: Shape, streamed: bool) -> Self {
        let path = if streamed { path::RANGE_STREAM } else { path::RANGE };
        let request =
            pb::RangeRequest { key: shape.prefix(), range_end: shape.prefix_end(), ..Default::default() };
        // Nothing is decoded: hundreds of megabytes would keep the one core of the client busy, not the server.
        let sample = (0..100).map(|number| shape.key(number).len() + shape.value(number, 0).len()).min();
        Whole {
            template: seat.connection.template(path),
            connection: seat.connection,
            request: frame(&request),
            bytes_min: shape.key_space * sample.unwrap_or(0) as u64 / 2,
            path,
        }
    }
}

impl Client for Whole {
    async fn operate(&mut self) -> Result<(), CallError> {
        let bytes = self.connection.call_and_drop(&self.template, self.request.clone()).await?;
        if bytes >= self.bytes_min {
            return Ok(());
        }
        let reason = format!("{bytes} bytes, where at least {} are stored", self.bytes_min);
        Err(CallError::Answer { path: self.path, reason })
    }
}

fn expect_keys(path: &'static str, read: u64, stored: u64) -> Result<(), CallError> {
    if read >= stored {
        return Ok(());
    }
    Err(CallError::Answer { path, reason: format!("{read} keys in all pages, where {stored} are stored") })
}
