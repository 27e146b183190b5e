//! The reading half of transactions: guards, the path they choose, and what must hold before anything is written.
//!
//! Owns: evaluation order. Called by: apply, and views for transactions that only read.
//! Invariants: every guard, nested ones too, is evaluated on the state before the transaction; a failed check leaves
//! nothing behind.
//! Source: etcd 3.7 `server/etcdserver/txn/txn.go` for behaviour.

use std::cmp::Ordering;

use crate::engine::{EngineError, EngineSnapshot};
use crate::history::{Bounds, Source};
use crate::layout::RowRef;
use crate::range::{PageCounts, evaluate};
use crate::types::{
    Compare, CompareResult, CompareTarget, OpReply, RangeOptions, RangeReply, ReadError, Revision, Txn,
    TxnOp, TxnReply,
};

/// Which branch each transaction of a tree takes, in the order in which execution meets them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path {
    branches: std::collections::VecDeque<bool>,
}

impl Path {
    /// The decision for the next transaction met.
    pub(crate) fn next(&mut self) -> bool {
        self.branches.pop_front().expect("one decision per transaction of the tree")
    }
}

/// The operations of the branch taken.
pub(crate) fn branch(txn: &Txn, succeeded: bool) -> &[TxnOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Evaluates all guards on the path taken.
pub(crate) fn choose<S: EngineSnapshot>(source: &Source<'_, S>, txn: &Txn) -> Result<Path, EngineError> {
    let mut path = Path::default();
    choose_into(source, txn, &mut path)?;
    Ok(path)
}

fn choose_into<S: EngineSnapshot>(
    source: &Source<'_, S>,
    txn: &Txn,
    path: &mut Path,
) -> Result<(), EngineError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    path.branches.push_back(succeeded);
    for op in branch(txn, succeeded) {
        if let TxnOp::Txn(nested) = op {
            choose_into(source, nested, path)?;
        }
    }
    Ok(())
}

/// True if the guard holds for every key of its range; a range without keys is compared once, as a missing key.
fn holds<S: EngineSnapshot>(source: &Source<'_, S>, compare: &Compare) -> Result<bool, EngineError> {
    let (mut all, mut any) = (true, false);
    let mut check = |row: RowRef<'_>| {
        any = true;
        all = row_holds(compare, &row);
        all
    };
    if compare.range.is_single() {
        source.row_at(&compare.range.key, source.revision, &mut check)?;
    } else {
        let upper = compare.range.upper();
        let bounds = Bounds::of(&compare.range, &upper);
        source.scan(bounds, source.revision, u64::MAX, &mut |_: &[u8], row: RowRef<'_>| check(row))?;
    }
    if any {
        return Ok(all);
    }
    // A missing key has no value to compare with, so even "not equal" fails; its numbers are all 0.
    let missing = RowRef { create: 0, modified: 0, sub: 0, version: 0, lease: 0, value: &[] };
    Ok(!matches!(compare.target, CompareTarget::Value(_)) && row_holds(compare, &missing))
}

fn row_holds(compare: &Compare, row: &RowRef<'_>) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => row.version.cmp(version),
        CompareTarget::Create(revision) => row.create.cmp(revision),
        CompareTarget::Mod(revision) => row.modified.cmp(revision),
        CompareTarget::Lease(lease) => row.lease.cmp(lease),
        CompareTarget::Value(value) => row.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

/// Refuses a range whose revision cannot be read. Unlike outside a transaction, a negative revision is taken
/// literally, so it is compacted as soon as anything is.
pub(crate) fn check_range<S: EngineSnapshot>(
    source: &Source<'_, S>,
    options: &RangeOptions,
) -> Result<(), ReadError> {
    let requested = options.revision;
    if requested == 0 {
        Ok(())
    } else if requested > source.revision {
        Err(ReadError::FutureRevision { requested, current: source.revision })
    } else if requested < source.mark {
        Err(ReadError::Compacted { requested, mark: source.mark })
    } else {
        Ok(())
    }
}

/// Evaluates a transaction without writes. Gives with it the oldest revision that was read, on the path taken: the
/// other branches ask for nothing, so what they name may well be compacted.
///
/// # Errors
/// A revision that cannot be read, or an operation that writes.
pub(crate) fn evaluate_readonly<S: EngineSnapshot>(
    source: &Source<'_, S>,
    txn: &Txn,
    pages: Option<&PageCounts>,
) -> Result<(TxnReply, Revision), ReadError> {
    let mut path = choose(source, txn)?;
    let mut reading = Reading { source, pages, oldest: source.revision };
    let reply = reading.execute(txn, &mut path)?;
    Ok((reply, reading.oldest))
}

/// The evaluation of one transaction without writes.
struct Reading<'a, S> {
    source: &'a Source<'a, S>,
    pages: Option<&'a PageCounts>,
    /// The oldest revision read so far.
    oldest: Revision,
}

impl<S: EngineSnapshot> Reading<'_, S> {
    fn execute(&mut self, txn: &Txn, path: &mut Path) -> Result<TxnReply, ReadError> {
        let succeeded = path.next();
        let ops = branch(txn, succeeded).iter().map(|op| match op {
            TxnOp::Range(options) => self.range(options).map(OpReply::Range),
            TxnOp::Txn(nested) => self.execute(nested, path).map(OpReply::Txn),
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => Err(ReadError::Engine(
                "a transaction that writes was evaluated as one that only reads".into(),
            )),
        });
        Ok(TxnReply { succeeded, ops: ops.collect::<Result<_, _>>()? })
    }

    fn range(&mut self, options: &RangeOptions) -> Result<RangeReply, ReadError> {
        check_range(self.source, options)?;
        let revision = self.source.resolve(options.revision)?;
        self.oldest = self.oldest.min(revision);
        Ok(evaluate(self.source, options, revision, self.pages)?)
    }
}
