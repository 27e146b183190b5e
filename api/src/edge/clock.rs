//! The one place of the edge that reads a clock or waits for time to pass.
//!
//! Owns: nothing; it is a thin door to the operating system's monotonic clock, its wall clock and tokio's timers.
//! Invariants: wall time is used for certificate validity and log fields only, never to expire anything stored.
//! Called by: every other module of the edge. The edge runs on real sockets only, so it takes no simulated clock.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time.
#[allow(clippy::disallowed_methods)] // the edge's clock module; see the header
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time as the duration since the Unix epoch; zero if the machine's clock stands before it.
#[allow(clippy::disallowed_methods)] // the edge's clock module; see the header
#[must_use]
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits for `duration`.
#[allow(clippy::disallowed_methods)] // the edge's clock module; see the header
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Runs `future` for at most `duration`; `None` when the time ran out first.
pub async fn within<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(duration, future).await.ok()
}
