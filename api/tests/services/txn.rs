//! Transactions: what the services add to the store's own rules.

use keelson_api::errors;
use keelson_proto::etcdserverpb::{
    self as pb, Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, compare::TargetUnion,
    request_op::Request, response_op::Response,
};
use keelson_raftstore::consensus::{ReadIndexError, TimeoutCause};

use crate::kit::*;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &'static str, value: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.into(), value: value.into(), ..Default::default() }))
}

fn get(key: &'static str) -> RequestOp {
    op(Request::RequestRange(range(key, "")))
}

fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }))
}

fn revision_of(response: &pb::ResponseOp) -> pb::ResponseHeader {
    match response.response.as_ref().unwrap() {
        Response::ResponseRange(range) => range.header.unwrap(),
        Response::ResponsePut(put) => put.header.unwrap(),
        Response::ResponseDeleteRange(delete) => delete.header.unwrap(),
        Response::ResponseTxn(txn) => txn.header.unwrap(),
    }
}

#[tokio::test]
async fn operations_carry_the_revision_they_saw() {
    let member = Member::alone().await;
    member.put("a", "0").await;
    let request = TxnRequest {
        success: vec![get("a"), put("a", "1"), get("a"), delete("x", "")],
        ..Default::default()
    };
    let response = member.kv().txn(request).await.unwrap().into_inner();
    assert_eq!((response.header, response.succeeded), (member.header(3), true));
    let headers: Vec<_> = response.responses.iter().map(revision_of).collect();
    let revisions: Vec<_> = headers.iter().map(|header| header.revision).collect();
    assert_eq!(revisions, [2, 3, 3, 3]);
    assert!(
        headers.iter().all(|header| (header.cluster_id, header.member_id, header.raft_term) == (0, 0, 0))
    );
    let Some(Response::ResponseRange(seen)) = &response.responses[2].response else { panic!() };
    assert_eq!(seen.kvs[0].value.as_ref(), b"1", "an operation sees what came before it");
}

#[tokio::test]
async fn a_nested_transaction_has_an_empty_header() {
    let member = Member::alone().await;
    let nested = op(Request::RequestTxn(TxnRequest { success: vec![put("b", "1")], ..Default::default() }));
    let request = TxnRequest { success: vec![nested, get("b")], ..Default::default() };
    let response = member.kv().txn(request).await.unwrap().into_inner();
    assert_eq!(revision_of(&response.responses[0]), pb::ResponseHeader::default());
    assert_eq!(revision_of(&response.responses[1]).revision, 2);
}

#[tokio::test]
async fn the_failed_branch_and_nothing_at_all() {
    let member = Member::alone().await;
    let missing = Compare {
        result: 3,
        target: 3,
        key: "a".into(),
        target_union: Some(TargetUnion::Value("x".into())),
        ..Default::default()
    };
    let request = TxnRequest { compare: vec![missing], success: vec![put("a", "1")], failure: vec![] };
    let response = member.kv().txn(request).await.unwrap().into_inner();
    assert!(!response.succeeded, "a missing key has no value to differ");
    assert_eq!(response.header, member.header(1), "an empty branch takes no revision");
}

#[tokio::test]
async fn reading_transactions_never_enter_the_log() {
    let member = Member::alone().await;
    member.put("a", "1").await;
    let before = member.control().proposed.len();
    let request = TxnRequest { success: vec![get("a")], failure: vec![get("b")], ..Default::default() };
    let response = member.kv().txn(request.clone()).await.unwrap().into_inner();
    assert_eq!(response.header, member.header(2));
    assert_eq!(revision_of(&response.responses[0]).revision, 2);

    member.control().read_index = Some(ReadIndexError::Timeout(TimeoutCause::Plain));
    assert_error(member.kv().txn(request).await, errors::TIMEOUT);
    let local = op(Request::RequestRange(pb::RangeRequest { serializable: true, ..range("a", "") }));
    let request = TxnRequest { success: vec![local], ..Default::default() };
    member.kv().txn(request).await.unwrap();
    assert_eq!(member.control().proposed.len(), before);

    let future =
        op(Request::RequestRange(pb::RangeRequest { revision: 99, serializable: true, ..range("a", "") }));
    let request = TxnRequest { success: vec![future], ..Default::default() };
    assert_error(member.kv().txn(request).await, errors::FUTURE_REVISION);
}

#[tokio::test]
async fn put_and_deletion_of_one_key_where_etcd_allows_them() {
    let member = Member::alone().await;
    // A deletion without an end conflicts with nothing: the put comes first here, so the key is gone afterwards.
    let request = TxnRequest { success: vec![put("k", "1"), delete("a", "\0")], ..Default::default() };
    let response = member.kv().txn(request).await.unwrap().into_inner();
    assert_eq!(response.header, member.header(2));
    assert_eq!(member.get("k").await.count, 0);
    let request = TxnRequest { success: vec![delete("a", "\0"), put("k", "2")], ..Default::default() };
    member.kv().txn(request).await.unwrap();
    let kv = &member.get("k").await.kvs[0];
    assert_eq!((kv.value.as_ref(), kv.version, kv.create_revision), (&b"2"[..], 1, 3));
}

#[tokio::test]
async fn rules_are_checked_before_anything_is_proposed() {
    let member = Member::alone().await;
    let table = [
        (vec![put("a", "1"), put("a", "2")], errors::DUPLICATE_KEY),
        (vec![RequestOp { request: None }], errors::KEY_NOT_FOUND),
        (vec![put("", "1")], errors::EMPTY_KEY),
        (vec![get("a"); 129], errors::TOO_MANY_OPS),
    ];
    for (ops, expected) in table {
        assert_error(member.kv().txn(TxnRequest { success: ops, ..Default::default() }).await, expected);
    }
    assert!(member.control().proposed.is_empty());
}
