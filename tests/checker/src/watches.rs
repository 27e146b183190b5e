//! Holds what each watcher received against the log.
//!
//! Owns: the validators of the watch guarantees.
//! Invariant checked: a watcher's events are exactly the log's events of its range from its start, whole revisions, in
//! order, and a progress notification never runs ahead of them.
//! Called by: [`crate::check`].

use std::collections::HashMap;

use crate::history::{Event, EventKind, History, KeyValue, Revision, WatchItem, WatchRecord};
use crate::model::State;
use crate::violation::{Violation, WatchPromise};
use crate::{VIOLATIONS_MAX, Verdict};

/// The log flattened to (revision, event), with the previous key-value of every event filled in from the replay.
struct Flat {
    events: Vec<(Revision, Event)>,
}

impl Flat {
    fn new(history: &History) -> Self {
        let mut state = State::new(&history.initial);
        let mut events = Vec::new();
        for record in &history.log {
            // The previous value is that of the revision before, also if one transaction changes a key twice.
            let mut first: HashMap<bytes::Bytes, Option<KeyValue>> = HashMap::new();
            for event in &record.events {
                let before = state.advance(event);
                let before = first.entry(event.kv.key.clone()).or_insert(before).clone();
                events.push((record.revision, Event { prev: before, ..event.clone() }));
            }
        }
        Self { events }
    }

    fn from(&self, revision: Revision) -> usize {
        self.events.partition_point(|(at, _)| *at < revision)
    }
}

pub(crate) fn check(history: &History, verdict: &mut Verdict) {
    if history.watches.is_empty() {
        return;
    }
    let flat = Flat::new(history);
    for (watcher, record) in history.watches.iter().enumerate() {
        if verdict.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        Watcher { flat: &flat, record, watcher, first: 0, at: 0, through: 0, created: false }.run(verdict);
    }
}

/// The walk of one watcher along the log.
struct Watcher<'a> {
    flat: &'a Flat,
    record: &'a WatchRecord,
    watcher: usize,
    /// Position in the flat log of the first event at or after the start.
    first: usize,
    /// Position in the flat log of the next event not yet considered.
    at: usize,
    /// Everything up to here has been delivered, as far as the items so far prove.
    through: Revision,
    created: bool,
}

impl<'a> Watcher<'a> {
    fn run(mut self, verdict: &mut Verdict) {
        for item in &self.record.items {
            if let Err(violation) = self.item(item, verdict) {
                verdict.report(violation);
                return;
            }
        }
        if self.record.complete_through > 0
            && let Some(missing) = self.next_wanted(self.record.complete_through)
        {
            verdict.report(self.broken(WatchPromise::Reliable, None, Some(missing)));
        }
    }

    fn item(&mut self, item: &WatchItem, verdict: &mut Verdict) -> Result<(), Violation> {
        if let WatchItem::Created { revision } = item {
            let start =
                if self.record.start_revision > 0 { self.record.start_revision } else { revision + 1 };
            self.created = true;
            self.first = self.flat.from(start);
            self.at = self.first;
            self.through = start - 1;
            return Ok(());
        }
        if !self.created {
            let got = match item {
                WatchItem::Events { events, .. } => events.first(),
                _ => None,
            };
            return Err(self.broken(WatchPromise::Filtered, got, None));
        }
        match item {
            WatchItem::Created { .. } => Ok(()),
            WatchItem::Events { revision, events, .. } => {
                verdict.summary.watch_events += events.len();
                self.events(*revision, events)
            }
            WatchItem::Progress { revision } => match self.next_wanted(*revision) {
                Some(missing) => Err(self.broken(WatchPromise::Bookmarkable, None, Some(missing))),
                None => {
                    self.through = self.through.max(*revision);
                    Ok(())
                }
            },
            WatchItem::Compacted { compact_revision } if *compact_revision <= self.through => {
                Err(self.broken(WatchPromise::Resumable, None, None))
            }
            WatchItem::Compacted { .. } => Ok(()),
        }
    }

    fn events(&mut self, header: Revision, events: &[Event]) -> Result<(), Violation> {
        for got in events {
            if !self.wanted(got) {
                return Err(self.broken(WatchPromise::Filtered, Some(got), None));
            }
            let Some(expected) = self.next_wanted(Revision::MAX) else {
                return Err(self.unexpected(got, None));
            };
            if expected.kv.mod_revision != got.kv.mod_revision || expected.kv.key != got.kv.key {
                return Err(self.unexpected(got, Some(expected)));
            }
            self.faithful(got, expected)?;
            self.at += 1;
            self.through = self.through.max(got.kv.mod_revision - 1);
        }
        let Some(last) = events.last() else { return Ok(()) };
        let last_revision = last.kv.mod_revision;
        if header < last_revision {
            return Err(self.broken(WatchPromise::Bookmarkable, Some(last), None));
        }
        // The rest of this revision must have been in the same response.
        match self.next_wanted(last_revision) {
            Some(missing) => Err(self.broken(WatchPromise::Atomic, Some(last), Some(missing))),
            None => {
                self.through = self.through.max(last_revision);
                Ok(())
            }
        }
    }

    fn faithful(&self, got: &Event, expected: &Event) -> Result<(), Violation> {
        // The previous value may be missing if it was compacted; it may never be another one.
        let prev_fits = match &got.prev {
            Some(prev) => self.record.prev_kv && Some(prev) == expected.prev.as_ref(),
            None => true,
        };
        if got.kind == expected.kind && got.kv == expected.kv && prev_fits {
            return Ok(());
        }
        Err(self.broken(WatchPromise::Faithful, Some(got), Some(expected)))
    }

    /// Names the promise that an event out of turn breaks.
    fn unexpected(&self, got: &Event, expected: Option<&Event>) -> Violation {
        let revision = got.kv.mod_revision;
        let promise = match expected {
            _ if revision <= self.through && self.delivered(got) => WatchPromise::Unique,
            Some(expected) if revision < expected.kv.mod_revision => WatchPromise::Ordered,
            Some(_) => WatchPromise::Reliable,
            None => WatchPromise::Unique,
        };
        self.broken(promise, Some(got), expected)
    }

    /// Whether this event lies in the part of the log that this watcher has already been given.
    fn delivered(&self, got: &Event) -> bool {
        let from = self.flat.from(got.kv.mod_revision).max(self.first);
        self.flat.events[from..self.at.max(from)]
            .iter()
            .any(|(revision, event)| *revision == got.kv.mod_revision && event.kv.key == got.kv.key)
    }

    fn wanted(&self, event: &Event) -> bool {
        let filtered = match event.kind {
            EventKind::Put => self.record.no_put,
            EventKind::Delete => self.record.no_delete,
        };
        !filtered && self.record.range.contains(&event.kv.key)
    }

    /// The next event of the log that this watcher wants, if it lies at or before `through`. Skips unwanted ones.
    fn next_wanted(&mut self, through: Revision) -> Option<&'a Event> {
        let flat: &'a Flat = self.flat;
        while let Some((revision, event)) = flat.events.get(self.at)
            && *revision <= through
        {
            if self.wanted(event) {
                return Some(event);
            }
            self.at += 1;
        }
        None
    }

    fn broken(&self, promise: WatchPromise, got: Option<&Event>, expected: Option<&Event>) -> Violation {
        Violation::Watch {
            promise,
            watcher: self.watcher,
            member: self.record.member,
            got: got.cloned().map(Box::new),
            expected: expected.cloned().map(Box::new),
        }
    }
}
