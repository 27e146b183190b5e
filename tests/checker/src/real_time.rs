//! Compares the order of revisions with real time, in one sweep.
//!
//! Owns: the stale-read, write-into-the-past and member-went-back checks.
//! Invariant checked: if an answer with revision r had arrived before an operation was sent, a linearizable operation runs
//! at r or later, and a write after r. A serializable read may be old, but what it showed counts as shown.
//! Called by: [`crate::check`], after the operations have been placed.

use std::collections::HashMap;

use crate::history::{Consistency, History, Outcome, Revision};
use crate::operations::Place;
use crate::violation::Violation;
use crate::{Rules, Verdict};

/// The highest revision that had been answered to anyone before an operation was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// The revision; 0 if nothing had been answered yet.
    pub(crate) revision: Revision,
    /// The record that showed it.
    record: usize,
}

const GROUND: Floor = Floor { revision: 0, record: 0 };

/// The floor of every record.
pub(crate) fn floors(history: &History) -> Vec<Floor> {
    let mut floors = vec![GROUND; history.records.len()];
    let mut floor = GROUND;
    sweep(history, |step| match step {
        Step::Returned(index, revision) if revision > floor.revision => {
            floor = Floor { revision, record: index }
        }
        Step::Returned(..) => {}
        Step::Invoked(index) => floors[index] = floor,
    });
    floors
}

pub(crate) fn check(
    history: &History,
    places: &[Place],
    floors: &[Floor],
    rules: Rules,
    verdict: &mut Verdict,
) {
    for (index, floor) in floors.iter().enumerate() {
        behind(history, index, places[index], *floor, verdict);
    }
    if rules.member_revision_monotone {
        members(history, verdict);
    }
}

enum Step {
    Invoked(usize),
    Returned(usize, Revision),
}

/// Visits invocations and answers in the order of time; at one instant the invocation comes first, which is lenient.
fn sweep(history: &History, mut visit: impl FnMut(Step)) {
    let mut by_start: Vec<usize> = (0..history.records.len()).collect();
    by_start.sort_by_key(|index| history.records[*index].invoked);
    let mut by_end: Vec<(u64, usize, Revision)> = Vec::new();
    for (index, record) in history.records.iter().enumerate() {
        if let Outcome::Ok { revision, .. } = record.outcome {
            by_end.push((record.returned, index, revision));
        }
    }
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    for index in by_start {
        while let Some((_, done, revision)) = ended.next_if(|done| done.0 < history.records[index].invoked) {
            visit(Step::Returned(done, revision));
        }
        visit(Step::Invoked(index));
    }
}

fn members(history: &History, verdict: &mut Verdict) {
    let mut highest: HashMap<u32, Revision> = HashMap::new();
    sweep(history, |step| match step {
        Step::Returned(index, revision) => {
            let before = highest.entry(history.records[index].member).or_default();
            *before = revision.max(*before);
        }
        Step::Invoked(index) => {
            let record = &history.records[index];
            let before = highest.get(&record.member).copied().unwrap_or(0);
            if let Outcome::Ok { revision: after, .. } = record.outcome
                && after < before
            {
                verdict.report(Violation::MemberWentBack {
                    member: record.member,
                    before,
                    after,
                    record: Box::new(record.clone()),
                });
            }
        }
    });
}

fn behind(history: &History, index: usize, place: Place, floor: Floor, verdict: &mut Verdict) {
    let record = &history.records[index];
    let (revision, lowest) = match place {
        Place::Wrote(revision) => (revision, floor.revision + 1),
        Place::Saw(_) if record.consistency == Consistency::Serializable => return,
        Place::Saw(revision) => (revision, floor.revision),
        Place::Nowhere => return,
    };
    if revision < lowest {
        verdict.report(Violation::BehindRealTime {
            revision,
            floor: floor.revision,
            record: Box::new(record.clone()),
            earlier: Box::new(history.records[floor.record].clone()),
        });
    }
}
