//! A sorted map with cheap copies: the rows of the memory engine, and the boundaries of the counted index.
//!
//! Owns: two levels, a vector of leaves of bounded size, both copied on write when shared. A clone is two pointers;
//! the first change after it copies the vector of leaves and the leaf it touches. Each entry has a weight, and the
//! sum of weights between two positions costs a walk over leaves, not entries.
//! Invariants: keys strictly ascend; no leaf is empty; sums match the entries.
//! A three-level tree would make the first change after a clone cheaper at millions of entries; the memory engine
//! serves tests and simulation, and the counted index has one entry per hundred keys.

use std::sync::Arc;

use bytes::Bytes;

/// Entries per leaf at most.
const LEAF_LEN_MAX: usize = 128;
/// Neighbours together at most this long become one leaf again.
const LEAF_LEN_MERGE: usize = 48;

/// What a value adds to the sums.
pub(crate) trait Weigh: Clone {
    fn weight(&self, key: &[u8]) -> u64;
}

#[derive(Clone)]
struct Leaf<V> {
    entries: Arc<Vec<(Bytes, V)>>,
    weight: u64,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct CowMap<V> {
    leaves: Arc<Vec<Leaf<V>>>,
    len: usize,
    weight: u64,
}

/// A place between or at entries. Valid for the map value it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    leaf: usize,
    slot: usize,
}

impl<V> Default for CowMap<V> {
    fn default() -> Self {
        CowMap { leaves: Arc::new(Vec::new()), len: 0, weight: 0 }
    }
}

impl<V: Weigh> CowMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sum of all weights.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        self.entry(self.lower_bound(key)).filter(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// The first entry at or after `key`.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> Position {
        let after = self.leaves.partition_point(|leaf| leaf.entries[0].0.as_ref() <= key);
        let Some(leaf) = after.checked_sub(1) else { return Position { leaf: 0, slot: 0 } };
        let slot = self.leaves[leaf].entries.partition_point(|(found, _)| found.as_ref() < key);
        self.normal(Position { leaf, slot })
    }

    /// The place after the last entry.
    pub(crate) fn end(&self) -> Position {
        Position { leaf: self.leaves.len(), slot: 0 }
    }

    pub(crate) fn entry(&self, at: Position) -> Option<(&Bytes, &V)> {
        let (key, value) = self.leaves.get(at.leaf)?.entries.get(at.slot)?;
        Some((key, value))
    }

    /// The next place; `at` is not the end.
    pub(crate) fn after(&self, at: Position) -> Position {
        self.normal(Position { leaf: at.leaf, slot: at.slot + 1 })
    }

    /// The place before, if there is one.
    pub(crate) fn before(&self, at: Position) -> Option<Position> {
        match at.slot.checked_sub(1) {
            Some(slot) => Some(Position { leaf: at.leaf, slot }),
            None => {
                let leaf = at.leaf.checked_sub(1)?;
                Some(Position { leaf, slot: self.leaves[leaf].entries.len() - 1 })
            }
        }
    }

    /// Sum of the weights of the entries in `[from, to)`.
    pub(crate) fn weight_between(&self, from: Position, to: Position) -> u64 {
        if from >= to {
            return 0;
        }
        let sum = |leaf: usize, slots: std::ops::Range<usize>| -> u64 {
            self.leaves[leaf].entries[slots].iter().map(|(key, value)| value.weight(key)).sum()
        };
        if from.leaf == to.leaf {
            return sum(from.leaf, from.slot..to.slot);
        }
        let head = sum(from.leaf, from.slot..self.leaves[from.leaf].entries.len());
        let middle: u64 = self.leaves[from.leaf + 1..to.leaf].iter().map(|leaf| leaf.weight).sum();
        let tail = if to.slot > 0 { sum(to.leaf, 0..to.slot) } else { 0 };
        head + middle + tail
    }

    /// Changes the value of the entry at `at`, which must exist.
    pub(crate) fn update(&mut self, at: Position, change: impl FnOnce(&mut V)) {
        let leaf = &mut Arc::make_mut(&mut self.leaves)[at.leaf];
        let (key, value) = &mut Arc::make_mut(&mut leaf.entries)[at.slot];
        let before = value.weight(key);
        change(value);
        let after = value.weight(key);
        leaf.weight = leaf.weight - before + after;
        self.weight = self.weight - before + after;
    }

    pub(crate) fn insert(&mut self, key: Bytes, value: V) {
        let weight = value.weight(&key);
        let leaves = Arc::make_mut(&mut self.leaves);
        if leaves.is_empty() {
            leaves.push(Leaf { entries: Arc::new(Vec::new()), weight: 0 });
        }
        let at = leaves
            .partition_point(|leaf| leaf.entries.first().is_some_and(|(first, _)| *first <= key))
            .saturating_sub(1);
        let last = at + 1 == leaves.len();
        let leaf = &mut leaves[at];
        let entries = Arc::make_mut(&mut leaf.entries);
        match entries.binary_search_by(|(found, _)| found.as_ref().cmp(&key)) {
            Ok(slot) => {
                let before = entries[slot].1.weight(&key);
                entries[slot].1 = value;
                leaf.weight = leaf.weight - before + weight;
                self.weight = self.weight - before + weight;
                return;
            }
            Err(slot) if entries.len() == LEAF_LEN_MAX => {
                // Ascending inserts leave full leaves behind; others split in the middle.
                let split = if last && slot == entries.len() { entries.len() } else { entries.len() / 2 };
                let mut right = entries.split_off(split);
                if slot < split || (slot == split && !right.is_empty()) {
                    entries.insert(slot, (key, value));
                } else {
                    right.insert(slot - split, (key, value));
                }
                leaf.weight = sum_of(entries);
                let weight = sum_of(&right);
                leaves.insert(at + 1, Leaf { entries: Arc::new(right), weight });
            }
            Err(slot) => {
                entries.insert(slot, (key, value));
                leaf.weight += weight;
            }
        }
        self.len += 1;
        self.weight += weight;
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = self.lower_bound(key);
        if self.entry(at).is_none_or(|(found, _)| found != key) {
            return None;
        }
        let leaves = Arc::make_mut(&mut self.leaves);
        let leaf = &mut leaves[at.leaf];
        let entries = Arc::make_mut(&mut leaf.entries);
        let (key, value) = entries.remove(at.slot);
        let weight = value.weight(&key);
        leaf.weight -= weight;
        self.len -= 1;
        self.weight -= weight;
        let len = entries.len();
        if len == 0 {
            leaves.remove(at.leaf);
        } else if let Some(next) = leaves.get(at.leaf + 1)
            && len + next.entries.len() <= LEAF_LEN_MERGE
        {
            let next = leaves.remove(at.leaf + 1);
            let leaf = &mut leaves[at.leaf];
            Arc::make_mut(&mut leaf.entries).extend(next.entries.iter().cloned());
            leaf.weight += next.weight;
        }
        Some(value)
    }

    /// The entries from `at` on.
    pub(crate) fn iter_from(&self, at: Position) -> impl Iterator<Item = (&Bytes, &V)> {
        let head = self.leaves.get(at.leaf).map_or(&[][..], |leaf| &leaf.entries[at.slot..]);
        let rest = self.leaves.get(at.leaf + 1..).unwrap_or(&[]);
        head.iter().chain(rest.iter().flat_map(|leaf| leaf.entries.iter())).map(|(key, value)| (key, value))
    }

    /// Checks every invariant; for tests and debug builds.
    #[cfg(test)]
    pub(crate) fn validate(&self) {
        let mut last: Option<&Bytes> = None;
        let (mut len, mut weight) = (0, 0);
        for leaf in self.leaves.iter() {
            assert!(!leaf.entries.is_empty() && leaf.entries.len() <= LEAF_LEN_MAX);
            assert_eq!(leaf.weight, sum_of(&leaf.entries));
            for (key, _) in leaf.entries.iter() {
                assert!(last.is_none_or(|last| last < key), "keys ascend");
                last = Some(key);
            }
            len += leaf.entries.len();
            weight += leaf.weight;
        }
        assert_eq!((self.len, self.weight), (len, weight));
    }

    /// A place past the end of a leaf is the start of the next one.
    fn normal(&self, at: Position) -> Position {
        if at.slot < self.leaves[at.leaf].entries.len() {
            at
        } else {
            Position { leaf: at.leaf + 1, slot: 0 }
        }
    }
}

