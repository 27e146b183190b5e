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

    /// Sleeps until `due` after the start; returns at once if that has passed.
    #[allow(clippy::disallowed_methods, reason = "an open loop sends by the clock")]
    pub async fn sleep_until(&self, due: Duration) {
        let now = self.elapsed();
        if due > now {
            tokio::time::sleep(due - now).await;
        }
    }
}
