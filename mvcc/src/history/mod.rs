//! Reading the keys of a range as they were at a revision.
//!
//! Owns: the choice of how to find them. Called by: ranges, transactions, views. Invariants: whether a superseded row
//! is still physically there never decides an answer, as long as the revision is not below the mark; callers that
//! read the past check the mark again afterwards.
//!
//! At the base revision (that of the engine snapshot) a range is a scan of `latest`. Before it, keys deleted since
//! are found only in `hist`, and there are two ways, chosen by cost: walk `latest` and `hist` side by side, or scan
//! `latest` and patch it with the keys that `log` shows changed since. After it, inside a group being applied, the
//! scan of `latest` is patched with the overlay.

mod past;
mod scan;

use crate::count_index::{CountIndex, CountPlan};
use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};
use crate::layout::{RowRef, parse_latest};
use crate::overlay::{Found, Overlay};
use crate::row_cache::RowCache;
use crate::types::{EventKind, KeyRange, ReadError, Revision};

pub(crate) use past::{changed_since, log_rows_since, row_in_past};

/// Looking a key up in `hist` costs about as much as reading this many rows of a scan.
const SEEK_COST: u64 = 8;

/// A consistent state to read from.
pub(crate) struct Source<'a, S> {
    pub(crate) snapshot: &'a S,
    pub(crate) cache: &'a RowCache,
    /// Counts of exactly the snapshot's keys.
    pub(crate) counts: &'a CountIndex,
    /// Revision of the snapshot.
    pub(crate) base: Revision,
    /// Changes since the snapshot, up to `revision`.
    pub(crate) overlay: Option<&'a Overlay>,
    /// The newest revision that can be read.
    pub(crate) revision: Revision,
    pub(crate) mark: Revision,
}

/// Half-open bounds of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) lower: &'a [u8],
    pub(crate) upper: Option<&'a [u8]>,
}

impl<'a> Bounds<'a> {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        key >= self.lower && self.upper.is_none_or(|upper| key < upper)
    }

    /// The bounds of a range, given its [`KeyRange::upper`].
    pub(crate) fn of(range: &'a KeyRange, upper: &'a Option<Vec<u8>>) -> Self {
        Bounds { lower: &range.key, upper: upper.as_deref() }
    }
}

impl<S: EngineSnapshot> Source<'_, S> {
    /// The revision a request names, 0 or less meaning the newest, if it can be read.
    pub(crate) fn resolve(&self, requested: Revision) -> Result<Revision, ReadError> {
        if requested > self.revision {
            return Err(ReadError::FutureRevision { requested, current: self.revision });
        }
        let revision = if requested <= 0 { self.revision } else { requested };
        if revision < self.mark {
            return Err(ReadError::Compacted { requested, mark: self.mark });
        }
        Ok(revision)
    }

    /// Hands the row of `key` at `revision` to `read`, if the key existed then.
    pub(crate) fn row_at<T>(
        &self,
        key: &[u8],
        revision: Revision,
        read: impl FnOnce(RowRef<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        if let Some(entry) = self.overlay.and_then(|overlay| overlay.get(key))
            && let Found::Row(row) = entry.at(revision)
        {
            return Ok(row.map(|row| read(row.borrow())));
        }
        if let Some((_, row)) = self.cache.get(key, revision.min(self.base)) {
            return Ok(Some(read(row.borrow())));
        }
        let mut read = Some(read);
        let found = self.snapshot.get(Family::Latest, key, |bytes| {
            let row = parse_latest(bytes)?;
            let read = if row.modified <= revision { read.take() } else { None };
            Ok::<_, EngineError>(read.map(|read| read(row)))
        })?;
        if let Some(found) = found.transpose()?.flatten() {
            return Ok(Some(found));
        }
        match read {
            Some(read) if revision < self.base => row_in_past(self.snapshot, key, revision, read),
            _ => Ok(None),
        }
    }

    /// How many keys the bounds hold at `revision`.
    pub(crate) fn count(&self, bounds: Bounds<'_>, revision: Revision) -> Result<u64, EngineError> {
        if bounds.upper.is_some_and(|upper| upper <= bounds.lower) {
            return Ok(0);
        }
        let plan = self.counts.plan(bounds.lower, bounds.upper);
        if revision < self.base && !self.patching_is_cheaper(plan.known, revision, 1) {
            let mut count = 0;
            self.scan(bounds, revision, u64::MAX, &mut |_: &[u8], _: RowRef<'_>| {
                count += 1;
                true
            })?;
            return Ok(count);
        }
        let at_base = self.count_base(plan)? as i64;
        let change = match self.overlay {
            Some(overlay) if revision > self.base => overlay.growth(bounds.lower, bounds.upper, revision),
            _ if revision < self.base => -self.growth_since(bounds, revision)?,
            _ => 0,
        };
        let count = at_base + change;
        assert!(count >= 0, "a range cannot hold {count} keys");
        Ok(count as u64)
    }

    /// True if patching a scan with what `log` holds since `revision` costs less than visiting `keys` keys' history.
    /// `per_change`: cost of one changed key, in rows.
    fn patching_is_cheaper(&self, keys: u64, revision: Revision, per_change: u64) -> bool {
        let changes = (self.base - revision) as u64;
        // The constant: below it both are too cheap to tell.
        changes.saturating_mul(per_change) <= 64 + keys.saturating_mul(SEEK_COST) / 2
    }

    fn count_base(&self, plan: CountPlan) -> Result<u64, EngineError> {
        let mut count = plan.known;
        for (lower, upper) in plan.scan {
            let options = CursorOptions { upper: upper.as_deref(), bulk: false };
            let mut cursor = self.snapshot.cursor(Family::Latest, options);
            cursor.seek(&lower);
            while cursor.item().is_some() {
                count += 1;
                cursor.next();
            }
            cursor.check()?;
        }
        Ok(count)
    }

    /// Keys created minus keys deleted within the bounds after `revision`, up to the base.
    fn growth_since(&self, bounds: Bounds<'_>, revision: Revision) -> Result<i64, EngineError> {
        let mut growth = 0;
        changed_since(self.snapshot, revision, self.base, |row| {
            if bounds.contains(row.key) {
                growth += match row.kind {
                    EventKind::Put => i64::from(row.previous.is_none()),
                    EventKind::Delete => -1,
                };
            }
        })?;
        Ok(growth)
    }
}
