//! The figures of one run, as text and as JSON.
//!
//! Owns: the meaning of each figure. Called by: `cli`, `compare`.

use std::time::Duration;

use crate::load::Measured;
use crate::usage::Usage;

/// Figures of one run against one server (or one quorum).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Requests answered.
    pub operations: u64,
    /// Length of the measured part in seconds.
    pub elapsed_s: f64,
    /// Requests per second.
    pub operations_per_s: f64,
    /// Mean latency in microseconds.
    pub latency_us_mean: f64,
    /// Median latency in microseconds.
    pub latency_us_p50: u64,
    /// 99th percentile in microseconds.
    pub latency_us_p99: u64,
    /// 99.9th percentile in microseconds.
    pub latency_us_p999: u64,
    /// Worst latency in microseconds.
    pub latency_us_max: u64,
    /// Server CPU time per request in microseconds, summed over all members; absent without their process ids.
    pub server_cpu_us_per_operation: Option<f64>,
    /// Resident memory of all members at the end, in bytes.
    pub server_resident_bytes: Option<u64>,
    /// Bytes written to the disk per request, summed over all members.
    pub server_disk_bytes_per_operation: Option<f64>,
}

impl Report {
    /// Puts the measured latencies and the difference of two readings of the servers' counters together.
    pub fn new(measured: &Measured, usage: Option<(Usage, Usage)>) -> Self {
        let per_operation = |total: f64| total / measured.operations.max(1) as f64;
        let cpu_us =
            |(before, after): (Usage, Usage)| (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6;
        let disk = |(before, after): (Usage, Usage)| {
            after.disk_write_bytes.saturating_sub(before.disk_write_bytes) as f64
        };
        let latency = &measured.latency_us;
        Report {
            operations: measured.operations,
            elapsed_s: measured.elapsed.as_secs_f64(),
            operations_per_s: measured.operations as f64
                / measured.elapsed.max(Duration::from_nanos(1)).as_secs_f64(),
            latency_us_mean: latency.mean(),
            latency_us_p50: latency.value_at_quantile(0.5),
            latency_us_p99: latency.value_at_quantile(0.99),
            latency_us_p999: latency.value_at_quantile(0.999),
            latency_us_max: latency.max(),
            server_cpu_us_per_operation: usage.map(cpu_us).map(per_operation),
            server_resident_bytes: usage.map(|(_, after)| after.resident_bytes),
            server_disk_bytes_per_operation: usage.map(disk).map(per_operation),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{:.0} requests/s, latency mean {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.operations_per_s,
            self.latency_us_mean / 1e3,
            self.latency_us_p50 as f64 / 1e3,
            self.latency_us_p99 as f64 / 1e3,
            self.latency_us_max as f64 / 1e3,
        );
        if let Some(cpu_us) = self.server_cpu_us_per_operation {
            line.push_str(&format!(", server CPU {cpu_us:.1} us/request"));
        }
        if let Some(resident_bytes) = self.server_resident_bytes {
            line.push_str(&format!(", server memory {:.0} MB", resident_bytes as f64 / 1e6));
        }
        line
    }
}
