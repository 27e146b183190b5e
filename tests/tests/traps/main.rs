//! Named tests for the traps of the etcd API: each records what real etcd 3.7.3 does and holds the server under test to it.
//!
//! `cargo test -p keelson-tests --test traps`. Every test runs against etcd first: an expectation that etcd does not meet is
//! a wrong expectation. One file per group.

mod auth;
mod auth_table;
mod cluster_api;
mod compaction;
mod gateway;
mod http_endpoints;
mod leases;
mod locks;
mod maintenance;
mod ranges;
mod transactions;
mod upstream_bugs;
mod watches;

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::missing::{Feature, lacks};
use tonic::{Code, Status};

/// A test that takes longer is stuck.
const TEST_WAIT: Duration = Duration::from_secs(60);

/// Runs `test` on a fresh cluster of each server.
async fn on_each(size: usize, flags: &[&str], test: impl AsyncFn(&Cluster)) {
    for kind in Kind::each(&[]) {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let options = Options::new(kind, size).quick().flag("--log-level=error").flag_all(&flags);
        let cluster = Cluster::start(options).await.expect("the servers start");
        println!("{kind:?}");
        let ended = tokio::time::timeout(TEST_WAIT, test(&cluster)).await;
        assert!(ended.is_ok(), "{kind:?}: no end within {TEST_WAIT:?}");
    }
}

/// Like [`alone`], for servers that have the feature.
async fn alone_with(feature: Feature, test: impl AsyncFn(Client)) {
    on_each(1, &[], async |cluster| {
        if !lacks(cluster, feature).await {
            test(Client::for_streams(&cluster.member(0).client_url())).await;
        }
    })
    .await;
}

/// Runs `test` with a client of a fresh single server of each kind.
async fn alone(test: impl AsyncFn(Client)) {
    on_each(1, &[], async |cluster| test(Client::for_streams(&cluster.member(0).client_url())).await).await;
}

/// A put; returns the header's revision.
async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let request =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    revision(&client.kv().put(request).await.expect("a put").into_inner().header)
}

/// Deletes one key; returns the header's revision.
async fn delete(client: &Client, key: &str) -> i64 {
    let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    revision(&client.kv().delete_range(request).await.expect("a delete").into_inner().header)
}

/// A range read.
async fn range(client: &Client, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
    client.kv().range(request).await.map(tonic::Response::into_inner)
}

/// A request for a key.
fn key(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// A request for everything.
fn all() -> pb::RangeRequest {
    pb::RangeRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        ..Default::default()
    }
}

fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

/// Asserts an error by code and text.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.expect_err("an error");
    assert_eq!((status.code(), status.message()), (code, message));
}

/// A put inside a transaction.
fn put_op(key: &str, value: &str) -> pb::RequestOp {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

/// A delete inside a transaction.
fn delete_op(key: &str, range_end: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        prev_kv: false,
    };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) }
}

/// A read inside a transaction.
fn range_op(request: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(request)) }
}

/// A transaction inside a transaction.
fn txn_op(request: pb::TxnRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(request)) }
}

/// A transaction.
async fn txn(client: &Client, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
    client.kv().txn(request).await.map(tonic::Response::into_inner)
}

/// A transaction without conditions.
fn success(operations: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success: operations, ..Default::default() }
}
