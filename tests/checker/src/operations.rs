//! Places every operation at a revision and compares its answer with the replay there.
//!
//! Owns: the replay of the log; the attribution of revisions to acknowledged and unknown operations.
//! Invariant: each revision of the log is explained by exactly one operation or by the end of one lease.
//! Called by: [`crate::check`]; the placement is the input of the real-time check.

use std::collections::HashMap;

use bytes::Bytes;

use crate::history::{Event, EventKind, History, Operation, Outcome, Record, Revision, RevisionRecord};
use crate::model::State;
use crate::real_time::Floor;
use crate::violation::Violation;
use crate::{Summary, Verdict};

/// Where an operation took effect, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It made this revision.
    Wrote(Revision),
    /// It ran somewhere at this revision without changing anything.
    Saw(Revision),
    /// Without effect, or of unknown effect.
    Nowhere,
}

/// Work that waits for the replay to reach a revision.
#[derive(Default)]
struct Agenda {
    /// Acknowledged writes, by their revision.
    writers: HashMap<Revision, Vec<usize>>,
    /// Reads and writes without effect: evaluate at this revision (history reads at theirs), placed at the header's.
    readers: HashMap<Revision, Vec<usize>>,
}

/// Replays the log; the result has one place per record.
pub(crate) fn check(history: &History, floors: &[Floor], verdict: &mut Verdict) -> Vec<Place> {
    let mut places = vec![Place::Nowhere; history.records.len()];
    let last = history.log.last().map_or(history.initial_revision, |record| record.revision);
    let agenda = plan(history, last, &mut places, verdict);
    let mut values = Values::new(&history.records);
    let deleters = unknown_deleters(&history.records);
    let mut search = Search { history, floors, deleters, places };
    let mut state = State::new(&history.initial);
    read_at(history, &state, history.initial_revision, &agenda, verdict);
    let mut before = history.initial_revision;
    for record in &history.log {
        if record.revision != before + 1 {
            verdict.report(Violation::LogOrder { before, after: record.revision });
        }
        before = record.revision;
        match agenda.writers.get(&record.revision) {
            Some(writers) => acknowledged(history, record, &state, writers, verdict),
            None => explain(record, &state, &values, &mut search, verdict),
        }
        values.applied(history, record, verdict);
        advance(&mut state, record, verdict);
        read_at(history, &state, record.revision, &agenda, verdict);
        verdict.summary.revisions += 1;
    }
    search.places
}

/// What the search for the author of a revision reads and narrows down.
struct Search<'a> {
    history: &'a History,
    floors: &'a [Floor],
    /// Unknown operations that may delete and have not been placed.
    deleters: Vec<usize>,
    places: Vec<Place>,
}

/// Sorts the acknowledged operations by the revision at which they must be compared.
fn plan(history: &History, last: Revision, places: &mut [Place], verdict: &mut Verdict) -> Agenda {
    let mut agenda = Agenda::default();
    for (index, record) in history.records.iter().enumerate() {
        count(record, &mut verdict.summary);
        let Outcome::Ok { revision, response } = &record.outcome else { continue };
        let changed = response.changed();
        if *revision > last {
            verdict.report(if changed {
                Violation::LostWrite { revision: *revision, record: Box::new(record.clone()), found: None }
            } else {
                Violation::RevisionFromTheFuture {
                    revision: *revision,
                    last,
                    record: Box::new(record.clone()),
                }
            });
            continue;
        }
        if changed {
            places[index] = Place::Wrote(*revision);
            agenda.writers.entry(*revision).or_default().push(index);
            continue;
        }
        places[index] = Place::Saw(*revision);
        let at = match &record.operation {
            Operation::Range(range) if range.revision > 0 => range.revision,
            _ => *revision,
        };
        agenda.readers.entry(at).or_default().push(index);
    }
    agenda
}

fn count(record: &Record, summary: &mut Summary) {
    match record.outcome {
        Outcome::Ok { .. } => summary.acknowledged += 1,
        Outcome::Rejected => summary.rejected += 1,
        Outcome::Unknown => summary.unknown += 1,
    }
}

