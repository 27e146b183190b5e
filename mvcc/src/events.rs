//! Events of the past, rebuilt from rows: what a watch that lags behind catches up with.
//!
//! Owns: reading `log` with the values from `latest` and `hist`. Called by: the watch hub's catch-up.
//! Invariants: whole revisions only; events *at* the compaction mark are there, deletions too; a previous value is
//! that before the event's revision, there exactly if that revision can still be read, whatever rows are left.
//! Bugs that taught this: etcd #18089 and #19179, deletions lost when the mark is the deletion's own revision.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family, KvEngine};
use crate::history::row_in_past;
use crate::layout::{
    Row, hist_key, log_key, parse_hist_key, parse_hist_value, parse_latest, parse_log_key, parse_log_value,
};
use crate::range::Arena;
use crate::types::{Event, EventKind, KeyValue, ReadError, Revision, RevisionEvents};
use crate::view::ReadView;

/// Bytes an event costs beside its key and values, for the soft limit.
const EVENT_OVERHEAD_BYTES: usize = 48;

impl<E: KvEngine> ReadView<E> {
    /// The events with revision in `(after, upto]`, oldest first, whole revisions only. `upto` beyond this view
    /// means up to this view.
    ///
    /// `bytes_soft`: ends after the revision that reaches it; at least one revision is given if there is one.
    ///
    /// # Errors
    /// `Compacted` if `after + 1` is below the mark: nothing is given, and the caller starts at the mark.
    /// # Cancel safety
    /// Reads only; calling again with the same arguments gives the same events, or `Compacted`, except that a
    /// previous value disappears when its revision is compacted.
    pub fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        let requested = after.saturating_add(1);
        let upto = upto.min(self.state.revision);
        if requested < self.state.mark {
            return Err(ReadError::Compacted { requested, mark: self.state.mark });
        }
        let found = self.read_events(requested, upto, bytes_soft);
        // Rows below the mark vanish under open views, and so may have made the reading fail.
        let mark = self.common.mark();
        if requested < mark {
            return Err(ReadError::Compacted { requested, mark });
        }
        Ok(found?)
    }

    fn read_events(
        &self,
        from: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, EngineError> {
        if from > upto {
            return Ok(Vec::new());
        }
        let end = log_key(upto + 1, 0);
        let mut log = self.snapshot.cursor(Family::Log, CursorOptions { upper: Some(&end), bulk: false });
        let mut rows = Rows { snapshot: &self.snapshot, arena: Arena::default(), scratch: Vec::new() };
        let (mut found, mut current, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut current_revision = 0;
        log.seek(&log_key(from, 0));
        while let Some((key, value)) = log.item() {
            let (revision, sub) = parse_log_key(key)?;
            if revision != current_revision {
                if bytes >= bytes_soft && !current.is_empty() {
                    break;
                }
                finish(current_revision, &mut current, &mut found);
                current_revision = revision;
            }
            let event = self.event(&mut rows, revision, sub, value)?;
            let value_len = event.prev.as_ref().map_or(0, |prev| prev.value.len()) + event.kv.value.len();
            bytes += EVENT_OVERHEAD_BYTES + event.kv.key.len() + value_len;
            current.push(event);
            log.next();
        }
        log.check()?;
        finish(current_revision, &mut current, &mut found);
        Ok(found)
    }

    fn event(
        &self,
        rows: &mut Rows<'_, E::Snapshot>,
        revision: Revision,
        sub: u32,
        value: &[u8],
    ) -> Result<Event, EngineError> {
        let row = parse_log_value(revision, value)?;
        let key = rows.arena.copy(row.key);
        let kv = match row.kind {
            EventKind::Delete => KeyValue { key, mod_revision: revision, ..KeyValue::default() },
            EventKind::Put => {
                let cached = self.common.cache.get(&key, self.state.revision).map(|(_, row)| row);
                let row = match cached.filter(|row| row.modified == revision && row.sub == sub) {
                    Some(row) => Some(row),
                    None => rows.version(&key, revision, sub)?,
                };
                row.ok_or_else(|| missing(&key, revision))?.to_key_value(key)
            }
        };
        let creates = row.kind == EventKind::Put && kv.create_revision == revision;
        let prev = match row.previous.filter(|_| !creates) {
            Some(place) => self.previous(rows, &kv.key, revision, place)?,
            None => None,
        };
        Ok(Event { kind: row.kind, kv, prev, sub })
    }

    /// The key before `revision`; `place` is that of the version the change replaced, which may be of the same
    /// revision. None at the mark or below, where it counts as gone on every member.
    fn previous(
        &self,
        rows: &mut Rows<'_, E::Snapshot>,
        key: &Bytes,
        revision: Revision,
        place: (Revision, u32),
    ) -> Result<Option<KeyValue>, EngineError> {
        if revision <= self.common.mark() {
            return Ok(None);
        }
        let (modified, sub) = place;
        let row = if modified == revision {
            row_in_past(&self.snapshot, key, revision - 1, |row| row.with_value(rows.arena.copy(row.value)))?
        } else {
            let row = rows.superseded(key, modified, sub)?;
            // A look before the mark was raised may find nothing after it was.
            if row.is_none() && revision > self.common.mark() {
                return Err(missing(key, modified));
            }
            row
        };
        Ok(row.map(|row| row.to_key_value(key.clone())))
    }
}

/// Adds a revision that is complete.
fn finish(revision: Revision, events: &mut Vec<Event>, found: &mut Vec<Arc<RevisionEvents>>) {
    if !events.is_empty() {
        found.push(Arc::new(RevisionEvents { revision, events: std::mem::take(events) }));
    }
}

fn missing(key: &Bytes, revision: Revision) -> EngineError {
    EngineError::new("read an event", format_args!("version {revision} of key {key:?} is missing"))
}

/// Looks versions up.
struct Rows<'a, S> {
    snapshot: &'a S,
    arena: Arena,
    scratch: Vec<u8>,
}

impl<S: EngineSnapshot> Rows<'_, S> {
    /// The version written at exactly this place.
    fn version(&mut self, key: &[u8], modified: Revision, sub: u32) -> Result<Option<Row>, EngineError> {
        let arena = &mut self.arena;
        let latest = self.snapshot.get(Family::Latest, key, |bytes| {
            let row = parse_latest(bytes)?;
            let same = row.modified == modified && row.sub == sub;
            Ok::<_, EngineError>(same.then(|| row.with_value(arena.copy(row.value))))
        })?;
        match latest.transpose()?.flatten() {
            Some(row) => Ok(Some(row)),
            None => self.superseded(key, modified, sub),
        }
    }

    /// The superseded version written at exactly this place.
    fn superseded(&mut self, key: &[u8], modified: Revision, sub: u32) -> Result<Option<Row>, EngineError> {
        self.scratch.clear();
        hist_key(key, modified, sub, &mut self.scratch);
        let (arena, scratch) = (&mut self.arena, &self.scratch);
        let found = self.snapshot.get(Family::Hist, scratch, |bytes| {
            let (row, _) = parse_hist_value(&parse_hist_key(scratch)?, bytes)?;
            Ok::<_, EngineError>(row.with_value(arena.copy(row.value)))
        })?;
        found.transpose()
    }
}
