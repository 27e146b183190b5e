//! Where clients leave what they did and saw.
//!
//! Owns: the run's clock, the list of records, and the switch that ends the run. Called by: load and watchers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use keelson_checker::{LeasePromise, Record, Time, WatchRecord};

use crate::clock;

/// What a run has recorded so far.
pub struct Recorder {
    start: Instant,
    stopped: AtomicBool,
    acknowledged: AtomicU64,
    compacted: AtomicU64,
    /// Operations.
    pub records: Mutex<Vec<Record>>,
    /// Watchers that have ended, one record per connection.
    pub watches: Mutex<Vec<WatchRecord>>,
    /// Promises about leases.
    pub promises: Mutex<Vec<LeasePromise>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            start: clock::now(),
            stopped: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            records: Mutex::default(),
            watches: Mutex::default(),
            promises: Mutex::default(),
        }
    }
}

impl Recorder {
    /// Nanoseconds since the run began.
    pub fn now(&self) -> Time {
        self.start.elapsed().as_nanos() as Time
    }

    /// Adds an operation.
    pub fn record(&self, record: Record) {
        if matches!(record.outcome, keelson_checker::Outcome::Ok { .. }) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.records.lock().expect("no recorder panics").push(record);
    }

    /// Operations acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Notes a compaction.
    pub fn compacted(&self, revision: i64) {
        self.compacted.fetch_max(revision as u64, Ordering::Relaxed);
    }

    /// The highest compaction.
    pub fn compaction(&self) -> i64 {
        self.compacted.load(Ordering::Relaxed) as i64
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether clients should end.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
