//! A watched range in the form the hub keeps it: one shared allocation, its shape known.
//!
//! Owns: validation of a range and the question "which structure finds it". Called by: subscriptions, indexes,
//! catch-up. Invariants: the lower bound is never empty; a bounded range is never empty.
//! Source: etcd v3 API, the meaning of `key` and `range_end`.

use std::cmp::Ordering;
use std::sync::Arc;

use keelson_mvcc::types::KeyRange;

/// Decides which index holds the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One key.
    Point,
    /// Every key that starts with the lower bound.
    Prefix,
    /// `[lower, upper)`.
    Interval,
    /// Every key at or after the lower bound.
    From,
}

/// A range that holds at least one possible key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedRange {
    /// Lower bound, then (for `Interval`) the upper bound.
    bytes: Arc<[u8]>,
    lower_len: u32,
    shape: Shape,
}

impl WatchedRange {
    /// `None` if the range can hold no key. An empty `key` stands for the smallest key, one zero byte.
    pub(crate) fn new(range: &KeyRange) -> Option<Self> {
        let lower: &[u8] = if range.key.is_empty() { &[0] } else { &range.key };
        let lower_len = u32::try_from(lower.len()).expect("a key is shorter than 4 GiB");
        let (shape, upper): (Shape, &[u8]) = match range.end.as_ref() {
            [] => (Shape::Point, &[]),
            [0] => (Shape::From, &[]),
            end if end <= lower => return None,
            end if is_successor(lower, end) => (Shape::Prefix, &[]),
            end => (Shape::Interval, end),
        };
        Some(WatchedRange { bytes: [lower, upper].concat().into(), lower_len, shape })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn lower(&self) -> &[u8] {
        &self.bytes[..self.lower_len as usize]
    }

    /// Exclusive upper bound of the shapes an interval tree holds; `None` is "no end".
    pub(crate) fn upper(&self) -> Option<&[u8]> {
        debug_assert!(matches!(self.shape, Shape::Interval | Shape::From));
        (self.shape == Shape::Interval).then(|| &self.bytes[self.lower_len as usize..])
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self.shape {
            Shape::Point => key == self.lower(),
            Shape::Prefix => key.starts_with(self.lower()),
            Shape::From => key >= self.lower(),
            Shape::Interval => key >= self.lower() && key < &self.bytes[self.lower_len as usize..],
        }
    }

    /// Order of the interval tree: by lower bound, then by upper bound, "no end" last.
    pub(crate) fn interval_order(&self, other: &Self) -> Ordering {
        self.lower().cmp(other.lower()).then_with(|| upper_order(self.upper(), other.upper()))
    }
}

/// Compares two upper bounds; `None` is larger than any key.
pub(crate) fn upper_order(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left.cmp(right),
    }
}

/// True if `end` is the first key after all keys that start with `prefix`.
fn is_successor(prefix: &[u8], end: &[u8]) -> bool {
    // Trailing 0xff bytes cannot be raised; the last byte before them is.
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return false };
    end.len() == last + 1 && end[..last] == prefix[..last] && end[last] == prefix[last] + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &[u8], end: &[u8]) -> Option<WatchedRange> {
        WatchedRange::new(&KeyRange { key: key.to_vec().into(), end: end.to_vec().into() })
    }

    #[test]
    fn shapes() {
        let shape = |key: &[u8], end: &[u8]| range(key, end).map(|range| range.shape());
        assert_eq!(shape(b"a", b""), Some(Shape::Point));
        assert_eq!(shape(b"a", b"b"), Some(Shape::Prefix));
        assert_eq!(shape(b"a\xff", b"b"), Some(Shape::Prefix));
        assert_eq!(shape(b"a\xff", b"a\xff\x01"), Some(Shape::Interval));
        assert_eq!(shape(b"a", b"c"), Some(Shape::Interval));
        assert_eq!(shape(b"a", b"\0"), Some(Shape::From));
        assert_eq!(shape(b"\xff", b"\0"), Some(Shape::From));
        assert_eq!(shape(b"a", b"a"), None);
        assert_eq!(shape(b"b", b"a"), None);
        assert_eq!(shape(b"", b""), Some(Shape::Point));
    }

    #[test]
    fn contains_agrees_with_the_api_meaning() {
        let keys: &[&[u8]] =
            &[b"\0", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"ba", b"c", b"\xff", b"\xff\xff"];
        let ends: &[&[u8]] = &[b"", b"\0", b"a", b"b", b"a\xff\x01", b"c", b"\xff", b"\xff\xff"];
        for lower in keys {
            for end in ends {
                let api = KeyRange { key: lower.to_vec().into(), end: end.to_vec().into() };
                let ours = WatchedRange::new(&api);
                for key in keys {
                    let found = ours.as_ref().is_some_and(|range| range.contains(key));
                    assert_eq!(found, api.contains(key), "range {lower:?} to {end:?}, key {key:?}");
                }
            }
        }
    }
}
