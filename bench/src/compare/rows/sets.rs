//! Lists and watches: T9 to T13.
//!
//! Called by: `compare::rows`.

use std::time::Duration;

use super::{PATTERN, REPORTED, Row, Size, kubernetes, row};
use crate::compare::scenario::Scenario;
use crate::data::{Data, Shape};
use crate::figures::Metric;
use crate::pace::Pace;
use crate::workload::Kind;

pub(super) fn lists(size: Size) -> Vec<Row> {
    use Metric::{LatencyP50, PeakExtra};
    let list = |kind, shape| {
        let mut options = size.work(kind, 1);
        options.shape = shape;
        options.timing.warm_up = Duration::ZERO;
        // A list of everything takes the better part of a second: a few of them make no median.
        options.timing.duration = size.duration * 3;
        Scenario::Work(options)
    };
    let many = Shape { key_space: size.list_keys, ..PATTERN };
    let pods = kubernetes(Data::Pods, size.pods);
    let aims = [("T10", LatencyP50, 1.0 / 3.0), ("T10", PeakExtra, 0.2)];
    vec![
        row(
            "list-pages",
            "list",
            format!("a page of 500 out of {} keys", size.list_keys),
            1,
            list(Kind::ListPages, many),
            &[("T9", LatencyP50, 0.05)],
        ),
        row(
            "list",
            "list",
            format!("all of {} Pods in one Range", size.pods),
            1,
            list(Kind::List, pods),
            &aims,
        ),
        row(
            "list-stream",
            "list",
            format!("all of {} Pods as a RangeStream", size.pods),
            1,
            list(Kind::ListStream, pods),
            &aims,
        ),
    ]
}

pub(super) fn watches(size: Size) -> Vec<Row> {
    use Metric::{CpuPerEvent, EventsPerS, LatencyP99, PerConnection, PerStream, PerWatcher};
    let mut muxed = size.work(Kind::WatchFanOut, 10);
    (muxed.streams, muxed.watchers) = (10, 100);
    let mut single = size.work(Kind::WatchFanOut, 10);
    (single.streams, single.watchers) = (1000, 1);
    let mut latency = size.work(Kind::WatchLatency, 1000);
    (latency.streams, latency.watchers) = (1000, 1);
    latency.shape.value_bytes = 30_000;
    latency.timing.pace = Pace::Open { rate: 20.0 };
    // More than etcd delivers on one core: what a server does that cannot keep up.
    let mut saturated = latency;
    saturated.timing.pace = Pace::Open { rate: 40.0 };
    let mut memory = size.work(Kind::WatcherMemory, 1);
    (memory.streams, memory.watchers, memory.connections) = (size.crowd, size.watchers, size.crowd);
    vec![
        row(
            "watch-muxed",
            "watch",
            "events of 1 key to 100 watchers on each of 10 streams",
            1,
            Scenario::Work(muxed),
            &[("T11", CpuPerEvent, 1.0 / 3.0), ("", EventsPerS, REPORTED)],
        ),
        row(
            "watch-streams",
            "watch",
            "events of 1 key to 1 watcher on each of 1000 streams",
            1,
            Scenario::Work(single),
            &[("T11", CpuPerEvent, 1.0 / 3.0), ("", EventsPerS, REPORTED)],
        ),
        row(
            "watch-latency",
            "watch",
            "20 puts of 30 kB a second to 1000 streams: put to arrival",
            1,
            Scenario::Work(latency),
            &[("", LatencyP99, REPORTED), ("", EventsPerS, REPORTED)],
        ),
        row(
            "watch-saturated",
            "watch",
            "40 puts of 30 kB a second to 1000 streams, more than etcd delivers: put to arrival",
            1,
            Scenario::Work(saturated),
            &[("T12", LatencyP99, 0.3), ("", EventsPerS, REPORTED)],
        ),
        row(
            "watcher-memory",
            "watch-memory",
            format!("{} watchers on a stream, {1} streams, {1} connections", size.watchers, size.crowd),
            1,
            Scenario::Work(memory),
            &[("T13", PerWatcher, 0.3), ("T13", PerStream, 0.2), ("T13", PerConnection, 0.5)],
        ),
    ]
}