/// Compares operations without effect with the state at their revision.
fn read_at(history: &History, state: &State, revision: Revision, agenda: &Agenda, verdict: &mut Verdict) {
    for index in agenda.readers.get(&revision).into_iter().flatten() {
        let record = &history.records[*index];
        let Outcome::Ok { response, .. } = &record.outcome else { continue };
        // A revocation does not say whether it deleted keys (the log explains those as the end of a lease), but once
        // it is answered none may be left.
        if let Operation::LeaseRevoke(lease) = record.operation {
            if state.attached(lease).next().is_some() {
                verdict.report(Violation::LostWrite {
                    revision,
                    record: Box::new(record.clone()),
                    found: None,
                });
            }
            continue;
        }
        if let Some(effect) = state.evaluate(&record.operation, revision + 1)
            && effect.response != *response
        {
            verdict.report(Violation::WrongAnswer {
                revision,
                record: Box::new(record.clone()),
                expected: Box::new(effect.response),
            });
        }
    }
}

/// Checks a revision that one client (and only one) has been told is its own.
fn acknowledged(
    history: &History,
    found: &RevisionRecord,
    state: &State,
    writers: &[usize],
    verdict: &mut Verdict,
) {
    let record = &history.records[writers[0]];
    if let Some(second) = writers.get(1) {
        verdict.report(Violation::RevisionClaimedTwice {
            revision: found.revision,
            first: Box::new(record.clone()),
            second: Box::new(history.records[*second].clone()),
        });
    }
    let Some(effect) = state.evaluate(&record.operation, found.revision) else { return };
    if !same_events(&effect.events, &found.events) {
        verdict.report(Violation::LostWrite {
            revision: found.revision,
            record: Box::new(record.clone()),
            found: Some(found.events.clone()),
        });
        return;
    }
    if let Outcome::Ok { response, .. } = &record.outcome
        && *response != effect.response
    {
        verdict.report(Violation::WrongAnswer {
            revision: found.revision,
            record: Box::new(record.clone()),
            expected: Box::new(effect.response),
        });
    }
}

/// Finds the unknown operation, or the lease, that made a revision nobody was told about.
fn explain(
    found: &RevisionRecord,
    state: &State,
    values: &Values<'_>,
    search: &mut Search<'_>,
    verdict: &mut Verdict,
) {
    let Search { history, floors, deleters, places } = search;
    let fits = |index: usize| {
        state
            .evaluate(&history.records[index].operation, found.revision)
            .is_some_and(|effect| same_events(&effect.events, &found.events))
    };
    let put = found.events.iter().find(|event| event.kind == EventKind::Put);
    let writer = match put {
        Some(event) => values.owner.get(&event.kv.value).copied().filter(|index| fits(*index)),
        // Any delete that had been sent by then will do: it is only bounded from below, and so are all later choices.
        None => {
            let sent = |index: &usize| floors[*index].revision < found.revision;
            deleters.iter().copied().find(|index| sent(index) && fits(*index))
        }
    };
    if let Some(index) = writer {
        deleters.retain(|deleter| *deleter != index);
        let record = &history.records[index];
        match record.outcome {
            Outcome::Unknown if places[index] == Place::Nowhere => {
                places[index] = Place::Wrote(found.revision);
                verdict.summary.unknown_applied += 1;
            }
            // A second application is reported with both places by `Values::applied`.
            Outcome::Unknown | Outcome::Ok { .. } => {}
            Outcome::Rejected => verdict.report(Violation::RejectedApplied {
                revision: found.revision,
                record: Box::new(record.clone()),
            }),
        }
        return;
    }
    if put.is_none() && ended_lease(history, state, found) {
        return;
    }
    verdict.report(Violation::Unexplained { revision: found.revision, events: found.events.clone() });
}

