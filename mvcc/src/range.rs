//! Evaluates a range request: which rows, in which order, how many, and the count.
//!
//! Owns: the rules of filters, sorting, limits and counts. Called by: views, and transactions while applying.
//! Invariants: the count is that of the whole range at the revision, whatever limit and filters.
//! Source: etcd 3.7 `server/etcdserver/txn/range.go` for behaviour, its quirks included: a sort target without an
//! order sorts ascending, but only what the limit had already cut off; keys_only leaves the lease out too, except
//! where values had to be read for sorting.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};
use crate::history::{Bounds, Source};
use crate::layout::{RowRef, parse_latest};
use crate::types::{KeyValue, RangeOptions, RangeReply, Revision, SortOrder, SortTarget};

/// Rows are copied into shared buffers of at most this size, so a long list costs few allocations.
const ARENA_BYTES_MAX: usize = 64 << 10;
/// The first buffer; each next one is twice as large, so a short list does not hold a large buffer.
const ARENA_BYTES_MIN: usize = 1 << 10;
/// Remembered counts of following pages.
const PAGES_MAX: usize = 256;

/// Copies bytes into shared buffers.
#[derive(Default)]
pub(crate) struct Arena {
    buffer: BytesMut,
    next_bytes: usize,
}

impl Arena {
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > ARENA_BYTES_MAX / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.buffer.capacity() < bytes.len() {
            self.next_bytes = (self.next_bytes * 2).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX);
            self.buffer = BytesMut::with_capacity(self.next_bytes.max(bytes.len()));
        }
        self.buffer.extend_from_slice(bytes);
        self.buffer.split().freeze()
    }
}

/// Counts of the pages that follow pages already read.
///
/// A client that lists page by page asks for `[last key + 0, end)` at one revision; that count is the previous one
/// less the page, so no page but the first counts anything.
#[derive(Default)]
pub(crate) struct PageCounts {
    /// Oldest first.
    pages: Mutex<Vec<Page>>,
}

struct Page {
    revision: Revision,
    lower: Bytes,
    end: Bytes,
    count: u64,
}

impl PageCounts {
    fn get(&self, revision: Revision, options: &RangeOptions) -> Option<u64> {
        let pages = self.pages.lock();
        let same = |page: &&Page| {
            page.revision == revision && page.lower == options.range.key && page.end == options.range.end
        };
        pages.iter().rev().find(same).map(|page| page.count)
    }

    fn put(&self, revision: Revision, lower: Bytes, end: &Bytes, count: u64) {
        let mut pages = self.pages.lock();
        if pages.len() == PAGES_MAX {
            pages.drain(..PAGES_MAX / 2);
        }
        pages.push(Page { revision, lower, end: Bytes::copy_from_slice(end), count });
    }
}

/// True if rows come out of a scan in the order asked for.
fn is_key_order(options: &RangeOptions) -> bool {
    options.sort_order == SortOrder::None
        || (options.sort_target == SortTarget::Key && options.sort_order == SortOrder::Ascend)
}

fn has_filters(options: &RangeOptions) -> bool {
    [
        options.min_mod_revision,
        options.max_mod_revision,
        options.min_create_revision,
        options.max_create_revision,
    ]
    .iter()
    .any(|&bound| bound != 0)
}

fn passes(options: &RangeOptions, row: &RowRef<'_>) -> bool {
    (options.max_mod_revision == 0 || row.modified <= options.max_mod_revision)
        && (options.min_mod_revision == 0 || row.modified >= options.min_mod_revision)
        && (options.max_create_revision == 0 || row.create <= options.max_create_revision)
        && (options.min_create_revision == 0 || row.create >= options.min_create_revision)
}

/// Which fields of a row the reply carries.
#[derive(Clone, Copy)]
pub(crate) struct Fields {
    value: bool,
    lease: bool,
}

/// The fields a request reads.
fn fields(options: &RangeOptions) -> Fields {
    // Values sorted by are read, and dropped after sorting.
    let by_value = options.sort_target == SortTarget::Value;
    Fields { value: !options.keys_only || by_value, lease: !options.keys_only || by_value }
}

/// The fields a request without sorting shows.
pub(crate) fn shown_fields(options: &RangeOptions) -> Fields {
    Fields { value: !options.keys_only, lease: !options.keys_only }
}

pub(crate) fn key_value(arena: &mut Arena, fields: Fields, key: &[u8], row: RowRef<'_>) -> KeyValue {
    KeyValue {
        key: arena.copy(key),
        value: if fields.value { arena.copy(row.value) } else { Bytes::new() },
        create_revision: row.create,
        mod_revision: row.modified,
        version: row.version,
        lease: if fields.lease { row.lease } else { 0 },
    }
}

