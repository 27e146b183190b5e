//! The hash of the history, exactly as etcd computes it.
//!
//! Owns: the order and the choice of rows. Called by: `Maintenance.HashKV` and `Maintenance.Hash`.
//! Invariants: depends only on the replicated history, the mark and the asked revision, never on which dead rows are
//! physically left; memory is bounded whatever the size of the store.
//! Source: etcd 3.7 `server/storage/mvcc/hash.go` and `key_index.go` for behaviour: CRC-32C over the bucket name and
//! then key and value of every row up to the revision, in order of revision. Of rows at or below the mark only the
//! versions current at the asked revision count; where nothing is alive then, those current at the mark do (there
//! etcd skips nothing, and its own compaction has left just these). A deletion at the mark itself never counts.
//!
//! The rows lie sorted by key; the hash wants them by revision. One pass over the store finds out how many bytes
//! each stretch of revisions has, then each further pass collects one window of revisions that fits the budget.

use std::ops::{ControlFlow, RangeInclusive};

use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family, KvEngine};
use crate::file_rows::file_key;
use crate::history::{Bounds, log_rows_since};
use crate::kv_proto::encode_parts;
use crate::layout::{RowRef, hist_is_dead, is_local, parse_hist_key, parse_hist_value, parse_latest};
use crate::types::{EventKind, ReadError, Revision};
use crate::view::{Pin, ReadView};

/// Bytes of rows collected per pass.
const WINDOW_BYTES: u64 = 64 << 20;
/// What a collected row costs beside its bytes.
const ROW_OVERHEAD: usize = 96;
/// Resolution of the first look at where the bytes are.
const HISTOGRAM_BUCKETS: u64 = 4096;

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction mark it was computed with.
    pub compact_revision: Revision,
    /// The revision it covers.
    pub hash_revision: Revision,
}

/// Place of a row in the order of etcd: main and sub revision.
type Place = (Revision, u32);

impl<E: KvEngine> ReadView<E> {
    /// Hash of the history up to `revision`, 0 meaning this view's.
    ///
    /// # Errors
    /// A revision that is compacted or in the future, or the engine.
    pub fn hash_kv(&self, revision: Revision) -> Result<KvHash, ReadError> {
        self.hash_kv_bounded(revision, WINDOW_BYTES)
    }

    fn hash_kv_bounded(&self, requested: Revision, window_bytes: u64) -> Result<KvHash, ReadError> {
        let (mark, current) = (self.state.mark, self.state.revision);
        if requested > 0 && requested < mark {
            return Err(ReadError::Compacted { requested, mark });
        }
        if requested > current {
            return Err(ReadError::FutureRevision { requested, current });
        }
        let revision = if requested == 0 { current } else { requested };
        if revision < 0 {
            // No row is that old; etcd answers all the same.
            let hash = crc32c::crc32c(b"key");
            return Ok(KvHash { hash, compact_revision: mark, hash_revision: revision });
        }
        let _pin = self.pin(revision)?;
        let hash = self.history_hash(revision, window_bytes)?;
        Ok(KvHash { hash, compact_revision: mark, hash_revision: revision })
    }

    /// CRC-32C over every replicated row, dead ones left out, in order of family and key. Equal on members that
    /// applied the same; not comparable with etcd's, which hashes its own file's content.
    ///
    /// # Errors
    /// The engine.
    pub fn hash(&self) -> Result<u32, ReadError> {
        let _pin = self.pin(self.state.revision)?;
        let mut hash = 0;
        for family in Family::ALL {
            let mut cursor = self.snapshot.cursor(family, CursorOptions { upper: None, bulk: true });
            cursor.seek(&[]);
            while let Some((key, value)) = cursor.item() {
                if is_replicated(family, key, value, self.state.mark) {
                    hash = crc32c::crc32c_append(hash, key);
                    hash = crc32c::crc32c_append(hash, value);
                }
                cursor.next();
            }
            cursor.check()?;
        }
        Ok(hash)
    }

    /// Keeps every row this view counts. Fails on an old view whose rows may be gone already.
    pub(crate) fn pin(&self, requested: Revision) -> Result<Pin<E>, ReadError> {
        let pin = self.common.pin(self.state.mark);
        pin.ok_or_else(|| ReadError::Compacted { requested, mark: self.common.mark() })
    }

