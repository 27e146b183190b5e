//! Replay checker for concurrent histories of an etcd v3 store.
//!
//! Owns: the record format, a small model of the store, and one validator per published guarantee.
//! Invariant: [`check`] is a pure function of its input and runs in time linear in the history (apart from sorting),
//! so histories of millions of operations are fine.
//! Called by: the crash tests (`keelson-tests`) and the simulation (`tests/sim`).
//! Idea: etcd revisions already give the total order of writes, so no search for a linearization is needed: replay the
//! events in revision order, compare every answer with the replay, and compare revisions with real time in one sweep.
//! Only operations with an unknown outcome need matching, and unique values make that a look-up.
//!
//! The names of the watch guarantees (ordered, unique, reliable, atomic, resumable, bookmarkable) are those of etcd's
//! API guarantees document.

mod history;
mod leases;
mod model;
mod operations;
mod real_time;
mod violation;
mod watches;

pub use history::{
    Compare, CompareResult, CompareTarget, Consistency, Delete, Event, EventKind, History, KeyRange,
    KeyValue, LeasePromise, Operation, Outcome, Put, Range, Record, Response, Revision, RevisionRecord, Time,
    Txn, WatchItem, WatchRecord,
};
pub use model::{Effect, State};
pub use violation::{Violation, WatchPromise};

/// What the history contained; callers assert on it that the run exercised what it meant to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations answered with success.
    pub acknowledged: usize,
    /// Operations whose outcome the client never learned.
    pub unknown: usize,
    /// Unknown operations that turned out to have been applied.
    pub unknown_applied: usize,
    /// Operations that the server refused for certain.
    pub rejected: usize,
    /// Revisions replayed.
    pub revisions: usize,
    /// Events compared over all watchers.
    pub watch_events: usize,
}

/// Which optional promises to hold the server to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The revision that one member shows never decreases, also across its restarts and for serializable reads.
    /// etcd does not promise this for serializable reads right after a restart; Keelson does.
    pub member_revision_monotone: bool,
}

/// The checker's answer: what was seen, and every broken promise (empty = the history is accepted).
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Counts of what was checked.
    pub summary: Summary,
    /// Broken promises, in the order of discovery; at most [`VIOLATIONS_MAX`].
    pub violations: Vec<Violation>,
}

/// After this many violations the rest says nothing new.
pub const VIOLATIONS_MAX: usize = 50;

impl Verdict {
    /// True if no promise was broken.
    pub fn accepted(&self) -> bool {
        self.violations.is_empty()
    }

    fn report(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

/// Checks a history against the promises of the API.
pub fn check(history: &History, rules: Rules) -> Verdict {
    let mut verdict = Verdict::default();
    let floors = real_time::floors(history);
    let placed = operations::check(history, &floors, &mut verdict);
    real_time::check(history, &placed, &floors, rules, &mut verdict);
    watches::check(history, &mut verdict);
    leases::check(history, &placed, &mut verdict);
    verdict
}
