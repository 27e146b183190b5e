//! Turns the changes of a command into rows, counts, the digest and events.

use std::sync::Arc;

use super::Group;
use super::change::{Change, Pending};
use crate::engine::{EngineBatch, Family, KvEngine};
use crate::layout::{LogRow, hist_key, hist_value, latest_value, log_key, log_value};
use crate::types::{Event, EventKind, KeyValue, Revision, RevisionEvents};

/// Buffers reused for every row.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl<E: KvEngine> Group<'_, E> {
    /// The command succeeded: its changes become the next revision. Without changes there is none.
    pub(super) fn commit(&mut self, pending: Pending) {
        if pending.is_empty() {
            return;
        }
        let revision = pending.revision;
        assert_eq!(revision, self.state.revision + 1, "revisions follow each other");
        self.state.revision = revision;
        let mut events = Vec::with_capacity(pending.changes.len());
        for (sub, change) in pending.changes.into_iter().enumerate() {
            let sub = sub as u32;
            self.emit_rows(revision, sub, &change);
            self.emit_count(&change);
            self.emit_digest(sub, &change);
            let lease = |row: &Option<crate::layout::Row>| row.as_ref().map_or(0, |row| row.lease);
            self.move_attachment(&change.key, lease(&change.old), lease(&change.new));
            events.push(event(revision, sub, change));
        }
        self.events.push(Arc::new(RevisionEvents { revision, events }));
    }

    fn emit_rows(&mut self, revision: Revision, sub: u32, change: &Change) {
        let Scratch { key, value } = &mut self.scratch;
        value.clear();
        match &change.new {
            Some(new) => {
                debug_assert_eq!((new.modified, new.sub), (revision, sub));
                latest_value(new, value);
                self.batch.put(Family::Latest, &change.key, value);
            }
            None => self.batch.delete(Family::Latest, &change.key),
        }
        if let Some(old) = &change.old {
            key.clear();
            value.clear();
            hist_key(&change.key, old.modified, old.sub, key);
            hist_value(old, revision, value);
            self.batch.put(Family::Hist, key, value);
        }
        value.clear();
        let row = LogRow {
            kind: if change.new.is_some() { EventKind::Put } else { EventKind::Delete },
            previous: change.old.as_ref().map(|old| (old.modified, old.sub)),
            key: &change.key,
        };
        log_value(&row, revision, value);
        self.batch.put(Family::Log, &log_key(revision, sub), value);
    }

    fn emit_count(&mut self, change: &Change) {
        match (&change.old, &change.new) {
            (None, Some(_)) => self.counts.created(&change.key, &mut self.oversize),
            (Some(_), None) => self.counts.deleted(&change.key),
            (Some(_), Some(_)) => {}
            (None, None) => unreachable!("a change has a before or an after"),
        }
    }

    fn emit_digest(&mut self, sub: u32, change: &Change) {
        let digest = &mut self.state.digest;
        digest.number(u64::from(sub) << 1 | u64::from(change.new.is_some()));
        digest.bytes(&change.key);
        if let Some(new) = &change.new {
            digest.bytes(&new.value);
            digest.signed(new.create);
            digest.signed(new.version);
            digest.signed(new.lease);
        }
        // What the change replaced is state, not input: folding it in makes members that differ there part here.
        if let Some(old) = &change.old {
            digest.signed(old.modified);
            digest.bytes(&old.value);
        }
    }
}

fn event(revision: Revision, sub: u32, change: Change) -> Event {
    let Change { key, old, new } = change;
    let prev = old.map(|old| old.to_key_value(key.clone()));
    let (kind, kv) = match new {
        Some(new) => (EventKind::Put, new.to_key_value(key)),
        None => (EventKind::Delete, KeyValue { key, mod_revision: revision, ..KeyValue::default() }),
    };
    Event { kind, kv, prev, sub }
}
