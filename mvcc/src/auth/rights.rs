//! The keys a user may read and write, as few ranges as possible.
//!
//! Owns: merging and covering. Invariant: the merged ranges are sorted and neither overlap nor touch, so a request is
//! covered exactly if one of them covers it.
//! Source: etcd 3.7 `server/auth/range_perm_cache.go` for behaviour (a union of permissions covers a request).

use bytes::Bytes;

use super::{Access, types::Permission};
use crate::types::KeyRange;

/// What the roles of a user give together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    read: Ranges,
    write: Ranges,
}

impl Rights {
    pub(crate) fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            if matches!(permission.kind, 0 | 2) {
                read.push(permission.range.clone());
            }
            if matches!(permission.kind, 1 | 2) {
                write.push(permission.range.clone());
            }
        }
        Rights { read: Ranges::of(read), write: Ranges::of(write) }
    }

    pub(crate) fn cover(&self, access: Access, range: &KeyRange) -> bool {
        match access {
            Access::Read => self.read.cover(range),
            Access::Write => self.write.cover(range),
        }
    }
}

/// A union of ranges: first key and exclusive end, `None` where there is none.
#[derive(Clone, Debug, Default)]
struct Ranges(Vec<(Bytes, Option<Bytes>)>);

/// The exclusive end of a range; `None` where it has none.
fn end(range: &KeyRange) -> Option<Bytes> {
    match range.is_single() {
        // Shares the key's bytes in the one case that is hot.
        false if range.end.as_ref() != [0] => Some(range.end.clone()),
        _ => range.upper().map(Bytes::from),
    }
}

/// Whether something ending at `end` reaches `at` or beyond.
fn reaches(end: Option<&Bytes>, at: &[u8]) -> bool {
    end.is_none_or(|end| end.as_ref() >= at)
}

impl Ranges {
    fn of(mut given: Vec<KeyRange>) -> Self {
        given.sort_by(|a, b| a.key.cmp(&b.key));
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(given.len());
        for range in &given {
            let this = end(range);
            match merged.last_mut() {
                Some((_, last)) if reaches(last.as_ref(), &range.key) => {
                    let further = match (&this, &*last) {
                        (_, None) => false,
                        (None, Some(_)) => true,
                        (Some(this), Some(last)) => this > last,
                    };
                    if further {
                        *last = this;
                    }
                }
                _ => merged.push((range.key.clone(), this)),
            }
        }
        Ranges(merged)
    }

    fn cover(&self, wanted: &KeyRange) -> bool {
        let Some((_, found)) = self.starting_at_or_before(&wanted.key) else { return false };
        let Some(found) = found else { return true };
        // A request that ends before it begins holds no key; its first one counts, as far as etcd is consistent there.
        found > &wanted.key && end(wanted).is_some_and(|wanted| *found >= wanted)
    }

    fn starting_at_or_before(&self, key: &[u8]) -> Option<&(Bytes, Option<Bytes>)> {
        let after = self.0.partition_point(|(begin, _)| begin.as_ref() <= key);
        after.checked_sub(1).map(|at| &self.0[at])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(key: &str, end: &str) -> KeyRange {
        KeyRange { key: Bytes::copy_from_slice(key.as_bytes()), end: Bytes::copy_from_slice(end.as_bytes()) }
    }

    fn check(permissions: &[(&str, &str)], wanted: (&str, &str), expected: bool) {
        let ranges = Ranges::of(permissions.iter().map(|(key, end)| range(key, end)).collect());
        assert_eq!(ranges.cover(&range(wanted.0, wanted.1)), expected, "{permissions:?} {wanted:?}");
    }

    #[test]
    fn a_request_is_covered_by_the_union() {
        check(&[("a", "c")], ("a", ""), true);
        check(&[("a", "c")], ("c", ""), false);
        check(&[("a", "c"), ("c", "e")], ("b", "d"), true);
        check(&[("a", "c"), ("d", "e")], ("b", "e"), false);
        check(&[("a", "")], ("a", "a\0"), true);
        check(&[("a", ""), ("a\0", "b")], ("a", "b"), true);
        check(&[("c", "d"), ("a", "f")], ("d", "f"), true);
        check(&[], ("a", ""), false);
    }

    #[test]
    fn open_ends_are_covered_by_open_ends_alone() {
        // The permission of a single key once let its owner watch everything after it.
        check(&[("a", "")], ("a", "\0"), false);
        check(&[("a", "\u{7f}")], ("a", "\0"), false);
        check(&[("a", "\0")], ("b", "\0"), true);
        check(&[("a", "\0")], ("a", "z"), true);
        check(&[("\0", "\0")], ("\0", "\0"), true);
        check(&[("b", "\0")], ("a", "\0"), false);
        check(&[("b", "\0"), ("a", "b")], ("a", "\0"), true);
    }

    #[test]
    fn of_a_request_for_nothing_the_first_key_counts() {
        check(&[("b", "d")], ("c", "a"), true);
        check(&[("b", "d")], ("d", "b"), false);
        check(&[("b", "d")], ("a", "a"), false);
    }

    fn keys() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 1..3).prop_map(Bytes::from)
    }

    fn ranges() -> impl Strategy<Value = KeyRange> {
        (keys(), prop_oneof![Just(Bytes::new()), keys()]).prop_map(|(key, end)| KeyRange { key, end })
    }

    proptest! {
        // Every key of up to three bytes of the alphabet stands for those between: no range above has other limits.
        #[test]
        fn what_is_covered_is_allowed_key_by_key(given in prop::collection::vec(ranges(), 0..5), wanted in ranges()) {
            let valid = |range: &KeyRange| range.is_single() || range.end.as_ref() == [0] || range.key < range.end;
            prop_assume!(valid(&wanted) && given.iter().all(valid));
            let alphabet = [0u8, 1, b'a', b'b', 0xff];
            let mut all: Vec<Vec<u8>> = vec![vec![]];
            for length in 0..3 {
                let longer: Vec<Vec<u8>> = all.iter().filter(|key| key.len() == length)
                    .flat_map(|key| alphabet.iter().map(move |byte| [key.as_slice(), &[*byte]].concat())).collect();
                all.extend(longer);
            }
            // Beyond every limit that is written down.
            all.push(vec![0xff; 4]);
            let one_by_one = all.iter().filter(|key| !key.is_empty() && wanted.contains(key))
                .all(|key| given.iter().any(|range| range.contains(key)));
            let open = wanted.end.as_ref() == [0];
            prop_assert_eq!(Ranges::of(given.clone()).cover(&wanted), one_by_one, "{:?} {:?} {}", given, wanted, open);
        }
    }
}
