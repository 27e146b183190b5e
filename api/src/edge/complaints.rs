//! Bounds the log lines about what clients do: an attack, or a slow disk, must not fill the disk.
//!
//! Owns: [`Complaints`]. Invariant: at most ten lines in a second, and the next one tells how many were left out.
//! Called by: the listener about refused connections, the metrics about slow requests.

use std::time::Duration;

use crate::edge::clock;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Complaints(parking_lot::Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    started: Option<std::time::Instant>,
    said: u32,
    suppressed: u64,
}

impl Complaints {
    const PER_SECOND: u32 = 10;

    /// Calls `log` with the number of lines left out since the last one, or counts this one as left out.
    pub(crate) fn say(&self, log: impl FnOnce(u64)) {
        let suppressed = {
            let now = clock::now();
            let mut window = self.0.lock();
            let fresh = window.started.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1));
            if fresh {
                window.started = Some(now);
                window.said = 0;
            }
            if window.said >= Self::PER_SECOND {
                window.suppressed += 1;
                return;
            }
            window.said += 1;
            std::mem::take(&mut window.suppressed)
        };
        log(suppressed);
    }
}
