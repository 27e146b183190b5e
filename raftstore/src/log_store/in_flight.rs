//! Writes the WAL has not confirmed yet, oldest first.
//!
//! Owns: for each its time, and for appends how far the log is durable once it is through. Called by: `log_store`.
//! Invariant: a cut lowers what the appends before it will make durable, so a late confirmation never claims entries
//! that are gone or were replaced.

use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct InFlight {
    writes: VecDeque<Write>,
}

struct Write {
    submitted_ms: u64,
    /// Everything before this index is durable once the write is.
    durable_next: Option<u64>,
}

impl InFlight {
    pub(super) fn append(&mut self, next: u64, now_ms: u64) {
        self.writes.push_back(Write { submitted_ms: now_ms, durable_next: Some(next) });
    }

    pub(super) fn vote(&mut self, now_ms: u64) {
        self.writes.push_back(Write { submitted_ms: now_ms, durable_next: None });
    }

    /// The oldest write is through; gives what is durable with it.
    pub(super) fn complete(&mut self) -> Option<u64> {
        self.writes.pop_front().expect("the WAL confirms each write once, in order").durable_next
    }

    /// The log was cut: it continues at `next`.
    pub(super) fn truncate(&mut self, next: u64) {
        for write in &mut self.writes {
            write.durable_next = write.durable_next.map(|durable_next| durable_next.min(next));
        }
    }

    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.writes.front().map(|write| write.submitted_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_after_a_cut_claims_only_what_is_left() {
        let mut in_flight = InFlight::default();
        in_flight.append(20, 1);
        in_flight.vote(2);
        in_flight.truncate(12);
        in_flight.append(15, 3);
        assert_eq!(in_flight.oldest_ms(), Some(1));
        assert_eq!(in_flight.complete(), Some(12));
        assert_eq!(in_flight.complete(), None);
        assert_eq!(in_flight.complete(), Some(15));
        assert_eq!(in_flight.oldest_ms(), None);
    }
}
