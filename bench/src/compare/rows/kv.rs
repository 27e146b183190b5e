//! Puts, transactions and reads of single keys: T1 to T8, T16.
//!
//! Called by: `compare::rows`.

use super::{AHEAD, CPU, REPORTED, Row, Size, kubernetes, row};
use crate::compare::scenario::Scenario;
use crate::data::Data;
use crate::figures::Metric;
use crate::pace::Pace;
use crate::workload::Kind;

pub(super) fn puts(size: Size) -> Vec<Row> {
    use Metric::{
        CpuPerOperation, DiskPerOperation, LatencyP50, LatencyP99, OperationsPerS, SyncsPerOperation,
    };
    let put = |clients| Scenario::Work(size.work(Kind::Put, clients));
    let mut steady = size.work(Kind::Put, 100);
    steady.timing.pace = Pace::Open { rate: 5_000.0 };
    // Long enough that the first log segment is not all there is.
    steady.timing.duration = size.duration * 6;
    vec![
        row(
            "put-1",
            "put",
            "put, 1 client",
            1,
            put(1),
            &[("T1", LatencyP50, 0.9), ("", OperationsPerS, AHEAD)],
        ),
        row(
            "put-100",
            "put",
            "put, 100 clients",
            1,
            put(100),
            &[("T2", OperationsPerS, 2.5), ("T2", CpuPerOperation, CPU)],
        ),
        row(
            "put-1000",
            "put",
            "put, 1000 clients",
            1,
            put(1000),
            &[("T3", OperationsPerS, 3.0), ("T3", CpuPerOperation, CPU)],
        ),
        row(
            "put-1-3n",
            "put-3-nodes",
            "put, 1 client",
            3,
            put(1),
            &[("T5", LatencyP50, 0.8), ("", OperationsPerS, AHEAD)],
        ),
        row(
            "put-100-3n",
            "put-3-nodes",
            "put, 100 clients",
            3,
            put(100),
            &[("T5", OperationsPerS, 2.0), ("T5", CpuPerOperation, CPU)],
        ),
        row(
            "put-1000-3n",
            "put-3-nodes",
            "put, 1000 clients",
            3,
            put(1000),
            &[("T5", OperationsPerS, 2.5), ("T5", CpuPerOperation, CPU)],
        ),
        row(
            "put-70",
            "put-paced",
            "put at 70 % of etcd's highest rate (open loop)",
            1,
            Scenario::AtShareOfEtcd(size.work(Kind::Put, 1000), 0.7),
            &[("T6", LatencyP99, 0.5)],
        ),
        row(
            "put-bytes",
            "put-paced",
            "put, 5,000 a second (open loop): what reaches the disk",
            1,
            Scenario::Work(steady),
            &[("T16", DiskPerOperation, 1.0), ("", SyncsPerOperation, REPORTED)],
        ),
    ]
}

pub(super) fn transactions(size: Size) -> Vec<Row> {
    use Metric::{CpuPerOperation, OperationsPerS};
    let txn = |kind, clients| {
        let mut options = size.work(kind, clients);
        options.shape = kubernetes(Data::Kubernetes, 10_000);
        Scenario::Work(options)
    };
    let aims = [("T4", OperationsPerS, 3.0), ("T4", CpuPerOperation, CPU)];
    vec![
        row(
            "txn-create-100",
            "txn",
            "create of Kubernetes objects, 100 clients",
            1,
            txn(Kind::TxnCreate, 100),
            &aims,
        ),
        row(
            "txn-update-100",
            "txn",
            "guarded update of Kubernetes objects, 100 clients",
            1,
            txn(Kind::TxnUpdate, 100),
            &aims,
        ),
        row(
            "txn-update-1000",
            "txn",
            "guarded update of Kubernetes objects, 1000 clients",
            1,
            txn(Kind::TxnUpdate, 1000),
            &aims,
        ),
    ]
}

pub(super) fn reads(size: Size) -> Vec<Row> {
    use Metric::{CpuPerOperation, LatencyP50, LatencyP99, OperationsPerS, WritesBeside};
    let work = |kind, clients| Scenario::Work(size.work(kind, clients));
    let mut beside = size.work(Kind::ReadsUnderWrites, 100);
    beside.shape.value_bytes = 16 << 10;
    beside.timing.pace = Pace::Open { rate: 200.0 };
    vec![
        row(
            "range-1",
            "range",
            "linearizable read, 1 client",
            1,
            work(Kind::Range, 1),
            &[("", LatencyP50, AHEAD), ("", OperationsPerS, AHEAD)],
        ),
        row(
            "range-100",
            "range",
            "linearizable read, 100 clients",
            1,
            work(Kind::Range, 100),
            &[("", OperationsPerS, AHEAD)],
        ),
        row(
            "range-1000",
            "range",
            "linearizable read, 1000 clients",
            1,
            work(Kind::Range, 1000),
            &[("T7", OperationsPerS, 3.0), ("T7", CpuPerOperation, 1.0 / 3.0)],
        ),
        row(
            "range-serializable-1000",
            "range",
            "serializable read, 1000 clients",
            1,
            work(Kind::RangeSerializable, 1000),
            &[("", OperationsPerS, REPORTED)],
        ),
        row(
            "range-1-3n",
            "range-3-nodes",
            "linearizable read, 1 client",
            3,
            work(Kind::Range, 1),
            &[("", LatencyP50, AHEAD), ("", OperationsPerS, AHEAD)],
        ),
        row(
            "range-100-3n",
            "range-3-nodes",
            "linearizable read, 100 clients",
            3,
            work(Kind::Range, 100),
            &[("", OperationsPerS, AHEAD)],
        ),
        row(
            "range-1000-3n",
            "range-3-nodes",
            "linearizable read, 1000 clients",
            3,
            work(Kind::Range, 1000),
            &[("", OperationsPerS, AHEAD)],
        ),
        row(
            "mixed-100",
            "mixed",
            "4 reads to 1 put, 100 clients",
            1,
            work(Kind::Mixed, 100),
            &[("", OperationsPerS, REPORTED)],
        ),
        row(
            "reads-under-writes",
            "mixed",
            "200 reads a second beside 100 clients that put 16 KiB values",
            1,
            Scenario::Work(beside),
            &[("T8", LatencyP99, 0.1), ("", WritesBeside, REPORTED)],
        ),
    ]
}
