//! A range given piece by piece, all pieces from one revision.
//!
//! Owns: the place reached. Called by: the API's streamed range. Invariants: the pieces together are what one range
//! request would have given, at the revision resolved when the stream was opened; a piece that was read while its
//! revision was compacted is not given. Source: etcd 3.7 `RangeStream` for behaviour.

use std::sync::Arc;

use bytes::Bytes;

use super::ReadView;
use crate::engine::KvEngine;
use crate::history::Bounds;
use crate::layout::RowRef;
use crate::range::{Arena, key_value, shown_fields};
use crate::types::{KeyValue, RangeOptions, ReadError, Revision};

/// See the module. Holds its view, and with it the rows as of then.
pub struct RangeStream<E: KvEngine> {
    view: Arc<ReadView<E>>,
    options: RangeOptions,
    upper: Option<Vec<u8>>,
    revision: Revision,
    /// Where the next piece starts; `None` after the last one.
    next: Option<Bytes>,
    /// Rows the request's limit still allows.
    left: usize,
    more: bool,
}

impl<E: KvEngine> ReadView<E> {
    /// Opens a stream. Sort order and filters are not for streams and are ignored; the API refuses them.
    ///
    /// # Errors
    /// A revision that is compacted or in the future.
    pub fn range_stream(self: &Arc<Self>, options: &RangeOptions) -> Result<RangeStream<E>, ReadError> {
        let revision = self.source().resolve(options.revision)?;
        Ok(RangeStream {
            view: self.clone(),
            upper: options.range.upper(),
            revision,
            next: Some(options.range.key.clone()).filter(|_| !options.count_only),
            left: usize::try_from(options.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX),
            options: options.clone(),
            more: false,
        })
    }
}

impl<E: KvEngine> RangeStream<E> {
    /// The store's revision when the stream was opened, for the header.
    pub fn store_revision(&self) -> Revision {
        self.view.revision()
    }

    /// The next piece of at most `rows_max` rows; `None` at the end. Never empty.
    ///
    /// # Errors
    /// `Compacted` if the revision was compacted meanwhile and is not the view's own; the engine.
    pub fn next(&mut self, rows_max: usize) -> Result<Option<Vec<KeyValue>>, ReadError> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let wanted = rows_max.max(1).min(self.left);
        let (mut arena, fields) = (Arena::default(), shown_fields(&self.options));
        let (mut kvs, mut beyond) = (Vec::new(), None);
        let bounds = Bounds { lower: &from, upper: self.upper.as_deref() };
        let expected = wanted.saturating_add(1) as u64;
        self.view.source().scan(bounds, self.revision, expected, &mut |key: &[u8], row: RowRef<'_>| {
            if kvs.len() == wanted {
                beyond = Some(Bytes::copy_from_slice(key));
                return false;
            }
            kvs.push(key_value(&mut arena, fields, key, row));
            true
        })?;
        self.view.check_past(self.revision, self.options.revision)?;
        self.left -= kvs.len();
        if self.left == 0 {
            self.more = beyond.is_some();
        } else {
            self.next = beyond;
        }
        Ok(Some(kvs).filter(|kvs| !kvs.is_empty()))
    }

    /// After the last piece: the limit cut the range off.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Keys of the whole range at the stream's revision, whatever the limit.
    ///
    /// # Errors
    /// As [`RangeStream::next`].
    pub fn count(&self) -> Result<u64, ReadError> {
        self.view.count(&self.options.range, self.revision)
    }
}
