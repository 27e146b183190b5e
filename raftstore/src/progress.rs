//! An index that only grows (durable, applied) and tasks that wait for it to reach a value.
//!
//! Owns: the value and the waiters. Called by: `log_store::durable` (set by the WAL's thread), `state_machine`
//! (applied), reads that wait for their index.
//! Invariants: a waiter is woken once, by the advance that reaches its target, in order of target; waiting for what is
//! already reached costs one atomic load. A watch channel would wake every waiter at every advance, and tokio's in an
//! order that differs from run to run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Fewer waiters than this are not worth a sweep.
const SWEEP_MIN: usize = 1024;

/// A growing index. 0 = nothing yet, so it counts entries: the entry at index `i` is reached at `i + 1`.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// By target and order of arrival.
    by_target: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    arrivals: u64,
    /// Who gave up is looked for at this size, twice what was left the last time.
    sweep_at: usize,
}

impl Progress {
    /// Starts with everything before index `next` reached.
    pub fn starting_at(next: u64) -> Self {
        let progress = Progress::default();
        progress.shared.next.store(next, Ordering::Release);
        progress
    }

    /// First index not reached.
    pub fn next(&self) -> u64 {
        self.shared.next.load(Ordering::Acquire)
    }

    /// Everything before `next` is reached now. Going back is allowed through [`Progress::reset`] only.
    pub fn advance(&self, next: u64) {
        let before = self.shared.next.fetch_max(next, Ordering::AcqRel);
        if next <= before {
            return;
        }
        let woken = {
            let mut waiters = self.shared.waiters.lock();
            if waiters.by_target.is_empty() {
                return;
            }
            let later = waiters.by_target.split_off(&(next + 1, 0));
            std::mem::replace(&mut waiters.by_target, later)
        };
        for waiter in woken.into_values() {
            let _ = waiter.send(());
        }
    }

    /// Sets the value whatever it was: the log was cut.
    pub fn reset(&self, next: u64) {
        self.shared.next.store(next, Ordering::Release);
    }

    /// Waits until everything before `next` is reached.
    ///
    /// # Cancel safety
    /// A dropped wait leaves an entry behind for a while.
    pub async fn wait(&self, next: u64) {
        loop {
            let reached = {
                if self.next() >= next {
                    return;
                }
                let mut waiters = self.shared.waiters.lock();
                // Again under the lock: an advance in between found no waiter.
                if self.next() >= next {
                    return;
                }
                let (sender, reached) = oneshot::channel();
                let arrival = waiters.arrivals;
                waiters.arrivals += 1;
                waiters.by_target.insert((next, arrival), sender);
                if waiters.by_target.len() > waiters.sweep_at.max(SWEEP_MIN) {
                    waiters.by_target.retain(|_, waiter| !waiter.is_closed());
                    waiters.sweep_at = 2 * waiters.by_target.len();
                }
                reached
            };
            let _ = reached.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn waiters_wake_when_their_target_is_reached_and_not_before() {
        let progress = Progress::default();
        let mut three = Box::pin(progress.wait(3));
        let mut five = Box::pin(progress.wait(5));
        assert!(three.as_mut().now_or_never().is_none());
        assert!(five.as_mut().now_or_never().is_none());
        progress.advance(2);
        assert!(three.as_mut().now_or_never().is_none());
        progress.advance(4);
        assert!(three.as_mut().now_or_never().is_some());
        assert!(five.as_mut().now_or_never().is_none());
        progress.advance(9);
        assert!(five.as_mut().now_or_never().is_some());
        assert!(progress.wait(9).now_or_never().is_some());
    }

    #[test]
    fn who_gave_up_is_forgotten() {
        let progress = Progress::default();
        for _ in 0..10 * SWEEP_MIN {
            assert!(progress.wait(7).now_or_never().is_none());
        }
        assert!(progress.shared.waiters.lock().by_target.len() <= SWEEP_MIN + 1);
    }

    #[test]
    fn a_value_never_goes_back_by_advancing() {
        let progress = Progress::starting_at(7);
        progress.advance(3);
        assert_eq!(progress.next(), 7);
        progress.reset(3);
        assert_eq!(progress.next(), 3);
    }
}