/// Evaluates `options` at `revision`, which [`Source::resolve`] gave for it.
pub(crate) fn evaluate<S: EngineSnapshot>(
    source: &Source<'_, S>,
    options: &RangeOptions,
    revision: Revision,
    pages: Option<&PageCounts>,
) -> Result<RangeReply, EngineError> {
    if options.range.is_single() {
        return evaluate_single(source, options, revision);
    }
    let upper = options.range.upper();
    let bounds = Bounds::of(&options.range, &upper);
    let known_count = pages.and_then(|pages| pages.get(revision, options));
    if options.count_only {
        let count = known_count.map_or_else(|| source.count(bounds, revision), Ok)?;
        return Ok(RangeReply { count: count as i64, ..RangeReply::default() });
    }
    let limit = usize::try_from(options.limit).ok().filter(|&limit| limit > 0);
    if let Some(limit) = limit
        && let Some(mut reply) = evaluate_from_the_end(source, options, bounds, revision, limit)?
    {
        reply.count = source.count(bounds, revision)? as i64;
        reply.more = reply.count > reply.kvs.len() as i64;
        return Ok(reply);
    }

    let filtered = has_filters(options);
    let in_order = is_key_order(options) && !filtered;
    // One row more than the limit tells whether there are more.
    let rows_max = limit.filter(|_| in_order).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let (mut arena, fields) = (Arena::default(), fields(options));
    let (mut kvs, mut scanned) = (Vec::new(), 0u64);
    source.scan(bounds, revision, rows_max as u64, &mut |key: &[u8], row: RowRef<'_>| {
        scanned += 1;
        if !filtered || passes(options, &row) {
            kvs.push(key_value(&mut arena, fields, key, row));
        }
        kvs.len() < rows_max
    })?;
    let count = match known_count {
        Some(count) => count,
        None if scanned < rows_max as u64 => scanned,
        None => count_beyond(source, bounds, revision, &kvs)?,
    };
    sort(&mut kvs, options);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    if let Some(limit) = limit {
        kvs.truncate(limit);
        if let (true, true, Some(pages), Some(last)) = (more, in_order_of_pages(options), pages, kvs.last()) {
            let next = [last.key.as_ref(), &[0]].concat();
            pages.put(revision, next.into(), &options.range.end, count - limit as u64);
        }
    }
    if options.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    Ok(RangeReply { kvs, more, count: count as i64 })
}

/// Only there is the last key-value of a page the place where the next page starts.
fn in_order_of_pages(options: &RangeOptions) -> bool {
    options.sort_target == SortTarget::Key
        && options.sort_order != SortOrder::Descend
        && !has_filters(options)
}

fn evaluate_single<S: EngineSnapshot>(
    source: &Source<'_, S>,
    options: &RangeOptions,
    revision: Revision,
) -> Result<RangeReply, EngineError> {
    let found = source.row_at(&options.range.key, revision, |row| {
        let kept = !options.count_only && passes(options, &row);
        kept.then(|| {
            // Values sorted by need not be read here: one row is always sorted.
            let value = if options.keys_only { Bytes::new() } else { Bytes::copy_from_slice(row.value) };
            let lease = if fields(options).lease { row.lease } else { 0 };
            RowRef { lease, ..row }.with_value(value).to_key_value(Bytes::copy_from_slice(&options.range.key))
        })
    })?;
    let count = i64::from(found.is_some());
    Ok(RangeReply { kvs: found.flatten().into_iter().collect(), more: false, count })
}

/// The last keys of a range, read backwards: what a client means by "descending, limit 1".
fn evaluate_from_the_end<S: EngineSnapshot>(
    source: &Source<'_, S>,
    options: &RangeOptions,
    bounds: Bounds<'_>,
    revision: Revision,
    limit: usize,
) -> Result<Option<RangeReply>, EngineError> {
    let descending = options.sort_target == SortTarget::Key && options.sort_order == SortOrder::Descend;
    let newest_only = revision == source.base && source.overlay.is_none();
    if !descending || !newest_only || has_filters(options) {
        return Ok(None);
    }
    let (mut arena, fields, mut kvs) = (Arena::default(), fields(options), Vec::new());
    let mut cursor =
        source.snapshot.cursor(Family::Latest, CursorOptions { upper: bounds.upper, bulk: false });
    cursor.seek_before(bounds.upper);
    while kvs.len() < limit {
        let Some((key, value)) = cursor.item().filter(|(key, _)| *key >= bounds.lower) else { break };
        kvs.push(key_value(&mut arena, fields, key, parse_latest(value)?));
        cursor.prev();
    }
    cursor.check()?;
    Ok(Some(RangeReply { kvs, more: false, count: 0 }))
}

/// The count of a range whose scan was cut off, from the rows already read and the index of the rest.
fn count_beyond<S: EngineSnapshot>(
    source: &Source<'_, S>,
    bounds: Bounds<'_>,
    revision: Revision,
    kvs: &[KeyValue],
) -> Result<u64, EngineError> {
    let last = kvs.last().map_or(bounds.lower, |kv| kv.key.as_ref());
    // Counting on from a boundary among the rows already read saves scanning up to that boundary again.
    match source.counts.boundary_within(bounds.lower, last) {
        Some(boundary) => {
            let before = kvs.partition_point(|kv| kv.key < boundary) as u64;
            Ok(before + source.count(Bounds { lower: &boundary, upper: bounds.upper }, revision)?)
        }
        None => source.count(bounds, revision),
    }
}

/// Ties keep the order of their keys; etcd leaves it open.
fn sort(kvs: &mut [KeyValue], options: &RangeOptions) {
    let order = match (options.sort_target, options.sort_order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => return,
        (_, SortOrder::None) => SortOrder::Ascend,
        (_, order) => order,
    };
    let descending = order == SortOrder::Descend;
    kvs.sort_by(|a, b| {
        let ordering = match options.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { ordering.reverse() } else { ordering }
    });
}
