//! Turns the changes of a command into rows, counts, the digest and events.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Group;
use super::change::{Change, Pending};
use crate::engine::{EngineBatch, Family, KvEngine};
use crate::layout::{LogRow, Row, hist_key, hist_value, latest_value, log_key, log_value};
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
        let before = Before::of(&pending);
        let mut events = Vec::with_capacity(pending.changes.len());
        for (sub, change) in pending.changes.into_iter().enumerate() {
            let sub = sub as u32;
            self.emit_rows(revision, sub, &change);
            self.emit_count(&change);
            self.emit_digest(sub, &change);
            let lease = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.lease);
            self.move_attachment(&change.key, lease(&change.old), lease(&change.new));
            events.push(event(revision, sub, change, &before));
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

/// The keys a revision changes more than once, as they were before it.
struct Before(HashMap<Bytes, Option<Row>>);

impl Before {
    fn of(pending: &Pending) -> Self {
        let changes = || pending.changes.iter();
        let again =
            |change: &&Change| change.old.as_ref().is_some_and(|old| old.modified == pending.revision);
        let mut keys: HashMap<Bytes, Option<Row>> =
            changes().filter(again).map(|change| (change.key.clone(), None)).collect();
        if !keys.is_empty() {
            for change in changes().rev() {
                // The last assignment is that of the first change.
                keys.entry(change.key.clone()).and_modify(|row| row.clone_from(&change.old));
            }
        }
        Before(keys)
    }
}

/// A watcher is shown the key as it was before the *revision*, as etcd reads it: a key put and deleted by one
/// transaction has the value from before the transaction in front of the deletion, not the value put. A put that
/// creates the key has none, also where the same revision deleted the key first.
fn event(revision: Revision, sub: u32, change: Change, before: &Before) -> Event {
    let Change { key, old, new } = change;
    let old = match old {
        _ if new.as_ref().is_some_and(|new| new.create == revision) => None,
        Some(old) if old.modified == revision => before.0[&key].clone(),
        old => old,
    };
    let prev = old.map(|old| old.to_key_value(key.clone()));
    let (kind, kv) = match new {
        Some(new) => (EventKind::Put, new.to_key_value(key)),
        None => (EventKind::Delete, KeyValue { key, mod_revision: revision, ..KeyValue::default() }),
    };
    Event { kind, kv, prev, sub }
}
