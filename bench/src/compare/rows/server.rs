//! What a server takes and how it starts, stops and is replaced: T14, T15, T17 to T20.
//!
//! Called by: `compare::rows`.

use std::time::Duration;

use super::{PATTERN, REPORTED, Row, Size, kubernetes, row};
use crate::compare::scenario::Scenario;
use crate::data::{Data, Shape};
use crate::figures::Metric;
use crate::workload::{Kind, Options};

pub(super) fn storage(size: Size) -> Vec<Row> {
    use Metric::{DatabaseSize, DirectorySize, PerKeyAnonymous, PerKeyResident, Resident};
    let mut keys = size.work(Kind::KeyMemory, 1);
    keys.shape = Shape { key_bytes: 64, key_space: size.counted_keys, ..PATTERN };
    let mut objects = size.work(Kind::Churn, 1);
    objects.shape = kubernetes(Data::Kubernetes, size.churn_keys);
    let mut pattern = size.work(Kind::Churn, 1);
    pattern.shape = Shape { key_space: size.churn_keys, value_bytes: 1024, ..PATTERN };
    vec![
        row(
            "key-memory",
            "memory",
            format!(
                "the second {} of {} keys of 64 bytes with values of 256",
                size.counted_keys / 2,
                size.counted_keys
            ),
            1,
            Scenario::Work(keys),
            &[("T14", PerKeyResident, 0.4), ("", PerKeyAnonymous, REPORTED), ("", Resident, REPORTED)],
        ),
        row(
            "churn-kubernetes",
            "churn",
            format!("{} Kubernetes objects written 10 times, then compacted", size.churn_keys),
            1,
            Scenario::Work(objects),
            &[("T15", DatabaseSize, 0.4), ("", DirectorySize, REPORTED)],
        ),
        row(
            "churn-pattern",
            "churn",
            format!("{} half-random values of 1 KiB written 10 times, then compacted", size.churn_keys),
            1,
            Scenario::Work(pattern),
            &[("", DatabaseSize, REPORTED), ("", DirectorySize, REPORTED)],
        ),
    ]
}

pub(super) fn lifecycle(size: Size) -> Vec<Row> {
    use Metric::{CpuPerOperation, LeaderLossMs, OperationsPerS, Resident, RestartMs, StartMs};
    let mut load = size.work(Kind::Put, 100);
    load.timing.duration = Duration::from_secs(60);
    let few = Options { fill: false, ..load };
    let many = Options { shape: Shape { key_space: size.many_keys, ..PATTERN }, ..load };
    let keep_alive = Scenario::Work(size.work(Kind::LeaseKeepAlive, 1000));
    vec![
        row(
            "idle",
            "start",
            "an empty node after its start",
            1,
            Scenario::Idle(size.settle.max(Duration::from_secs(3))),
            &[("T18", Resident, 0.6), ("", StartMs, REPORTED)],
        ),
        row(
            "restart-empty",
            "start",
            "restart of an empty node after SIGKILL",
            1,
            Scenario::Restart(None),
            &[("T17", RestartMs, 0.2)],
        ),
        row(
            "restart-load",
            "start",
            "restart after SIGKILL in the first second of load",
            1,
            Scenario::Restart(Some(few)),
            &[("T17", RestartMs, 0.2)],
        ),
        row(
            "restart-keys",
            "start",
            format!("restart after SIGKILL under load, {} keys", size.many_keys),
            1,
            Scenario::Restart(Some(many)),
            &[("T17", RestartMs, 0.3), ("", Resident, REPORTED)],
        ),
        row(
            "lease-keep-alive",
            "lease",
            "keep-alives, 1000 clients",
            1,
            keep_alive,
            &[("T19", OperationsPerS, 2.0), ("", CpuPerOperation, REPORTED)],
        ),
        row(
            "leader-kill",
            "leader",
            "the leader is killed (SIGKILL)",
            3,
            Scenario::LeaderLoss { gently: false },
            &[("T20", LeaderLossMs, 1.0)],
        ),
        row(
            "leader-stop",
            "leader",
            "the leader is stopped (SIGTERM)",
            3,
            Scenario::LeaderLoss { gently: true },
            &[("", LeaderLossMs, REPORTED)],
        ),
    ]
}
