//! Checks that no lease ends before the time the server promised for it.
//!
//! Owns: the "kept at least for its TTL" check. Invariant checked: a deletion of a key of a lease, seen by a watcher before
//! the promised time, has a revocation or another client's delete as its cause.
//! Called by: [`crate::check`].

use std::collections::{HashMap, HashSet};

use crate::Verdict;
use crate::history::{Event, EventKind, History, LeasePromise, Operation, Revision, Time, WatchItem};
use crate::model::State;
use crate::operations::Place;
use crate::violation::Violation;

pub(crate) fn check(history: &History, placed: &[Place], verdict: &mut Verdict) {
    if history.leases.is_empty() {
        return;
    }
    let mut promises: HashMap<i64, Vec<&LeasePromise>> = HashMap::new();
    for promise in &history.leases {
        promises.entry(promise.lease).or_default().push(promise);
    }
    // A client that revoked, or may have revoked, a lease ends its promise.
    for record in &history.records {
        if let Operation::LeaseRevoke(lease) = record.operation {
            promises.remove(&lease);
        }
    }
    let ended = ended_leases(history, placed);
    let seen = first_seen(history);
    for (revision, lease) in ended {
        let (Some(promises), Some(seen)) = (promises.get(&lease), seen.get(&revision)) else { continue };
        let broken = promises.iter().find(|promise| promise.made < *seen && *seen < promise.until);
        if let Some(promise) = broken {
            verdict.report(Violation::LeaseEarly { lease, seen: *seen, until: promise.until });
        }
    }
}

/// Revisions that delete exactly the keys of one lease, several or one, and that no client's own delete made: neither an
/// acknowledged one nor one of unknown outcome.
fn ended_leases(history: &History, placed: &[Place]) -> Vec<(Revision, i64)> {
    let claimed: HashSet<Revision> = placed
        .iter()
        .filter_map(|place| match place {
            Place::Wrote(revision) => Some(*revision),
            Place::Saw(_) | Place::Nowhere => None,
        })
        .collect();
    let mut state = State::new(&history.initial);
    let mut ended = Vec::new();
    for record in &history.log {
        let lease_of = |event: &Event| state.get(&event.kv.key).map_or(0, |kv| kv.lease);
        let lease = record.events.first().map_or(0, lease_of);
        let all_deleted = record.events.iter().all(|event| event.kind == EventKind::Delete);
        if lease != 0
            && all_deleted
            && !claimed.contains(&record.revision)
            && state.attached(lease).eq(record.events.iter().map(|event| &event.kv.key))
        {
            ended.push((record.revision, lease));
        }
        for event in &record.events {
            state.advance(event);
        }
    }
    ended
}

/// When a revision was first seen by a watcher.
fn first_seen(history: &History) -> HashMap<Revision, Time> {
    let mut seen: HashMap<Revision, Time> = HashMap::new();
    for item in history.watches.iter().flat_map(|watch| &watch.items) {
        if let WatchItem::Events { received, events, .. } = item {
            for event in events {
                let time = seen.entry(event.kv.mod_revision).or_insert(*received);
                *time = (*time).min(*received);
            }
        }
    }
    seen
}