fn sum_of<V: Weigh>(entries: &[(Bytes, V)]) -> u64 {
    entries.iter().map(|(key, value)| value.weight(key)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Weigh for u8 {
        fn weight(&self, _: &[u8]) -> u64 {
            u64::from(*self)
        }
    }

    fn key(number: u16) -> Bytes {
        Bytes::from(number.to_be_bytes().to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_like_a_btree_map(
            steps in prop::collection::vec((0u16..1200, prop::option::weighted(0.7, any::<u8>())), 1..3000),
            probes in prop::collection::vec((0u16..1300, 0u16..1300), 20),
        ) {
            let mut map = CowMap::default();
            let mut model = BTreeMap::new();
            let mut old = None;
            for (at, (number, value)) in steps.iter().enumerate() {
                match value {
                    Some(value) => { map.insert(key(*number), *value); model.insert(*number, *value); }
                    None => prop_assert_eq!(map.remove(&key(*number)), model.remove(number)),
                }
                if at == steps.len() / 2 {
                    old = Some((map.clone(), model.clone()));
                }
            }
            for (map, model) in [(&map, &model)].into_iter().chain(old.as_ref().map(|(map, model)| (map, model))) {
                map.validate();
                let all: Vec<_> = map.iter_from(map.lower_bound(&[])).map(|(key, value)| (key.clone(), *value)).collect();
                let expected: Vec<_> = model.iter().map(|(number, value)| (key(*number), *value)).collect();
                prop_assert_eq!(all, expected);
                for (from, to) in &probes {
                    let at = map.lower_bound(&key(*from));
                    prop_assert_eq!(map.entry(at).map(|(key, _)| key.clone()), model.range(from..).next().map(|(n, _)| key(*n)));
                    let before = map.before(at).and_then(|at| map.entry(at)).map(|(key, _)| key.clone());
                    prop_assert_eq!(before, model.range(..from).next_back().map(|(n, _)| key(*n)));
                    let sum: u64 = if from < to { model.range(from..to).map(|(_, v)| u64::from(*v)).sum() } else { 0 };
                    prop_assert_eq!(map.weight_between(at, map.lower_bound(&key(*to))), sum);
                }
            }
        }
    }
}
