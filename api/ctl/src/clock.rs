//! The one place where the client reads clocks and lets time pass.

use std::time::{Duration, Instant};

/// A stop watch that starts when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "durations shown to a person are real ones")]
    pub(crate) fn start() -> Self {
        Clock(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Lets `duration` pass.
#[allow(clippy::disallowed_methods, reason = "a person or a period is waited for, never a state")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
