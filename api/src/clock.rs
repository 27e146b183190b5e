//! The port for time: the only module of this crate that reads a clock or sleeps.
//!
//! Owns: [`Clock`] and the real one. Called by: the lease manager, the quota, timeouts. Invariants: `now` is monotonic
//! and never derived from wall time; leases are timed by it alone.

use std::{future::Future, pin::Pin, time::Duration};

/// A future that completes when a time has passed.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Monotonic time, wall time and waiting.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment in the past.
    fn now(&self) -> Duration;
    /// Wall time in milliseconds since 1970: used to make identifiers unlikely to repeat, never to decide anything.
    fn unix_ms(&self) -> u64;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The clock of a real node.
#[derive(Clone, Debug)]
pub struct TokioClock {
    started: tokio::time::Instant,
}

impl TokioClock {
    /// Starts counting now.
    pub fn new() -> Self {
        TokioClock { started: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        TokioClock::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    #[allow(clippy::disallowed_methods)] // The one place of this crate that may: see the module's first line.
    fn unix_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |elapsed| elapsed.as_millis() as u64)
    }

    #[allow(clippy::disallowed_methods)]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Waits for `future` at most `timeout`; `None` when the time ran out first.
pub(crate) async fn within<F: Future>(clock: &dyn Clock, timeout: Duration, future: F) -> Option<F::Output> {
    let sleep = clock.sleep(timeout);
    tokio::pin!(future);
    tokio::select! {
        biased;
        output = &mut future => Some(output),
        () = sleep => None,
    }
}
