//! Scans of a range in order of keys, at any revision.

use std::collections::BTreeSet;
use std::iter::Peekable;

use super::{Bounds, SEEK_COST, Source, changed_since, row_in_past};
use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};
use crate::layout::{RowRef, after_key, hist_key_prefix, parse_hist_key, parse_hist_value, parse_latest};
use crate::overlay::{Entry, Found};
use crate::types::Revision;

/// Takes the rows of a scan; false ends it.
pub(crate) trait Visit: FnMut(&[u8], RowRef<'_>) -> bool {}
impl<F: FnMut(&[u8], RowRef<'_>) -> bool> Visit for F {}

/// A scan of more rows leaves the cache of blocks as it is: its rows would push out those that are asked for often.
const BULK_ROWS: u64 = 2_000;
/// Versions of one key skipped one by one before a seek is tried instead.
const STEPS_BEFORE_SEEK: u32 = 4;

/// What a patch says of a key, instead of or beside the row in `latest`.
enum Patch<'a> {
    Overlay(&'a Entry),
    ChangedSince,
}

impl<S: EngineSnapshot> Source<'_, S> {
    /// Visits the keys in the bounds as they were at `revision`, in order, until `visit` says stop. `expected`: rows
    /// the caller wants at most; only the choice of the way depends on it.
    pub(crate) fn scan(
        &self,
        bounds: Bounds<'_>,
        revision: Revision,
        expected: u64,
        visit: &mut impl Visit,
    ) -> Result<(), EngineError> {
        if bounds.upper.is_some_and(|upper| upper <= bounds.lower) {
            return Ok(());
        }
        if revision >= self.base {
            let changed =
                self.overlay.into_iter().flat_map(|overlay| overlay.range(bounds.lower, bounds.upper));
            let patches = changed.map(|(key, entry)| (key.as_ref(), Patch::Overlay(entry)));
            let bulk = expected > BULK_ROWS
                && self.counts.plan(bounds.lower, bounds.upper).known.min(expected) > BULK_ROWS;
            return self.scan_patched(bounds, revision, patches.peekable(), bulk, visit);
        }
        let keys = self.counts.plan(bounds.lower, bounds.upper).known.min(expected);
        if !self.patching_is_cheaper(keys, revision, SEEK_COST / 4) {
            return self.scan_side_by_side(bounds, revision, visit);
        }
        let mut changed = BTreeSet::new();
        changed_since(self.snapshot, revision, self.base, |row| {
            if bounds.contains(row.key) && !changed.contains(row.key) {
                changed.insert(row.key.to_vec());
            }
        })?;
        let patches = changed.iter().map(|key| (key.as_slice(), Patch::ChangedSince));
        self.scan_patched(bounds, revision, patches.peekable(), keys > BULK_ROWS, visit)
    }

    /// `latest`, where a patched key's row comes from the patch.
    fn scan_patched<'p>(
        &self,
        bounds: Bounds<'_>,
        revision: Revision,
        mut patches: Peekable<impl Iterator<Item = (&'p [u8], Patch<'p>)>>,
        bulk: bool,
        visit: &mut impl Visit,
    ) -> Result<(), EngineError> {
        let options = CursorOptions { upper: bounds.upper, bulk };
        let mut cursor = self.snapshot.cursor(Family::Latest, options);
        cursor.seek(bounds.lower);
        loop {
            let item = cursor.item();
            let patched = match (&item, patches.peek()) {
                (Some((key, _)), Some((patched, _))) => *patched <= *key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => return cursor.check(),
            };
            if !patched {
                let (key, value) = item.expect("no patch, so there is a row");
                if !visit_latest(key, value, revision, visit)? {
                    return Ok(());
                }
                cursor.next();
                continue;
            }
            let (key, patch) = patches.next().expect("peeked above");
            let both = item.filter(|(found, _)| *found == key);
            let has_row = both.is_some();
            let go_on = match patch {
                Patch::Overlay(entry) => match (entry.at(revision), both) {
                    (Found::Row(Some(row)), _) => visit(key, row.borrow()),
                    (Found::Base, Some((key, value))) => visit_latest(key, value, revision, visit)?,
                    (Found::Row(None), _) | (Found::Base, None) => true,
                },
                Patch::ChangedSince => {
                    row_in_past(self.snapshot, key, revision, |row| visit(key, row))?.unwrap_or(true)
                }
            };
            if !go_on {
                return Ok(());
            }
            if has_row {
                cursor.next();
            }
        }
    }

    /// `latest` and `hist` together: a key that lived at the revision is alive in exactly one of them.
    fn scan_side_by_side(
        &self,
        bounds: Bounds<'_>,
        revision: Revision,
        visit: &mut impl Visit,
    ) -> Result<(), EngineError> {
        let options = CursorOptions { upper: bounds.upper, bulk: false };
        let mut latest = self.snapshot.cursor(Family::Latest, options);
        latest.seek(bounds.lower);
        let mut past = PastCursor::new(self.snapshot, bounds, revision)?;
        loop {
            let from_past = match (latest.item(), past.key()) {
                (Some((key, _)), Some(past)) => past <= key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => return latest.check(),
            };
            let go_on = if from_past {
                let go_on = past.visit(visit)?;
                past.advance()?;
                go_on
            } else {
                let (key, value) = latest.item().expect("the past was not chosen, so there is a row");
                let go_on = visit_latest(key, value, revision, visit)?;
                latest.next();
                go_on
            };
            if !go_on {
                return Ok(());
            }
        }
    }
}

