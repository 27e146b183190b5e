//! Refuses a transaction that would write one key twice in one branch.
//!
//! Owns: the rule and the set of deleted ranges it needs. Called by: `validate::txn`. Invariants: runs in
//! O(n log n), since a client chooses both the puts and the deletions.
//! The rule has corners that real clients may meet, so they are kept as they are in etcd: the deletions of a nested
//! transaction count only for what is checked after it, and a deletion without an end (`range_end` of one zero byte)
//! or with an inverted range conflicts with nothing.
//! Source: etcd `server/etcdserver/api/v3rpc/key.go` (`checkIntervals`), observed with `pkg/adt`.

use std::collections::{BTreeMap, HashSet};

use keelson_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, request_op::Request};

use crate::errors::{self, WireError};

/// Checks one branch and everything nested in it.
pub(super) fn check(ops: &[RequestOp]) -> Result<(), WireError> {
    branch(ops).map(|_| ())
}

struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Ranges,
}

fn branch(ops: &[RequestOp]) -> Result<Writes<'_>, WireError> {
    let mut deletes = Ranges::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            deletes.insert_delete(delete);
        }
    }
    let mut puts: HashSet<&[u8]> = HashSet::new();
    for op in ops {
        let Some(Request::RequestTxn(nested)) = &op.request else { continue };
        let success = branch(&nested.success)?;
        let failure = branch(&nested.failure)?;
        for key in &success.puts {
            if puts.contains(key) || deletes.contains(key) {
                return Err(errors::DUPLICATE_KEY);
            }
        }
        for key in &failure.puts {
            // Only one of the two branches runs, so they may share keys with each other.
            if puts.contains(key) || deletes.contains(key) {
                return Err(errors::DUPLICATE_KEY);
            }
        }
        puts.extend(success.puts);
        puts.extend(failure.puts);
        deletes.merge(success.deletes);
        deletes.merge(failure.deletes);
    }
    for op in ops {
        let Some(Request::RequestPut(put)) = &op.request else { continue };
        if deletes.contains(&put.key) || !puts.insert(&put.key) {
            return Err(errors::DUPLICATE_KEY);
        }
    }
    Ok(Writes { puts, deletes })
}

/// A set of half-open byte ranges, kept disjoint: start to end.
#[derive(Default)]
struct Ranges {
    ends: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Ranges {
    fn insert_delete(&mut self, delete: &DeleteRangeRequest) {
        let start = delete.key.to_vec();
        let end = match delete.range_end.as_ref() {
            [] => [delete.key.as_ref(), &[0]].concat(),
            end => end.to_vec(),
        };
        self.insert(start, end);
    }

    fn insert(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        if start >= end {
            return;
        }
        if let Some((before, before_end)) = self.ends.range(..=start.clone()).next_back()
            && *before_end >= start
        {
            start = before.clone();
            end = end.max(before_end.clone());
        }
        while let Some((after, after_end)) = self.ends.range(start.clone()..).next()
            && *after <= end
        {
            end = end.max(after_end.clone());
            let after = after.clone();
            self.ends.remove(&after);
        }
        self.ends.insert(start, end);
    }

    fn merge(&mut self, other: Ranges) {
        // The smaller set goes into the larger one, so that nesting cannot make this quadratic.
        let (mut large, small) = if self.ends.len() >= other.ends.len() {
            (std::mem::take(self), other)
        } else {
            (other, std::mem::take(self))
        };
        for (start, end) in small.ends {
            large.insert(start, end);
        }
        *self = large;
    }

    fn contains(&self, key: &[u8]) -> bool {
        let at_or_before = (std::ops::Bound::Unbounded, std::ops::Bound::Included(key));
        self.ends.range::<[u8], _>(at_or_before).next_back().is_some_and(|(_, end)| key < end.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(&str, &str)]) -> Ranges {
        let mut ranges = Ranges::default();
        for (start, end) in list {
            ranges.insert(start.as_bytes().to_vec(), end.as_bytes().to_vec());
        }
        ranges
    }

    #[test]
    fn ranges_are_merged_and_searched() {
        let set = ranges(&[("m", "p"), ("a", "c"), ("b", "d"), ("o", "q"), ("z", "y"), ("d", "e")]);
        let list: Vec<_> = set.ends.iter().map(|(a, b)| (a.as_slice(), b.as_slice())).collect();
        assert_eq!(list, [(&b"a"[..], &b"e"[..]), (b"m", b"q")]);
        for (key, inside) in [("a", true), ("d", true), ("e", false), ("l", false), ("p", true), ("q", false)]
        {
            assert_eq!(set.contains(key.as_bytes()), inside, "{key}");
        }
        assert!(!set.contains(b""));
    }

    #[test]
    fn a_new_range_swallows_all_it_covers() {
        let set = ranges(&[("b", "c"), ("d", "e"), ("f", "g"), ("a", "z")]);
        assert_eq!(set.ends.len(), 1);
        assert!(set.contains(b"y"));
    }

    proptest::proptest! {
        /// Against the plainest form: a list of ranges, each asked in turn.
        #[test]
        fn the_merged_set_contains_what_the_list_contains(
            list in proptest::collection::vec(("[a-e]{0,2}", "[a-e]{0,2}"), 0..20),
            split in 0usize..20,
            keys in proptest::collection::vec("[a-f]{0,3}", 1..30),
        ) {
            let of = |list: &[(String, String)]| {
                let list: Vec<_> = list.iter().map(|(start, end)| (start.as_str(), end.as_str())).collect();
                ranges(&list)
            };
            let (left, right) = list.split_at(split.min(list.len()));
            let mut merged = of(left);
            merged.merge(of(right));
            for key in keys {
                let expected = list.iter().any(|(start, end)| *start <= key && key < *end);
                proptest::prop_assert_eq!(merged.contains(key.as_bytes()), expected, "{}", key);
                proptest::prop_assert_eq!(of(&list).contains(key.as_bytes()), expected, "{}", key);
            }
            let ends: Vec<_> = merged.ends.iter().collect();
            for pair in ends.windows(2) {
                proptest::prop_assert!(pair[0].1 < pair[1].0, "ranges are kept apart");
            }
        }
    }
}
