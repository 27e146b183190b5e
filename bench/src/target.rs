//! The servers under load, seen from outside.
//!
//! Owns: connecting to them, reading what they spend between two moments. Called by: every workload.

use std::path::PathBuf;

use crate::client::{CallError, Connection};
use crate::counters::{self, Usage};
use crate::figures::{Figures, Metric};
use crate::transport::Endpoint;

/// One server or quorum.
#[derive(Clone, Default)]
pub struct Target {
    /// Where clients connect; the leader first, if that is known.
    pub endpoints: Vec<Endpoint>,
    /// Process ids of the members, where they run on this machine.
    pub pids: Vec<u32>,
    /// Data directories of the members, where they are on this machine.
    pub directories: Vec<PathBuf>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    usage: Option<Usage>,
    syncs: Option<u64>,
    disk_bytes: Option<u64>,
}

impl Target {
    /// Opens connections, spread over the members in turn.
    ///
    /// # Errors
    /// The first that fails.
    pub async fn connect(&self, connections: usize) -> Result<Vec<Connection>, CallError> {
        let mut opened = Vec::with_capacity(connections);
        for endpoint in self.endpoints.iter().cycle().take(connections.max(1)) {
            opened.push(Connection::open(endpoint).await?);
        }
        Ok(opened)
    }

    /// The counters before a measurement.
    pub async fn before(&self) -> Reading {
        let syncs = counters::syncs(&self.endpoints).await;
        counters::forget_peak(&self.pids);
        Reading { usage: self.usage(), syncs, disk_bytes: self.disk_bytes() }
    }

    /// The counters after a measurement.
    pub async fn after(&self) -> Reading {
        let usage = self.usage();
        let syncs = counters::syncs(&self.endpoints).await;
        self.flush().await;
        Reading { usage, syncs, disk_bytes: self.disk_bytes() }
    }

    /// Writes out what is dirty, so that what comes later can be told from it.
    pub async fn flush(&self) {
        if let Some(directory) = self.directories.first() {
            counters::flush(directory).await;
        }
    }

    /// All members keep their data on one disk.
    fn disk_bytes(&self) -> Option<u64> {
        counters::disk_written(self.directories.first()?)
    }

    /// Present counters of the processes; `None` if they are not known.
    pub fn usage(&self) -> Option<Usage> {
        (!self.pids.is_empty()).then(|| Usage::sum(&self.pids))
    }
}

impl Figures {
    /// Adds what the servers spent between two readings, per operation where that is the meaning.
    pub fn spent(&mut self, before: Reading, after: Reading, operations: u64) {
        let per_operation = |amount: f64| amount / operations.max(1) as f64;
        if let (Some(before), Some(after)) = (before.usage, after.usage) {
            let cpu = after.cpu.saturating_sub(before.cpu);
            let charged = after.charged_bytes.saturating_sub(before.charged_bytes);
            self.set(Metric::CpuPerOperation, per_operation(cpu.as_secs_f64() * 1e6));
            self.set(Metric::ChargedPerOperation, per_operation(charged as f64));
            self.set(Metric::Resident, after.resident_bytes as f64);
            self.set(Metric::PeakExtra, after.peak_bytes.saturating_sub(before.resident_bytes) as f64);
        }
        if let (Some(before), Some(after)) = (before.disk_bytes, after.disk_bytes) {
            self.set(Metric::DiskPerOperation, per_operation(after.saturating_sub(before) as f64));
        }
        if let (Some(before), Some(after)) = (before.syncs, after.syncs) {
            self.set(Metric::SyncsPerOperation, per_operation(after.saturating_sub(before) as f64));
        }
    }

    /// Adds what the servers spent on delivering events; puts are so few beside them that they are counted in.
    pub fn spent_on_events(&mut self, before: Reading, after: Reading, events: u64) {
        let mut spent = Figures::default();
        spent.spent(before, after, events);
        self.set(Metric::CpuPerEvent, spent.get(Metric::CpuPerOperation).unwrap_or(f64::NAN));
        for metric in [Metric::Resident, Metric::PeakExtra] {
            self.set_from(metric, &spent);
        }
    }
}