    fn history_hash(&self, revision: Revision, window_bytes: u64) -> Result<u32, EngineError> {
        let all = Bounds { lower: &[], upper: None };
        let anything_alive = self.source().count(all, revision)? > 0;
        let counted = |row: &RowRef<'_>, superseded_by: Revision| {
            row.modified > self.state.mark
                || if anything_alive { superseded_by > revision } else { superseded_by > self.state.mark }
        };
        let mut hash = crc32c::crc32c(b"key");
        let mut rows = Rows::default();
        for window in self.windows(revision, window_bytes)? {
            rows.clear();
            self.each_version(revision, |key, row, superseded_by| {
                if window.contains(&row.modified) && counted(&row, superseded_by) {
                    let numbers = [row.create, row.modified, row.version, row.lease];
                    rows.add((row.modified, row.sub), None, |out| encode_parts(key, row.value, numbers, out));
                }
                ControlFlow::Continue(())
            })?;
            // A deletion at or below the mark never counts, so the log from the mark on holds all that do.
            let after = (window.start() - 1).max(self.state.mark).max(0);
            log_rows_since(&self.snapshot, after, *window.end(), |main, sub, row| {
                if row.kind == EventKind::Delete {
                    rows.add((main, sub), Some(b't'), |out| encode_parts(row.key, &[], [0; 4], out));
                }
            })?;
            hash = rows.fold(hash);
        }
        Ok(hash)
    }

    /// Cuts the revisions up to `revision` into windows whose rows fit `window_bytes` each, as far as whole revisions
    /// can. Oldest first, without gaps.
    fn windows(
        &self,
        revision: Revision,
        window_bytes: u64,
    ) -> Result<Vec<RangeInclusive<Revision>>, EngineError> {
        let mut windows = Vec::new();
        let mut open = vec![0..=revision];
        while let Some(range) = open.pop() {
            let mut histogram = Histogram::new(range);
            self.each_version(revision, |key, row, _| {
                histogram.add(row.modified, key.len() + row.value.len());
                ControlFlow::Continue(())
            })?;
            log_rows_since(&self.snapshot, self.state.mark.max(0), revision, |main, _, row| {
                histogram.add(main, row.key.len());
            })?;
            // A bucket that alone exceeds the budget is cut again, in its turn: what follows it waits.
            let mut cut = histogram.cut(window_bytes);
            let oversize =
                cut.iter().position(|(range, bytes)| *bytes > window_bytes && range.start() < range.end());
            let rest = oversize.map_or(Vec::new(), |at| cut.split_off(at));
            windows.extend(cut.into_iter().map(|(range, _)| range));
            if let (Some((first, _)), Some((last, _))) = (rest.first(), rest.last()) {
                if first.end() < last.end() {
                    open.push(first.end() + 1..=*last.end());
                }
                open.push(first.clone());
            }
        }
        Ok(windows)
    }

    /// Every version written up to `revision` with the revision that superseded it, `MAX` for none; until `visit`
    /// breaks.
    pub(crate) fn each_version(
        &self,
        revision: Revision,
        mut visit: impl FnMut(&[u8], RowRef<'_>, Revision) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let options = CursorOptions { upper: None, bulk: true };
        let mut latest = self.snapshot.cursor(Family::Latest, options);
        latest.seek(&[]);
        while let Some((key, value)) = latest.item() {
            let row = parse_latest(value)?;
            if row.modified <= revision && visit(key, row, Revision::MAX).is_break() {
                return Ok(());
            }
            latest.next();
        }
        latest.check()?;
        let mut hist = self.snapshot.cursor(Family::Hist, options);
        hist.seek(&[]);
        while let Some((key, value)) = hist.item() {
            let parsed = parse_hist_key(key)?;
            if parsed.modified <= revision && !hist_is_dead(key, value, self.state.mark) {
                let (row, superseded_by) = parse_hist_value(&parsed, value)?;
                if visit(&parsed.key()?, row, superseded_by).is_break() {
                    return Ok(());
                }
            }
            hist.next();
        }
        hist.check()
    }
}

/// True for rows that belong to the replicated state at a mark, whatever else is physically there.
pub(crate) fn is_replicated(family: Family, key: &[u8], value: &[u8], mark: Revision) -> bool {
    match family {
        Family::Latest | Family::Lease => true,
        Family::Hist => !hist_is_dead(key, value, mark),
        Family::Log => key >= crate::layout::log_key(mark, 0).as_slice(),
        Family::Meta => !is_local(key),
    }
}

/// Bytes of rows by revision, coarsely.
struct Histogram {
    range: RangeInclusive<Revision>,
    /// Revisions per bucket.
    width: Revision,
    buckets: Vec<u64>,
}

