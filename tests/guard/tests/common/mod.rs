//! Counting.
#![allow(dead_code, unreachable_pub)]

use keelson_guard::Bound;

/// Runs `work` on so many operations after a warm-up of the same, and checks what the second run allocated.
pub fn guard(path: &str, operations: u64, bound: Bound, mut work: impl FnMut(u64)) {
    (0..operations).for_each(&mut work);
    let found = allocation_counter::measure(|| (operations..2 * operations).for_each(&mut work));
    bound.check(path, operations, found.count_total, found.bytes_total);
}
