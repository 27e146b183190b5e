//! What a run found out: named numbers with a unit and a better side.
//!
//! Owns: the list of metrics, their names in JSON and CSV, how they are shown to people. Called by: everything that
//! measures, and by the tables.
//! Invariants: a metric means the same in every workload; a figure that could not be read is absent, not zero.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Which side is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// How a number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Count,
    Microseconds,
    Milliseconds,
    Mebibytes,
    Bytes,
    Fraction,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $label:literal, $unit:ident, $better:ident;)*) => {
        /// What a number means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $($(#[$doc])* $variant,)* }

        impl Metric {
            /// Every metric, in the order of tables.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant,)*];

            /// The name in JSON and CSV, with its unit.
            pub fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }

            /// The name for people, with the unit of [`Metric::show`].
            pub fn label(self) -> &'static str {
                match self { $(Metric::$variant => $label,)* }
            }

            /// Which side is better.
            pub fn better(self) -> Better {
                match self { $(Metric::$variant => Better::$better,)* }
            }

            fn unit(self) -> Unit {
                match self { $(Metric::$variant => Unit::$unit,)* }
            }
        }
    };
}

metrics! {
    /// Requests answered in the measured part, per second.
    OperationsPerS = "operations_per_s", "requests/s", Count, Higher;
    /// Watch events received per second.
    EventsPerS = "events_per_s", "events/s", Count, Higher;
    /// Mean latency.
    LatencyMean = "latency_us_mean", "mean ms", Microseconds, Lower;
    /// Median latency.
    LatencyP50 = "latency_us_p50", "p50 ms", Microseconds, Lower;
    /// 99th percentile.
    LatencyP99 = "latency_us_p99", "p99 ms", Microseconds, Lower;
    /// 99.9th percentile.
    LatencyP999 = "latency_us_p999", "p99.9 ms", Microseconds, Lower;
    /// Worst latency.
    LatencyMax = "latency_us_max", "worst ms", Microseconds, Lower;
    /// Events that were not delivered within the time for it.
    EventsMissing = "events_missing", "events undelivered", Count, Lower;
    /// Server CPU time per request, all members.
    CpuPerOperation = "server_cpu_us_per_operation", "server CPU us/request", Fraction, Lower;
    /// Server CPU time per delivered event, all members.
    CpuPerEvent = "server_cpu_us_per_event", "server CPU us/event", Fraction, Lower;
    /// Bytes that reached the disk of the data directories per request, whoever wrote them.
    DiskPerOperation = "disk_bytes_per_operation", "disk bytes/request", Bytes, Lower;
    /// Bytes charged to the server processes per request. The kernel charges a whole page-cache folio when a part of it
    /// is first dirtied, so a small write into a preallocated file may count as a megabyte that never reaches the disk.
    ChargedPerOperation = "server_charged_bytes_per_operation", "charged bytes/request", Bytes, Lower;
    /// Log syncs per request, all members, by the servers' own count.
    SyncsPerOperation = "server_syncs_per_operation", "log syncs/request", Fraction, Lower;
    /// Resident memory of all members at the end.
    Resident = "server_resident_bytes", "resident MiB", Mebibytes, Lower;
    /// Highest resident memory during the measured part, over that at its start.
    PeakExtra = "server_peak_extra_bytes", "extra MiB at the peak", Mebibytes, Lower;
    /// Writes per second that ran beside the reads that were measured.
    WritesBeside = "writes_beside_per_s", "writes/s beside", Count, Higher;
    /// Memory (pages of its own) per watcher on a shared stream.
    PerWatcher = "anonymous_bytes_per_watcher", "bytes/watcher", Bytes, Lower;
    /// Memory per stream, without its watcher.
    PerStream = "anonymous_bytes_per_stream", "bytes/stream", Bytes, Lower;
    /// Memory per connection, without its stream.
    PerConnection = "anonymous_bytes_per_connection", "bytes/connection", Bytes, Lower;
    /// Resident memory per key written.
    PerKeyResident = "resident_bytes_per_key", "resident bytes/key", Bytes, Lower;
    /// Pages of its own per key written: no cache of files in it.
    PerKeyAnonymous = "anonymous_bytes_per_key", "own memory bytes/key", Bytes, Lower;
    /// The size of the database that the server reports.
    DatabaseSize = "database_bytes", "database MiB", Mebibytes, Lower;
    /// The part of it that the server says is in use.
    DatabaseInUse = "database_in_use_bytes", "in use MiB", Mebibytes, Lower;
    /// What the data directories take on the disk, logs included.
    DirectorySize = "directory_bytes", "data directory MiB", Mebibytes, Lower;
    /// Bytes of keys and values that are live.
    LiveSize = "live_bytes", "live data MiB", Mebibytes, Lower;
    /// From the start of the process to its first linearizable answer, on an empty directory.
    StartMs = "start_ms", "first start ms", Milliseconds, Lower;
    /// The same on what it left.
    RestartMs = "restart_ms", "restart ms", Milliseconds, Lower;
    /// From the loss of the leader to the next acknowledged write.
    LeaderLossMs = "leader_loss_ms", "no writes for ms", Milliseconds, Lower;
}

