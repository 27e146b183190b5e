//! Real time for tests of real processes: the one module of this crate that may read the clock and sleep.
//!
//! Owns: deadlines and polling. Invariant: sleeping is only the pause between two looks at a state, never a wait by itself.
//! Called by: everything here.

use std::future::Future;
use std::time::{Duration, Instant};

/// The pause between two looks at a state that is waited for.
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// A moment after which waiting is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// The current moment.
#[allow(clippy::disallowed_methods)] // Real processes live in real time.
pub fn now() -> Instant {
    Instant::now()
}

impl Deadline {
    /// The moment `wait` from now.
    pub fn after(wait: Duration) -> Self {
        Self(now() + wait)
    }

    /// Whether the moment has come.
    pub fn passed(self) -> bool {
        now() >= self.0
    }

    /// The time left, zero once passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }
}

/// Pauses between two looks at a state, on the runtime.
#[allow(clippy::disallowed_methods)] // See the module's invariant.
pub async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Pauses between two looks at a state, on the calling thread.
#[allow(clippy::disallowed_methods)] // See the module's invariant.
pub fn pause_thread(length: Duration) {
    std::thread::sleep(length);
}

/// Looks at a state until it is there; the last look's complaint is the error.
///
/// # Errors
/// What `look` last returned, once `wait` is over.
pub async fn until<T, E, F, Fut>(wait: Duration, mut look: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = Deadline::after(wait);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if deadline.passed() => return Err(error),
            Err(_) => pause(POLL_PAUSE).await,
        }
    }
}
