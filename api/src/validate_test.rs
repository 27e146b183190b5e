//! The rules of `validate`, one table per kind of request. Called by: nobody; compiled for tests only.

use keelson_proto::etcdserverpb::{Compare, RequestOp, TxnRequest, request_op::Request};

use super::*;
use crate::errors::*;

const OPS_MAX: usize = 128;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
}

fn delete_op(key: &'static str, range_end: &'static str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }))
}

fn range_op(key: &'static str) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: key.into(), ..Default::default() }))
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest { compare: vec![], success, failure }))
}

fn success(ops: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success: ops, ..Default::default() }
}

#[test]
fn ranges() {
    let with = |change: fn(&mut RangeRequest)| {
        let mut request = RangeRequest { key: "k".into(), ..Default::default() };
        change(&mut request);
        request
    };
    let table: [(RangeRequest, Result<(), WireError>); 8] = [
        (with(|_| ()), Ok(())),
        (with(|r| r.key = "".into()), Err(EMPTY_KEY)),
        (with(|r| r.sort_order = 3), Err(INVALID_SORT_OPTION)),
        (with(|r| r.sort_order = -1), Err(INVALID_SORT_OPTION)),
        (with(|r| r.sort_target = 5), Err(INVALID_SORT_OPTION)),
        (with(|r| r.sort_target = -7), Err(INVALID_SORT_OPTION)),
        (with(|r| r.sort_target = 4), Ok(())),
        // The key is looked at first.
        (RangeRequest { sort_order: 9, ..Default::default() }, Err(EMPTY_KEY)),
    ];
    for (request, expected) in table {
        assert_eq!(range(&request), expected, "{request:?}");
    }
}

#[test]
fn streamed_ranges() {
    let with = |change: fn(&mut RangeRequest)| {
        let mut request = RangeRequest { key: "k".into(), ..Default::default() };
        change(&mut request);
        request
    };
    let table: [(RangeRequest, Result<(), WireError>); 7] = [
        (with(|_| ()), Ok(())),
        (with(|r| r.sort_order = 1), Ok(())),
        (with(|r| r.sort_order = 2), Err(STREAM_SORT)),
        (with(|r| (r.sort_order, r.sort_target) = (1, 3)), Err(STREAM_SORT)),
        // A target without an order is accepted and means nothing.
        (with(|r| r.sort_target = 3), Ok(())),
        (with(|r| r.max_create_revision = 4), Err(STREAM_FILTERS)),
        (with(|r| (r.sort_order, r.min_mod_revision) = (2, 1)), Err(STREAM_SORT)),
    ];
    for (request, expected) in table {
        assert_eq!(range_stream(&request), expected, "{request:?}");
    }
}

#[test]
fn puts_and_deletions() {
    let request = PutRequest { key: "k".into(), value: "v".into(), lease: 1, ..Default::default() };
    assert_eq!(put(&request), Ok(()));
    assert_eq!(put(&PutRequest { key: "".into(), ignore_value: true, ..request.clone() }), Err(EMPTY_KEY));
    let both = PutRequest { ignore_value: true, ignore_lease: true, ..request.clone() };
    assert_eq!(put(&both), Err(VALUE_PROVIDED));
    assert_eq!(put(&PutRequest { value: "".into(), ..both.clone() }), Err(LEASE_PROVIDED));
    assert_eq!(put(&PutRequest { value: "".into(), lease: 0, ..both }), Ok(()));
    assert_eq!(delete_range(&DeleteRangeRequest::default()), Err(EMPTY_KEY));
}

#[test]
fn the_number_of_operations_is_limited_over_all_levels() {
    let ranges = |count: usize| vec![range_op("k"); count];
    assert_eq!(txn(&success(ranges(128)), OPS_MAX), Ok(()));
    assert_eq!(txn(&success(ranges(129)), OPS_MAX), Err(TOO_MANY_OPS));
    let failure = TxnRequest { failure: ranges(129), ..Default::default() };
    assert_eq!(txn(&failure, OPS_MAX), Err(TOO_MANY_OPS));
    let compares = TxnRequest {
        compare: vec![Compare { key: "k".into(), ..Default::default() }; 129],
        ..Default::default()
    };
    assert_eq!(txn(&compares, OPS_MAX), Err(TOO_MANY_OPS));

    // A nested level gets 128 less the widest part of its parent: here 128 - 2.
    let with_nested = |count: usize| success(vec![range_op("a"), nested(ranges(count), vec![])]);
    assert_eq!(txn(&with_nested(126), OPS_MAX), Ok(()));
    assert_eq!(txn(&with_nested(127), OPS_MAX), Err(TOO_MANY_OPS));
}

