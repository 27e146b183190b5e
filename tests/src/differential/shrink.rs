//! Reduces a failing run to few operations that still show a difference.
//!
//! Owns: delta debugging over the list of operations, on fresh servers for every attempt.
//! Called by: the suite after a difference. Bounded by attempts, since each costs the start of two servers.

use std::time::Duration;

use super::op::Op;
use super::run::{Difference, Sides, run};
use crate::clock::Deadline;

/// Attempts at most, and time at most: each attempt starts two servers.
const ATTEMPTS_MAX: usize = 200;
const TIME_MAX: Duration = Duration::from_secs(240);

/// Removes operations as long as a difference of the same kind remains; returns what is left with its difference.
pub async fn shrink(sides: &Sides, ops: &[Op], first: Difference) -> (Vec<Op>, Difference) {
    let mut kept: Vec<Op> = ops[..=first.at].to_vec();
    // The numbers are the same here; they differ once operations are missing.
    kept[first.at] = ops[first.at].rebased(first.view);
    let mut difference = first;
    let mut chunk = (kept.len() / 2).max(1);
    let mut attempts = 0;
    let deadline = Deadline::after(TIME_MAX);
    loop {
        let mut start = 0;
        let mut removed = false;
        while start < kept.len() && attempts < ATTEMPTS_MAX && !deadline.passed() {
            // The last operation is the one whose answers differ: it stays.
            let end = (start + chunk).min(kept.len() - 1);
            if start >= end {
                break;
            }
            attempts += 1;
            let candidate: Vec<Op> = kept[..start].iter().chain(&kept[end..]).cloned().collect();
            match run(sides, &candidate).await {
                Ok(Err(found)) if found.resembles(&difference) => {
                    kept = candidate[..=found.at].to_vec();
                    difference = *found;
                    removed = true;
                }
                Ok(_) | Err(_) => start = end,
            }
        }
        if attempts >= ATTEMPTS_MAX || deadline.passed() || (chunk == 1 && !removed) {
            return (kept, difference);
        }
        if !removed || chunk > kept.len() {
            chunk = (chunk / 2).max(1);
        }
    }
}
