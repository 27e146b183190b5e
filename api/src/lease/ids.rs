//! Lease ids chosen by the server.
//!
//! Owns: [`IdGenerator`]. Invariants: positive; two members differ in the upper bits, two starts of one member in the
//! time, two ids of one start in the counter.
//! Source: etcd `pkg/idutil/id.go`.

use std::sync::atomic::{AtomicU64, Ordering};

const MEMBER_SHIFT: u32 = 48;
const COUNTER_BITS: u32 = 8;
const SUFFIX_MASK: u64 = (1 << MEMBER_SHIFT) - 1;

/// Member in the upper 15 bits, then 40 bits of milliseconds at start, then a counter that may run into them.
pub(super) struct IdGenerator {
    prefix: u64,
    suffix: AtomicU64,
}

impl IdGenerator {
    pub(super) fn new(member_id: u64, unix_ms: u64) -> Self {
        let prefix = (member_id & 0x7fff) << MEMBER_SHIFT;
        IdGenerator { prefix, suffix: AtomicU64::new((unix_ms << COUNTER_BITS) & SUFFIX_MASK) }
    }

    pub(super) fn next(&self) -> i64 {
        loop {
            let suffix = (self.suffix.fetch_add(1, Ordering::Relaxed) + 1) & SUFFIX_MASK;
            let id = (self.prefix | suffix) as i64;
            if id != 0 {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_differ() {
        let one = IdGenerator::new(u64::MAX, u64::MAX);
        let ids: Vec<i64> = (0..300).map(|_| one.next()).collect();
        assert!(ids.iter().all(|id| *id > 0));
        let other = IdGenerator::new(u64::MAX - 1, u64::MAX);
        let later = IdGenerator::new(u64::MAX, u64::MAX.wrapping_add(3000));
        assert!(!ids.contains(&other.next()));
        assert!(!ids.contains(&later.next()));
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), ids.len());
    }

    #[test]
    fn zero_is_never_handed_out() {
        let generator = IdGenerator::new(0, 0);
        generator.suffix.store(SUFFIX_MASK, Ordering::Relaxed);
        assert_eq!(generator.next(), 1);
    }
}
