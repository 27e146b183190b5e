//! One watched range with everything that is common to its watchers.
//!
//! Owns: the hits, that is where in the recent log events of this range are, and the list of its armed watchers.
//! Called by: publication, gathering. Invariants: hits are in order of (sequence, position) and complete for every
//! sequence number in the log that was appended while the subscription existed.
//! Source: own design: events are matched once per distinct range, not once per watcher.

use std::collections::VecDeque;

use crate::index::Ranges;
use crate::key_range::WatchedRange;
use crate::slab::Slab;

/// What one hit costs, with its share of the entry's list of subscriptions.
pub(crate) const HIT_BYTES: usize = std::mem::size_of::<Hit>() + 8;

/// What a recorded event did to the hits of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// The first hit of this entry.
    First,
    /// Another hit of the same entry.
    Again,
    /// It lengthened the last hit.
    Extended,
}

/// Neighbouring events of one log entry that lie in the range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) seq: u64,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Events of this subscription before this hit, counted from its start (wraps).
    pub(crate) before: u32,
}

/// See the module.
pub(crate) struct Subscription {
    pub(crate) range: WatchedRange,
    /// Allocated while there are hits: most of a million point watchers are quiet, and the box saves them 24 bytes.
    #[allow(clippy::box_collection)]
    hits: Option<Box<VecDeque<Hit>>>,
    /// First of the armed watchers, linked through themselves.
    pub(crate) armed: u32,
    /// Watchers of this range, armed or not.
    pub(crate) watchers: u32,
    events: u32,
}

impl Subscription {
    pub(crate) fn new(range: WatchedRange, none: u32) -> Self {
        Subscription { range, hits: None, armed: none, watchers: 0, events: 0 }
    }

    /// Notes that event `position` of entry `seq` is in the range.
    pub(crate) fn record(&mut self, seq: u64, position: u32) -> Recorded {
        let before = self.events;
        self.events = self.events.wrapping_add(1);
        let hits = self.hits.get_or_insert_default();
        let mut recorded = Recorded::First;
        if let Some(last) = hits.back_mut() {
            assert!(last.seq <= seq, "hits are recorded in order");
            if last.seq == seq {
                if last.first + last.count == position {
                    last.count += 1;
                    return Recorded::Extended;
                }
                recorded = Recorded::Again;
            }
        }
        hits.push_back(Hit { seq, first: position, count: 1, before });
        recorded
    }

    /// Forgets hits of entries that left the log.
    pub(crate) fn forget_before(&mut self, seq: u64) {
        let Some(hits) = &mut self.hits else { return };
        while hits.front().is_some_and(|hit| hit.seq < seq) {
            hits.pop_front();
        }
        if hits.is_empty() {
            self.hits = None;
        } else if hits.capacity() > 64 && hits.len() < hits.capacity() / 4 {
            hits.shrink_to(hits.len() * 2);
        }
    }

    /// For [`crate::state::State::validate`]: the hits lie within the log. Gives their number.
    pub(crate) fn validate(&self, first_seq: u64, next_seq: u64) -> usize {
        let Some(hits) = &self.hits else { return 0 };
        assert!(!hits.is_empty(), "an empty list is given back");
        assert!(
            hits.iter().all(|hit| (first_seq..next_seq).contains(&hit.seq)),
            "hits are of entries in the log"
        );
        assert!(hits.iter().is_sorted_by(|left, right| (left.seq, left.first) < (right.seq, right.first)));
        hits.len()
    }

    /// The hits at or after entry `seq`, oldest first.
    pub(crate) fn hits_from(&self, seq: u64) -> impl Iterator<Item = Hit> {
        self.hits.iter().flat_map(move |hits| hits.range(start_of(hits, seq)..).copied())
    }

    /// Number of events at or after entry `seq`.
    pub(crate) fn events_from(&self, seq: u64) -> u32 {
        self.hits_from(seq).next().map_or(0, |hit| self.events.wrapping_sub(hit.before))
    }
}

/// Index of the first hit at or after `seq`. Readers are usually near the end, so the last few are tried first.
fn start_of(hits: &VecDeque<Hit>, seq: u64) -> usize {
    let mut at = hits.len();
    for _ in 0..8 {
        if at == 0 || hits[at - 1].seq < seq {
            return at;
        }
        at -= 1;
    }
    hits.partition_point(|hit| hit.seq < seq)
}

impl Ranges for Slab<Subscription> {
    fn range(&self, id: u32) -> &WatchedRange {
        &self[id].range
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_mvcc::types::KeyRange;

    #[test]
    fn hits_are_runs_and_are_found_from_any_entry() {
        let range = WatchedRange::new(&KeyRange::single("a")).expect("not empty");
        let mut subscription = Subscription::new(range, u32::MAX);
        let recorded: Vec<_> = [(5, 0), (5, 1), (5, 3), (9, 0)]
            .into_iter()
            .map(|(seq, position)| subscription.record(seq, position))
            .collect();
        assert_eq!(recorded, [Recorded::First, Recorded::Extended, Recorded::Again, Recorded::First]);
        let from = |subscription: &Subscription, seq| {
            subscription.hits_from(seq).map(|hit| (hit.seq, hit.first, hit.count)).collect::<Vec<_>>()
        };
        assert_eq!(from(&subscription, 0), [(5, 0, 2), (5, 3, 1), (9, 0, 1)]);
        assert_eq!(from(&subscription, 6), [(9, 0, 1)]);
        assert_eq!([0, 5, 6, 10].map(|seq| subscription.events_from(seq)), [4, 4, 1, 0]);
        for seq in 10..100 {
            subscription.record(seq, 0);
        }
        assert_eq!(from(&subscription, 9).len(), 91, "far from the end too");
        subscription.forget_before(9);
        assert_eq!(from(&subscription, 0).len(), 91);
        subscription.forget_before(1000);
        assert!(subscription.hits.is_none(), "an empty list is given back");
    }
}