/// Whether a revision is the end of one lease: exactly its keys are deleted, in key order.
fn ended_lease(history: &History, state: &State, found: &RevisionRecord) -> bool {
    let Some(lease) = found.events.first().and_then(|event| state.get(&event.kv.key)).map(|kv| kv.lease)
    else {
        return false;
    };
    history.lease_ids.contains(&lease)
        && state.attached(lease).eq(found.events.iter().map(|event| &event.kv.key))
        && found.events.iter().all(|event| event.kind == EventKind::Delete)
}

/// Moves the replay one revision on and holds the log's own events against it.
fn advance(state: &mut State, found: &RevisionRecord, verdict: &mut Verdict) {
    for event in &found.events {
        let before = state.get(&event.kv.key);
        let mut expected = event.clone();
        expected.kv.mod_revision = found.revision;
        match event.kind {
            EventKind::Put => {
                expected.kv.create_revision = before.map_or(found.revision, |kv| kv.create_revision);
                expected.kv.version = before.map_or(0, |kv| kv.version) + 1;
            }
            EventKind::Delete => {
                expected.kv = crate::history::KeyValue {
                    key: event.kv.key.clone(),
                    mod_revision: found.revision,
                    ..Default::default()
                };
            }
        }
        if event.prev.is_some() {
            expected.prev = before.cloned();
        }
        // A delete of a missing key is never an event.
        let absent = event.kind == EventKind::Delete && before.is_none();
        if expected != *event || absent {
            verdict
                .report(Violation::LogEvent { event: Box::new(event.clone()), expected: Box::new(expected) });
        }
        state.advance(event);
    }
}

/// Equal apart from the previous key-value, which the log's observer may not have asked for.
fn same_events(left: &[Event], right: &[Event]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.kind == r.kind && l.kv == r.kv)
}

fn unknown_deleters(records: &[Record]) -> Vec<usize> {
    let open = |record: &Record| record.outcome == Outcome::Unknown && deletes(&record.operation);
    records.iter().enumerate().filter(|(_, record)| open(record)).map(|(index, _)| index).collect()
}

fn deletes(operation: &Operation) -> bool {
    match operation {
        Operation::Delete(_) | Operation::LeaseRevoke(_) => true,
        Operation::Txn(txn) => txn.success.iter().chain(&txn.failure).any(deletes),
        Operation::Put(_) | Operation::Range(_) | Operation::Other => false,
    }
}

/// Which operation writes a value, and where it was seen; values are unique in a run.
struct Values<'a> {
    owner: HashMap<&'a Bytes, usize>,
    seen: HashMap<&'a Bytes, Revision>,
}

impl<'a> Values<'a> {
    fn new(records: &'a [Record]) -> Self {
        let mut owner = HashMap::new();
        for (index, record) in records.iter().enumerate() {
            each_value(&record.operation, &mut |value| {
                owner.insert(value, index);
            });
        }
        Self { owner, seen: HashMap::new() }
    }

    /// Notes the values of a revision; one value at two revisions is one operation applied twice.
    fn applied(&mut self, history: &History, found: &'a RevisionRecord, verdict: &mut Verdict) {
        for event in found.events.iter().filter(|event| event.kind == EventKind::Put) {
            let Some(index) = self.owner.get(&event.kv.value) else { continue };
            if let Some(first) = self.seen.insert(&event.kv.value, found.revision)
                && first != found.revision
            {
                let record = Box::new(history.records[*index].clone());
                verdict.report(Violation::AppliedTwice { first, second: found.revision, record });
            }
        }
    }
}

fn each_value<'a>(operation: &'a Operation, visit: &mut dyn FnMut(&'a Bytes)) {
    match operation {
        Operation::Put(put) => visit(&put.value),
        Operation::Txn(txn) => {
            for operation in txn.success.iter().chain(&txn.failure) {
                each_value(operation, visit);
            }
        }
        Operation::Delete(_) | Operation::Range(_) | Operation::LeaseRevoke(_) | Operation::Other => {}
    }
}
