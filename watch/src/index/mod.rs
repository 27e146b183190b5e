//! Finds every watched range that holds a key.
//!
//! Owns: three structures, each good at one shape: points by hash, prefixes by a radix tree, other ranges by an
//! interval tree. Called by: publication (hub-wide index of subscriptions) and catch-up (an index of one group).
//! Invariants: a range is in exactly one structure, at most once; the range behind an id does not change while it is
//! in the index. No result depends on the iteration order of a hash table.
//! Source: own design; its cost is stated in `CONTRACT.md`.

mod interval;
mod radix;

use std::hash::{DefaultHasher, Hasher};

use hashbrown::HashTable;

use crate::key_range::{Shape, WatchedRange};
use interval::IntervalTree;
use radix::RadixTree;

/// Gives the range of an id; the index itself stores ids only, so a watched key is kept once.
pub(crate) trait Ranges {
    /// Panics if the id is unknown.
    fn range(&self, id: u32) -> &WatchedRange;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RangeIndex {
    points: HashTable<u32>,
    prefixes: RadixTree,
    intervals: IntervalTree,
    seed: u64,
}

impl RangeIndex {
    /// `seed` keys the hash of points, because clients choose the keys.
    pub(crate) fn new(seed: u64) -> Self {
        RangeIndex {
            points: HashTable::new(),
            prefixes: RadixTree::default(),
            intervals: IntervalTree::default(),
            seed,
        }
    }

    /// The id whose range equals `range`.
    pub(crate) fn find(&self, ranges: &impl Ranges, range: &WatchedRange) -> Option<u32> {
        match range.shape() {
            Shape::Point => self.find_point(ranges, range.lower()),
            Shape::Prefix => self.prefixes.find(range.lower()),
            Shape::Interval | Shape::From => self.intervals.find(ranges, range),
        }
    }

    /// Adds an id whose range is not in the index yet.
    pub(crate) fn insert(&mut self, ranges: &impl Ranges, id: u32) {
        let range = ranges.range(id);
        debug_assert!(self.find(ranges, range).is_none(), "a range is indexed once");
        match range.shape() {
            Shape::Point => {
                let seed = self.seed;
                let rehash = |id: &u32| hash(seed, ranges.range(*id).lower());
                self.points.insert_unique(hash(seed, range.lower()), id, rehash);
            }
            Shape::Prefix => self.prefixes.insert(range.lower(), id),
            Shape::Interval | Shape::From => self.intervals.insert(ranges, id),
        }
    }

    /// Removes an id that is in the index.
    pub(crate) fn remove(&mut self, ranges: &impl Ranges, id: u32) {
        let range = ranges.range(id);
        match range.shape() {
            Shape::Point => {
                let seed = self.seed;
                let entry = self.points.find_entry(hash(seed, range.lower()), |other| *other == id);
                entry.expect("the point is indexed").remove();
                // A burst of watchers must not leave its table behind.
                if self.points.capacity() > 64 && self.points.len() < self.points.capacity() / 8 {
                    self.points.shrink_to(self.points.len() * 2, |id| hash(seed, ranges.range(*id).lower()));
                }
            }
            Shape::Prefix => self.prefixes.remove(range.lower(), id),
            Shape::Interval | Shape::From => self.intervals.remove(ranges, id),
        }
    }

    /// Appends every id whose range holds `key`, each once.
    pub(crate) fn matches(&self, ranges: &impl Ranges, key: &[u8], out: &mut Vec<u32>) {
        if !self.points.is_empty() {
            out.extend(self.find_point(ranges, key));
        }
        self.prefixes.walk(key, out);
        self.intervals.stab(ranges, key, out);
    }

    fn find_point(&self, ranges: &impl Ranges, key: &[u8]) -> Option<u32> {
        self.points.find(hash(self.seed, key), |id| ranges.range(*id).lower() == key).copied()
    }
}

fn hash(seed: u64, key: &[u8]) -> u64 {
    // SipHash with fixed keys, made unpredictable by the seed in front; equal in every run with an equal seed.
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_mvcc::types::KeyRange;
    use proptest::prelude::*;

    impl Ranges for Vec<Option<WatchedRange>> {
        fn range(&self, id: u32) -> &WatchedRange {
            self[id as usize].as_ref().expect("live id")
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]), 1..5)
    }

    fn watched() -> impl Strategy<Value = KeyRange> {
        let end = prop_oneof![
            2 => Just(None),
            1 => Just(Some(vec![0u8])),
            2 => key().prop_map(Some),
        ];
        (key(), end, any::<bool>()).prop_map(|(key, end, prefix)| {
            let mut successor = key.clone();
            while successor.last() == Some(&0xff) {
                successor.pop();
            }
            let end = match (end, successor.last_mut()) {
                (None, Some(last)) if prefix => {
                    *last += 1;
                    successor
                }
                (end, _) => end.unwrap_or_default(),
            };
            KeyRange { key: key.into(), end: end.into() }
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(KeyRange),
        Remove(prop::sample::Index),
        Match(Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => watched().prop_map(Step::Add),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
            4 => key().prop_map(Step::Match),
        ]
    }

    proptest! {
        #[test]
        fn index_agrees_with_asking_every_range(steps in prop::collection::vec(step(), 1..120)) {
            let mut ranges: Vec<Option<WatchedRange>> = Vec::new();
            let mut index = RangeIndex::new(7);
            for step in steps {
                match step {
                    Step::Add(range) => {
                        let Some(range) = WatchedRange::new(&range) else { continue };
                        let known = ranges.iter().position(|other| other.as_ref() == Some(&range));
                        prop_assert_eq!(index.find(&ranges, &range), known.map(|id| id as u32));
                        if known.is_none() {
                            ranges.push(Some(range));
                            index.insert(&ranges, ranges.len() as u32 - 1);
                        }
                    }
                    Step::Remove(which) => {
                        let live: Vec<_> = (0..ranges.len()).filter(|id| ranges[*id].is_some()).collect();
                        if live.is_empty() { continue }
                        let id = live[which.index(live.len())];
                        index.remove(&ranges, id as u32);
                        ranges[id] = None;
                    }
                    Step::Match(key) => {
                        let mut found = Vec::new();
                        index.matches(&ranges, &key, &mut found);
                        found.sort_unstable();
                        let expected: Vec<u32> = (0..ranges.len() as u32)
                            .filter(|id| ranges[*id as usize].as_ref().is_some_and(|range| range.contains(&key)))
                            .collect();
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
