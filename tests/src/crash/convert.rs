//! Between protobuf messages and the checker's types.
//!
//! Owns: the translation, nothing else.

use keelson_checker::{
    Compare, CompareResult, CompareTarget, Event, EventKind, KeyValue, Operation, Response, Txn,
};
use keelson_proto::{etcdserverpb as pb, mvccpb};

/// A key-value.
pub fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    // Copied: a slice would keep the whole response in memory for the length of the run.
    KeyValue {
        key: bytes::Bytes::copy_from_slice(&kv.key),
        value: bytes::Bytes::copy_from_slice(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event.
pub fn event(event: &mvccpb::Event) -> Event {
    let kind = if event.r#type == mvccpb::event::EventType::Delete as i32 {
        EventKind::Delete
    } else {
        EventKind::Put
    };
    let kv = event.kv.as_ref().map(key_value).unwrap_or_default();
    Event { kind, kv, prev: event.prev_kv.as_ref().map(key_value) }
}

/// The request for an operation of the key-value service inside a transaction.
pub fn request_op(operation: &Operation) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match operation {
        Operation::Put(put) => Request::RequestPut(pb::PutRequest {
            key: put.key.clone(),
            value: put.value.clone(),
            lease: put.lease,
            prev_kv: put.prev_kv,
            ..Default::default()
        }),
        Operation::Delete(delete) => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: delete.range.key.clone(),
            range_end: delete.range.end.clone(),
            prev_kv: delete.prev_kv,
        }),
        Operation::Range(range) => Request::RequestRange(pb::RangeRequest {
            key: range.range.key.clone(),
            range_end: range.range.end.clone(),
            limit: range.limit as i64,
            revision: range.revision,
            ..Default::default()
        }),
        Operation::Txn(inner) => Request::RequestTxn(txn(inner)),
        Operation::LeaseRevoke(_) | Operation::Other => unreachable!("not part of a transaction"),
    };
    pb::RequestOp { request: Some(request) }
}

/// The request for a transaction.
pub fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(request_op).collect(),
        failure: txn.failure.iter().map(request_op).collect(),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::TargetUnion;
    let (target, union) = match &compare.target {
        CompareTarget::Version(version) => (0, TargetUnion::Version(*version)),
        CompareTarget::Create(revision) => (1, TargetUnion::CreateRevision(*revision)),
        CompareTarget::Mod(revision) => (2, TargetUnion::ModRevision(*revision)),
        CompareTarget::Value(value) => (3, TargetUnion::Value(value.clone())),
        CompareTarget::Lease(lease) => (4, TargetUnion::Lease(*lease)),
    };
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    };
    pb::Compare {
        result,
        target,
        key: compare.range.key.clone(),
        range_end: compare.range.end.clone(),
        target_union: Some(union),
    }
}

/// The answer to a put.
pub fn put_response(answer: &pb::PutResponse) -> Response {
    Response::Put { prev: answer.prev_kv.as_ref().map(key_value) }
}

/// The answer to a delete.
pub fn delete_response(answer: &pb::DeleteRangeResponse) -> Response {
    Response::Delete {
        deleted: answer.deleted as usize,
        prev: answer.prev_kvs.iter().map(key_value).collect(),
    }
}

/// The answer to a range.
pub fn range_response(answer: &pb::RangeResponse) -> Response {
    Response::Range {
        kvs: answer.kvs.iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count as usize,
    }
}

/// The answer to a transaction.
pub fn txn_response(answer: &pb::TxnResponse) -> Response {
    use pb::response_op::Response as Union;
    let responses = answer.responses.iter().map(|response| match &response.response {
        Some(Union::ResponsePut(inner)) => put_response(inner),
        Some(Union::ResponseDeleteRange(inner)) => delete_response(inner),
        Some(Union::ResponseRange(inner)) => range_response(inner),
        Some(Union::ResponseTxn(inner)) => txn_response(inner),
        None => Response::Other,
    });
    Response::Txn { succeeded: answer.succeeded, responses: responses.collect() }
}
