//! The one place where the load generator reads the monotonic clock.

use std::time::{Duration, Instant};

/// A stop watch that starts when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    #[allow(clippy::disallowed_methods, reason = "measuring real time is what this crate is for")]
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Sleeps until `due` after the start; returns at once if that has passed. May be a millisecond late.
    #[allow(clippy::disallowed_methods, reason = "a load runs by the clock")]
    pub async fn sleep_until(&self, due: Duration) {
        let now = self.elapsed();
        if due > now {
            tokio::time::sleep(due - now).await;
        }
    }

    /// Waits until `due` after the start to the microsecond: the runtime's timer counts milliseconds, so the last two
    /// are spent looking at the clock between other tasks.
    pub async fn reach(&self, due: Duration) {
        const TIMER_STEP: Duration = Duration::from_millis(2);
        self.sleep_until(due.saturating_sub(TIMER_STEP)).await;
        while self.elapsed() < due {
            tokio::task::yield_now().await;
        }
    }
}

/// Lets `duration` pass.
pub async fn pause(duration: Duration) {
    Clock::start().sleep_until(duration).await;
}