/// Visits a row of `latest` unless it is newer than the revision.
fn visit_latest(
    key: &[u8],
    value: &[u8],
    revision: Revision,
    visit: &mut impl Visit,
) -> Result<bool, EngineError> {
    let row = parse_latest(value)?;
    Ok(row.modified > revision || visit(key, row))
}

/// Walks the keys of `hist`, stopping at those alive at one revision.
struct PastCursor<C> {
    cursor: C,
    revision: Revision,
    /// The key the cursor stands at, if it stands at a version alive at the revision.
    key: Option<Vec<u8>>,
    scratch: Vec<u8>,
}

impl<C: EngineCursor> PastCursor<C> {
    fn new<'s, S: EngineSnapshot<Cursor<'s> = C>>(
        snapshot: &'s S,
        bounds: Bounds<'_>,
        revision: Revision,
    ) -> Result<Self, EngineError> {
        let mut lower = Vec::new();
        hist_key_prefix(bounds.lower, &mut lower);
        let upper = bounds.upper.map(|key| {
            let mut upper = Vec::new();
            hist_key_prefix(key, &mut upper);
            upper
        });
        let mut cursor =
            snapshot.cursor(Family::Hist, CursorOptions { upper: upper.as_deref(), bulk: false });
        cursor.seek(&lower);
        let mut past = PastCursor { cursor, revision, key: None, scratch: Vec::new() };
        past.settle()?;
        Ok(past)
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn visit(&self, visit: &mut impl Visit) -> Result<bool, EngineError> {
        let (key, value) = self.cursor.item().expect("called where key() gives one");
        let (row, _) = parse_hist_value(&parse_hist_key(key)?, value)?;
        Ok(visit(self.key().expect("called where key() gives one"), row))
    }

    /// On to the next key alive at the revision.
    fn advance(&mut self) -> Result<(), EngineError> {
        self.skip_key()?;
        self.settle()
    }

    /// From any version on to the next one alive at the revision.
    fn settle(&mut self) -> Result<(), EngineError> {
        self.key = None;
        let mut steps = 0;
        loop {
            let Some((found, value)) = self.cursor.item() else { return self.cursor.check() };
            let parsed = parse_hist_key(found)?;
            if parsed.modified > self.revision {
                // Newer than the revision: older versions of the same key follow.
                steps += 1;
                if steps <= STEPS_BEFORE_SEEK {
                    self.cursor.next();
                } else {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(parsed.prefix);
                    self.scratch.extend_from_slice(&(!(self.revision as u64)).to_be_bytes());
                    self.cursor.seek(&self.scratch);
                    steps = 0;
                }
                continue;
            }
            let (_, superseded_by) = parse_hist_value(&parsed, value)?;
            if superseded_by > self.revision {
                self.key = Some(parsed.key()?);
                return Ok(());
            }
            self.skip_key()?;
            steps = 0;
        }
    }

    /// From a version to the first one of the next key.
    fn skip_key(&mut self) -> Result<(), EngineError> {
        let Some((found, _)) = self.cursor.item() else { return self.cursor.check() };
        let prefix_len = parse_hist_key(found)?.prefix.len();
        self.scratch.clear();
        self.scratch.extend_from_slice(&found[..prefix_len]);
        for _ in 0..STEPS_BEFORE_SEEK {
            self.cursor.next();
            match self.cursor.item() {
                Some((found, _)) if found.starts_with(&self.scratch) => {}
                _ => return self.cursor.check(),
            }
        }
        let mut next = Vec::with_capacity(prefix_len);
        after_key(&self.scratch, &mut next);
        self.cursor.seek(&next);
        self.cursor.check()
    }
}