impl Histogram {
    fn new(range: RangeInclusive<Revision>) -> Self {
        let len = (range.end() - range.start() + 1) as u64;
        let width = len.div_ceil(HISTOGRAM_BUCKETS);
        Histogram { width: width as Revision, buckets: vec![0; len.div_ceil(width) as usize], range }
    }

    fn add(&mut self, revision: Revision, bytes: usize) {
        if self.range.contains(&revision) {
            let bucket = (revision - self.range.start()) / self.width;
            self.buckets[bucket as usize] += (bytes + ROW_OVERHEAD) as u64;
        }
    }

    /// Neighbouring buckets together, as many as fit, with their bytes.
    fn cut(&self, bytes_max: u64) -> Vec<(RangeInclusive<Revision>, u64)> {
        let mut cut: Vec<(RangeInclusive<Revision>, u64)> = Vec::new();
        for (at, &bytes) in self.buckets.iter().enumerate() {
            let start = self.range.start() + at as Revision * self.width;
            let end = (start + self.width - 1).min(*self.range.end());
            match cut.last_mut() {
                Some((range, sum)) if *sum + bytes <= bytes_max => {
                    *range = *range.start()..=end;
                    *sum += bytes;
                }
                _ => cut.push((start..=end, bytes)),
            }
        }
        cut
    }
}

/// The rows of one window, in one buffer.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Place, start and end in the buffer.
    rows: Vec<(Place, usize, usize)>,
}

impl Rows {
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }

    /// Adds a row: etcd's key for it, with the mark of a deletion, and its value.
    fn add(&mut self, place: Place, mark: Option<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        file_key(place.0, place.1, &mut self.bytes);
        self.bytes.extend(mark);
        encode(&mut self.bytes);
        self.rows.push((place, start, self.bytes.len()));
    }

    fn fold(&mut self, mut hash: u32) -> u32 {
        self.rows.sort_unstable_by_key(|(place, ..)| *place);
        assert!(
            self.rows.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "two rows at one place of the history"
        );
        for (_, start, end) in &self.rows {
            hash = crc32c::crc32c_append(hash, &self.bytes[*start..*end]);
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::MemoryEngine;
    use crate::types::{Command, DeleteRange, KeyRange, LogPosition, Put};
    use crate::{ApplyEntry, Store, StoreOptions};

    #[test]
    fn the_size_of_the_window_does_not_show() {
        let mut store = Store::open(MemoryEngine::default(), StoreOptions::default()).unwrap();
        let put = |number: u64| {
            let (key, value) = (format!("k{}", number * 7 % 97), "v".repeat(number as usize % 50));
            Command::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
        };
        let range = KeyRange { key: "k1".into(), end: "k5".into() };
        let delete = Command::DeleteRange(DeleteRange { range, prev_kv: false });
        for index in 0..600 {
            let command = if index % 100 == 99 { delete.clone() } else { put(index) };
            let position = LogPosition { term: 1, leader: 1, index };
            store.apply(&[ApplyEntry::Commands { position, commands: vec![command] }]).unwrap();
        }
        for round in 0..2 {
            let view = store.view().clone();
            for revision in [0, 101, 500] {
                let whole = view.hash_kv_bounded(revision, u64::MAX).unwrap();
                for window_bytes in [1, 150, 1000, 20_000] {
                    assert_eq!(view.hash_kv_bounded(revision, window_bytes).unwrap(), whole);
                }
            }
            let position = LogPosition { term: 1, leader: 1, index: 600 + round };
            let commands = vec![Command::Compact { revision: 90 + 10 * round as i64 }];
            store.apply(&[ApplyEntry::Commands { position, commands }]).unwrap();
        }
        let nothing = store.view().hash_kv(-5).unwrap();
        assert_eq!((nothing.hash, nothing.hash_revision), (crc32c::crc32c(b"key"), -5));
    }

    #[test]
    fn windows_cover_every_revision_once_and_fit_where_they_can() {
        let mut histogram = Histogram::new(0..=9_999);
        for revision in 0..10_000 {
            histogram.add(revision, if revision == 5000 { 100_000 } else { 10 });
        }
        let cut = histogram.cut(20_000);
        let mut next = 0;
        for (range, bytes) in &cut {
            assert_eq!(*range.start(), next);
            assert!(*bytes <= 20_000 || range.contains(&5000));
            next = range.end() + 1;
        }
        assert_eq!(next, 10_000);
        assert!(cut.len() > 10);
    }
}
