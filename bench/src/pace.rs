//! When requests are due.
//!
//! Owns: the schedule of an open loop, and the queue of requests that are due and not yet sent. Called by: `load`.
//! Invariants: request `n` is due at `n / rate`, whatever the server does; what a stalled server has not been sent yet
//! waits here, and its latency counts from the moment it was due (no coordinated omission).
//! Source of the idea: Gil Tene, "How NOT to measure latency"; wrk2.

use std::collections::VecDeque;
use std::time::Duration;

/// How the load is shaped in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each client sends its next request when the last is answered.
    Closed,
    /// Requests are due at a fixed total rate, answered or not.
    Open {
        /// Requests per second over all clients.
        rate: f64,
    },
}

/// The schedule of an open loop. Pure: it is told the time.
#[derive(Debug)]
pub struct Schedule {
    rate: f64,
    until: Duration,
    released: u64,
    waiting: VecDeque<Duration>,
}

impl Schedule {
    /// A schedule from zero to `until` (exclusive).
    pub fn new(rate: f64, until: Duration) -> Self {
        assert!(rate > 0.0, "a rate is positive");
        Schedule { rate, until, released: 0, waiting: VecDeque::new() }
    }

    /// When the next request becomes due; `None` when all are.
    pub fn next_due(&self) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.released as f64 / self.rate);
        (due < self.until).then_some(due)
    }

    /// Queues everything due by `now`; returns how many that were.
    pub fn release(&mut self, now: Duration) -> usize {
        let before = self.waiting.len();
        while let Some(due) = self.next_due().filter(|&due| due <= now) {
            self.waiting.push_back(due);
            self.released += 1;
        }
        self.waiting.len() - before
    }

    /// The request that has waited longest, by the time it was due.
    pub fn take(&mut self) -> Option<Duration> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn requests_are_due_at_the_rate_from_zero_to_the_end() {
        let mut schedule = Schedule::new(1000.0, 5 * MS);
        assert_eq!(schedule.release(Duration::ZERO), 1);
        assert_eq!(schedule.next_due(), Some(MS));
        assert_eq!(schedule.release(3 * MS), 3);
        assert_eq!(schedule.release(60 * MS), 1, "nothing is due at or after the end");
        assert_eq!(schedule.next_due(), None);
        let dues: Vec<Duration> = std::iter::from_fn(|| schedule.take()).collect();
        assert_eq!(dues, [0, 1, 2, 3, 4].map(|at| at * MS));
    }

    /// One client, one request at a time, 100 us each, and one stall of 50 ms: a closed loop would see one slow request,
    /// the truth is that fifty were late.
    #[test]
    fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
        let mut schedule = Schedule::new(1000.0, 100 * MS);
        let mut now = Duration::ZERO;
        let mut latencies = Vec::new();
        loop {
            schedule.release(now);
            let Some(due) = schedule.take() else {
                match schedule.next_due() {
                    Some(due) => now = due,
                    None => break,
                }
                continue;
            };
            now += if latencies.len() == 10 { 50 * MS } else { MS / 10 };
            latencies.push(now - due);
        }
        assert_eq!(latencies.len(), 100);
        let late = latencies.iter().filter(|&&latency| latency > 10 * MS).count();
        assert!((40..60).contains(&late), "{late} late");
        assert_eq!(latencies.iter().max(), Some(&(50 * MS)));
    }
}
