//! Between the words of the store and those of the checker.
//!
//! Owns: the translation, nothing else. Called by: clients and watchers.

use keelson_checker as checker;
use keelson_mvcc::types as store;

pub(crate) fn key_value(kv: &store::KeyValue) -> checker::KeyValue {
    checker::KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(crate) fn event(event: &store::Event, prev_kv: bool) -> checker::Event {
    let kind = match event.kind {
        store::EventKind::Put => checker::EventKind::Put,
        store::EventKind::Delete => checker::EventKind::Delete,
    };
    let prev = event.prev.as_ref().filter(|_| prev_kv).map(key_value);
    checker::Event { kind, kv: key_value(&event.kv), prev }
}

fn range(range: &checker::KeyRange) -> store::KeyRange {
    store::KeyRange { key: range.key.clone(), end: range.end.clone() }
}

fn put(put: &checker::Put) -> store::Put {
    store::Put {
        key: put.key.clone(),
        value: put.value.clone(),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ..store::Put::default()
    }
}

fn delete(delete: &checker::Delete) -> store::DeleteRange {
    store::DeleteRange { range: range(&delete.range), prev_kv: delete.prev_kv }
}

pub(crate) fn range_options(asked: &checker::Range) -> store::RangeOptions {
    store::RangeOptions {
        range: range(&asked.range),
        limit: asked.limit as i64,
        revision: asked.revision,
        ..store::RangeOptions::default()
    }
}

fn txn_op(operation: &checker::Operation) -> store::TxnOp {
    match operation {
        checker::Operation::Put(asked) => store::TxnOp::Put(put(asked)),
        checker::Operation::Delete(asked) => store::TxnOp::DeleteRange(delete(asked)),
        checker::Operation::Range(asked) => store::TxnOp::Range(range_options(asked)),
        checker::Operation::Txn(inner) => store::TxnOp::Txn(txn(inner)),
        checker::Operation::LeaseRevoke(_) | checker::Operation::Other => {
            unreachable!("not part of a transaction")
        }
    }
}

fn txn(txn: &checker::Txn) -> store::Txn {
    store::Txn {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(txn_op).collect(),
        failure: txn.failure.iter().map(txn_op).collect(),
    }
}

fn compare(compare: &checker::Compare) -> store::Compare {
    use checker::{CompareResult, CompareTarget};
    let target = match &compare.target {
        CompareTarget::Version(version) => store::CompareTarget::Version(*version),
        CompareTarget::Create(revision) => store::CompareTarget::Create(*revision),
        CompareTarget::Mod(revision) => store::CompareTarget::Mod(*revision),
        CompareTarget::Value(value) => store::CompareTarget::Value(value.clone()),
        CompareTarget::Lease(lease) => store::CompareTarget::Lease(*lease),
    };
    let result = match compare.result {
        CompareResult::Equal => store::CompareResult::Equal,
        CompareResult::Greater => store::CompareResult::Greater,
        CompareResult::Less => store::CompareResult::Less,
        CompareResult::NotEqual => store::CompareResult::NotEqual,
    };
    store::Compare { range: range(&compare.range), result, target }
}

/// The command of a write.
pub(crate) fn command(operation: &checker::Operation) -> store::Command {
    match operation {
        checker::Operation::Put(asked) => store::Command::Put(put(asked)),
        checker::Operation::Delete(asked) => store::Command::DeleteRange(delete(asked)),
        checker::Operation::Txn(asked) => store::Command::Txn(txn(asked)),
        checker::Operation::LeaseRevoke(id) => store::Command::LeaseRevoke { id: *id, term: None },
        checker::Operation::Range(_) | checker::Operation::Other => unreachable!("not a write of keys"),
    }
}

pub(crate) fn range_response(reply: &store::RangeReply) -> checker::Response {
    checker::Response::Range {
        kvs: reply.kvs.iter().map(key_value).collect(),
        more: reply.more,
        count: reply.count as usize,
    }
}

fn op_response(reply: &store::OpReply) -> checker::Response {
    match reply {
        store::OpReply::Range(reply) => range_response(reply),
        store::OpReply::Put { prev } => checker::Response::Put { prev: prev.as_ref().map(key_value) },
        store::OpReply::DeleteRange { deleted, prev } => checker::Response::Delete {
            deleted: *deleted as usize,
            prev: prev.iter().map(key_value).collect(),
        },
        store::OpReply::Txn(reply) => txn_response(reply),
    }
}

fn txn_response(reply: &store::TxnReply) -> checker::Response {
    checker::Response::Txn {
        succeeded: reply.succeeded,
        responses: reply.ops.iter().map(op_response).collect(),
    }
}

/// The answer to a command.
pub(crate) fn response(outcome: &store::Outcome) -> checker::Response {
    match outcome {
        store::Outcome::Put { prev } => checker::Response::Put { prev: prev.as_ref().map(key_value) },
        store::Outcome::DeleteRange { deleted, prev } => checker::Response::Delete {
            deleted: *deleted as usize,
            prev: prev.iter().map(key_value).collect(),
        },
        store::Outcome::Txn(reply) => txn_response(reply),
        store::Outcome::LeaseRevoke => checker::Response::LeaseRevoke,
        _ => checker::Response::Other,
    }
}
