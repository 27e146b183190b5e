//! Latencies of the measured part of a run.
//!
//! Owns: the window of time that counts, the histogram. Called by: `load`, `watch`.
//! Invariants: a request counts as done in the window by the time of its answer, and its latency counts by the time it
//! was due: a slow answer to a request of the window is never lost because it came late.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::figures::{Figures, Metric};

/// Shared by the clients of a run; they live on one thread.
pub struct Recorder {
    /// Zero is the start of the load.
    pub clock: Clock,
    /// Begin of the window.
    pub from: Duration,
    /// End of the window.
    pub until: Duration,
    done: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
}

impl Recorder {
    /// A run that starts now, warms up and is measured then.
    pub fn new(warm_up: Duration, duration: Duration) -> Self {
        Recorder {
            clock: Clock::start(),
            from: warm_up,
            until: warm_up + duration,
            done: Cell::new(0),
            latency_us: RefCell::new(histogram()),
        }
    }

    /// Notes the answer, just received, to a request that was due at `due`.
    pub fn answered(&self, due: Duration) {
        self.note(due, self.clock.elapsed());
    }

    /// Notes an answer received at `now`.
    pub fn note(&self, due: Duration, now: Duration) {
        if now >= self.from && now < self.until {
            self.done.set(self.done.get() + 1);
        }
        if due >= self.from && due < self.until {
            self.latency_us.borrow_mut().saturating_record(now.saturating_sub(due).as_micros() as u64);
        }
    }

    /// Counts what came just now, without a latency.
    pub fn done_more(&self, count: u64) {
        let now = self.clock.elapsed();
        if now >= self.from && now < self.until {
            self.done.set(self.done.get() + count);
        }
    }

    /// Requests answered in the window so far.
    pub fn done(&self) -> u64 {
        self.done.get()
    }

    /// Latencies noted so far.
    pub fn noted(&self) -> u64 {
        self.latency_us.borrow().len()
    }

    /// Throughput and latencies.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let seconds = (self.until - self.from).as_secs_f64().max(1e-9);
        figures.set(Metric::OperationsPerS, self.done() as f64 / seconds);
        self.latencies(&mut figures);
        figures
    }

    /// Latencies alone.
    pub fn latencies(&self, figures: &mut Figures) {
        let latency = self.latency_us.borrow();
        if latency.is_empty() {
            return;
        }
        figures.set(Metric::LatencyMean, latency.mean());
        for (metric, quantile) in
            [(Metric::LatencyP50, 0.5), (Metric::LatencyP99, 0.99), (Metric::LatencyP999, 0.999)]
        {
            figures.set(metric, latency.value_at_quantile(quantile) as f64);
        }
        figures.set(Metric::LatencyMax, latency.max() as f64);
    }
}

/// Latencies from a microsecond to ten minutes with three significant digits. The upper bound is explicit because
/// recording with saturation clamps to it instead of growing.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_after_the_end_is_late_not_lost() {
        let recorder = Recorder::new(SECOND, 2 * SECOND);
        recorder.note(SECOND / 2, SECOND / 2 + SECOND / 10);
        assert_eq!((recorder.done(), recorder.noted()), (0, 0), "the warm-up counts for nothing");
        recorder.note(SECOND / 2, SECOND + SECOND / 10);
        assert_eq!((recorder.done(), recorder.noted()), (1, 0), "work done in the window, due before it");
        recorder.note(2 * SECOND, 7 * SECOND);
        assert_eq!((recorder.done(), recorder.noted()), (1, 1));
        let figures = recorder.figures();
        assert_eq!(figures.get(Metric::OperationsPerS), Some(0.5));
        let worst = figures.get(Metric::LatencyMax).expect("one latency");
        assert!((4_990_000.0..5_010_000.0).contains(&worst), "{worst}");
    }
}