#[test]
fn parts_are_checked_in_order() {
    let empty_compare = TxnRequest {
        compare: vec![Compare::default()],
        success: vec![RequestOp { request: None }],
        ..Default::default()
    };
    assert_eq!(txn(&empty_compare, OPS_MAX), Err(EMPTY_KEY));
    assert_eq!(txn(&success(vec![RequestOp { request: None }]), OPS_MAX), Err(KEY_NOT_FOUND));
    assert_eq!(
        txn(&success(vec![nested(vec![RequestOp { request: None }], vec![])]), OPS_MAX),
        Err(KEY_NOT_FOUND)
    );
    assert_eq!(txn(&success(vec![put_op("")]), OPS_MAX), Err(EMPTY_KEY));
    // Operations of both branches are checked before either is searched for duplicates.
    let mixed = TxnRequest {
        success: vec![put_op("k"), put_op("k")],
        failure: vec![delete_op("", "")],
        ..Default::default()
    };
    assert_eq!(txn(&mixed, OPS_MAX), Err(EMPTY_KEY));
}

#[test]
fn keys_written_twice() {
    let duplicate = Err(DUPLICATE_KEY);
    let table = [
        ("two puts", vec![put_op("a"), put_op("a")], duplicate),
        ("two keys", vec![put_op("a"), put_op("b")], Ok(())),
        ("put in a deleted range", vec![put_op("b"), delete_op("a", "c")], duplicate),
        ("put at the end of a deleted range", vec![put_op("c"), delete_op("a", "c")], Ok(())),
        ("put of a deleted key", vec![delete_op("a", ""), put_op("a")], duplicate),
        ("two deletions", vec![delete_op("a", "c"), delete_op("b", "d")], Ok(())),
        ("ranges never conflict", vec![range_op("a"), put_op("a"), range_op("a")], Ok(())),
        ("deletion without end", vec![delete_op("a", "\0"), put_op("b")], Ok(())),
        ("inverted deletion", vec![delete_op("z", "a"), put_op("m")], Ok(())),
        ("nested and sibling put", vec![put_op("a"), nested(vec![put_op("a")], vec![])], duplicate),
        ("then and else share", vec![nested(vec![put_op("a")], vec![put_op("a")])], Ok(())),
        (
            "else of one, then of another",
            vec![nested(vec![], vec![put_op("a")]), nested(vec![put_op("a")], vec![])],
            duplicate,
        ),
        (
            "nested put, outer deletion",
            vec![nested(vec![put_op("a")], vec![]), delete_op("a", "")],
            duplicate,
        ),
        (
            "nested deletion, outer put",
            vec![nested(vec![delete_op("a", "b")], vec![]), put_op("a")],
            duplicate,
        ),
        (
            "nested deletion, later nested put",
            vec![nested(vec![delete_op("a", "b")], vec![]), nested(vec![], vec![put_op("a")])],
            duplicate,
        ),
        (
            "nested put, later nested deletion",
            vec![nested(vec![put_op("a")], vec![]), nested(vec![delete_op("a", "b")], vec![])],
            Ok(()),
        ),
        ("then deletes, else puts", vec![nested(vec![delete_op("a", "")], vec![put_op("a")])], Ok(())),
    ];
    for (name, ops, expected) in table {
        assert_eq!(txn(&success(ops.clone()), OPS_MAX), expected, "then: {name}");
        assert_eq!(
            txn(&TxnRequest { failure: ops, ..Default::default() }, OPS_MAX),
            expected,
            "else: {name}"
        );
    }
    let across = TxnRequest { success: vec![put_op("a")], failure: vec![put_op("a")], ..Default::default() };
    assert_eq!(txn(&across, OPS_MAX), Ok(()), "the two branches of one transaction");
}

#[test]
fn read_only_and_serializable() {
    let mut serializable = range_op("a");
    let Some(Request::RequestRange(range)) = &mut serializable.request else { unreachable!() };
    range.serializable = true;
    let check = |ops: Vec<RequestOp>| {
        let request = TxnRequest { failure: ops, ..Default::default() };
        (txn_is_read_only(&request), txn_is_serializable(&request))
    };
    assert_eq!(check(vec![]), (true, true));
    assert_eq!(check(vec![serializable.clone()]), (true, true));
    assert_eq!(check(vec![serializable.clone(), range_op("b")]), (true, false));
    assert_eq!(check(vec![serializable.clone(), put_op("b")]), (false, false));
    assert_eq!(check(vec![nested(vec![serializable], vec![])]), (false, false));
}
