//! Milliseconds since a member started, from the runtime's monotonic clock.
//!
//! Owns: the only place of this crate that asks for the time. Called by: deadlines, contact and stall tracking.
//! Invariant: never goes back; simulated under simulation. Nothing replicated depends on it.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant;
use openraft::async_runtime::AsyncRuntime;

/// Reads the clock; shareable, and free of the runtime's type.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// Starts at 0 now.
    pub fn start<RT: AsyncRuntime>() -> Self {
        let start = RT::Instant::now();
        Clock(Arc::new(move || RT::Instant::now().saturating_duration_since(start).as_millis() as u64))
    }

    /// A clock that shows what the test says.
    #[cfg(test)]
    pub(crate) fn by_hand(now_ms: Arc<std::sync::atomic::AtomicU64>) -> Self {
        Clock(Arc::new(move || now_ms.load(std::sync::atomic::Ordering::Relaxed)))
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

/// A duration as the milliseconds used here.
pub(crate) fn ms(duration: Duration) -> u64 {
    duration.as_millis().min(u64::MAX as u128) as u64
}