impl Metric {
    /// The metric with this name.
    pub fn by_name(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// A value as people read it, in the unit of the label.
    pub fn show(self, value: f64) -> String {
        let value = match self.unit() {
            Unit::Microseconds => value / 1e3,
            Unit::Mebibytes => value / f64::from(1 << 20),
            Unit::Count | Unit::Milliseconds | Unit::Bytes | Unit::Fraction => value,
        };
        match value.abs() {
            high if high >= 100.0 => format!("{value:.0}"),
            high if high >= 10.0 => format!("{value:.1}"),
            high if high >= 0.1 || value == 0.0 => format!("{value:.2}"),
            _ => format!("{value:.4}"),
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(BTreeMap<Metric, f64>);

impl Figures {
    /// Notes a figure; one that is not a number is left out.
    pub fn set(&mut self, metric: Metric, value: f64) {
        if value.is_finite() {
            self.0.insert(metric, value);
        }
    }

    /// A figure, if it was measured.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }

    /// Takes a figure of another run over, or removes it if that has none.
    pub fn set_from(&mut self, metric: Metric, other: &Figures) {
        self.0.remove(&metric);
        self.set(metric, other.get(metric).unwrap_or(f64::NAN));
    }

    /// All figures in the order of [`Metric::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        self.0.iter().map(|(metric, value)| (*metric, *value))
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let parts: Vec<String> =
            self.iter().map(|(metric, value)| format!("{} {}", metric.show(value), metric.label())).collect();
        parts.join(", ")
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (metric, value) in self.iter() {
            map.serialize_entry(metric.name(), &value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for &metric in Metric::ALL {
            assert_eq!(Metric::by_name(metric.name()), Some(metric));
        }
    }

    #[test]
    fn figures_are_shown_in_the_unit_of_their_label() {
        assert_eq!(Metric::LatencyP50.show(2345.0), "2.35");
        assert_eq!(Metric::Resident.show(200.0 * 1024.0 * 1024.0), "200");
        assert_eq!(Metric::SyncsPerOperation.show(0.0123), "0.0123");
        assert_eq!(Metric::OperationsPerS.show(47_152.4), "47152");
    }

    #[test]
    fn json_has_names_with_units_and_no_missing_figures() {
        let mut figures = Figures::default();
        figures.set(Metric::LatencyP99, 12.0);
        figures.set(Metric::OperationsPerS, 5.5);
        figures.set(Metric::Resident, f64::NAN);
        let json = serde_json::to_string(&figures).expect("plain numbers");
        assert_eq!(json, r#"{"operations_per_s":5.5,"latency_us_p99":12.0}"#);
    }
}
