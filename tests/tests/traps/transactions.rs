//! Transactions: duplicates, nesting, comparisons, limits.

use super::*;
use pb::compare::TargetUnion;

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

fn compare(name: &str, target: i32, result: i32, union: Option<TargetUnion>) -> pb::Compare {
    pb::Compare {
        result,
        target,
        key: name.to_owned().into(),
        range_end: Default::default(),
        target_union: union,
    }
}

#[tokio::test]
async fn one_branch_may_not_touch_a_key_twice() {
    alone(async |client| {
        let refuse = async |operations| {
            refused(txn(&client, success(operations)).await, Code::InvalidArgument, DUPLICATE)
        };
        refuse(vec![put_op("a", "1"), put_op("a", "2")]).await;
        refuse(vec![put_op("b", "1"), delete_op("a", "c")]).await;
        refuse(vec![delete_op("a", "c"), put_op("b", "1")]).await;
        refuse(vec![put_op("a", "1"), txn_op(success(vec![put_op("a", "2")]))]).await;
        refuse(vec![txn_op(success(vec![delete_op("a", "c")])), put_op("b", "1")]).await;
        refuse(vec![txn_op(success(vec![put_op("a", "1")])), txn_op(success(vec![put_op("a", "2")]))]).await;
    })
    .await;
}

#[tokio::test]
async fn different_branches_and_overlapping_deletes_may_touch_the_same_key() {
    alone(async |client| {
        let both = pb::TxnRequest {
            success: vec![put_op("a", "1")],
            failure: vec![put_op("a", "2")],
            ..Default::default()
        };
        assert!(txn(&client, both.clone()).await.is_ok());
        assert!(txn(&client, success(vec![txn_op(both)])).await.is_ok());
        assert!(txn(&client, success(vec![delete_op("a", "c"), delete_op("b", "d")])).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn an_open_ended_delete_is_not_seen_as_a_duplicate() {
    // The check takes the end "\0" for a key like any other, so the range looks empty to it.
    alone(async |client| {
        put(&client, "b", "old").await;
        let answer = txn(&client, success(vec![delete_op("a", "\0"), put_op("b", "new")])).await.unwrap();
        assert_eq!(revision(&answer.header), 3);
        let kv = range(&client, key("b")).await.unwrap().kvs.remove(0);
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (3, 3, 1, &b"new"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_value_compare_on_a_missing_key_fails_even_for_not_equal() {
    alone(async |client| {
        for result in 0..4 {
            let request = pb::TxnRequest {
                compare: vec![compare("missing", 3, result, Some(TargetUnion::Value("x".into())))],
                ..Default::default()
            };
            assert!(!txn(&client, request).await.unwrap().succeeded, "{result}");
        }
        for (target, union) in [
            (0, TargetUnion::Version(0)),
            (1, TargetUnion::CreateRevision(0)),
            (2, TargetUnion::ModRevision(0)),
            (4, TargetUnion::Lease(0)),
        ] {
            let request = pb::TxnRequest {
                compare: vec![compare("missing", target, 0, Some(union))],
                ..Default::default()
            };
            assert!(txn(&client, request).await.unwrap().succeeded, "{target}");
        }
    })
    .await;
}

#[tokio::test]
async fn all_comparisons_look_at_the_state_before_the_transaction() {
    alone(async |client| {
        let missing = compare("a", 0, 0, Some(TargetUnion::Version(0)));
        let nested = pb::TxnRequest {
            compare: vec![missing],
            success: vec![put_op("b", "then")],
            failure: vec![put_op("b", "else")],
        };
        txn(&client, success(vec![put_op("a", "1"), txn_op(nested)])).await.unwrap();
        assert_eq!(&range(&client, key("b")).await.unwrap().kvs[0].value[..], b"then");
    })
    .await;
}

#[tokio::test]
async fn operations_see_earlier_operations_and_share_one_revision() {
    alone(async |client| {
        let answer = txn(&client, success(vec![put_op("a", "1"), range_op(key("a")), put_op("b", "2")]))
            .await
            .unwrap();
        let Some(pb::response_op::Response::ResponseRange(read)) = &answer.responses[1].response else {
            panic!("a range")
        };
        assert_eq!((read.kvs[0].mod_revision, read.count), (2, 1));
        let kvs = range(&client, all()).await.unwrap().kvs;
        assert!(kvs.iter().all(|kv| kv.mod_revision == 2));
    })
    .await;
}

#[tokio::test]
async fn nested_headers_carry_the_revision_alone_or_nothing() {
    alone(async |client| {
        let nested = success(vec![put_op("b", "2")]);
        let operations = vec![put_op("a", "1"), range_op(key("a")), delete_op("x", ""), txn_op(nested)];
        let answer = txn(&client, success(operations)).await.unwrap();
        let outer = answer.header.as_ref().unwrap();
        assert!(outer.cluster_id != 0 && outer.member_id != 0 && outer.raft_term != 0);
        use pb::response_op::Response;
        let headers: Vec<Option<pb::ResponseHeader>> = answer
            .responses
            .iter()
            .map(|response| match response.response.as_ref().expect("a response") {
                Response::ResponsePut(inner) => inner.header,
                Response::ResponseRange(inner) => inner.header,
                Response::ResponseDeleteRange(inner) => inner.header,
                Response::ResponseTxn(inner) => inner.header,
            })
            .collect();
        let only = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
        // The revision is the one the operation would give alone: 2 from the first change on.
        assert_eq!(headers, [only(2), only(2), only(2), only(0)]);
    })
    .await;
}

#[tokio::test]
async fn limits_count_the_longest_list_and_shrink_with_nesting() {
    on_each(1, &["--max-txn-ops=3"], async |cluster| {
        let client = Client::lazy(&cluster.member(0).client_url());
        let many = "etcdserver: too many operations in txn request";
        let reads = |count: usize| (0..count).map(|_| range_op(key("a"))).collect::<Vec<_>>();
        assert!(txn(&client, success(reads(3))).await.is_ok());
        refused(txn(&client, success(reads(4))).await, Code::InvalidArgument, many);
        // One level uses up its own longest list: 3 - 1 are left inside.
        assert!(txn(&client, success(vec![txn_op(success(reads(2)))])).await.is_ok());
        refused(txn(&client, success(vec![txn_op(success(reads(3)))])).await, Code::InvalidArgument, many);
    })
    .await;
}

#[tokio::test]
async fn an_unset_operation_is_key_not_found_and_an_empty_key_is_not_provided() {
    alone(async |client| {
        let unset = pb::RequestOp { request: None };
        refused(txn(&client, success(vec![unset])).await, Code::InvalidArgument, "etcdserver: key not found");
        let empty = pb::TxnRequest { compare: vec![compare("", 0, 0, None)], ..Default::default() };
        refused(txn(&client, empty).await, Code::InvalidArgument, "etcdserver: key is not provided");
        refused(
            txn(&client, success(vec![put_op("", "")])).await,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        );
    })
    .await;
}

#[tokio::test]
async fn a_failing_operation_undoes_the_whole_transaction() {
    alone(async |client| {
        let with_lease = pb::PutRequest { key: "b".into(), lease: 99, ..Default::default() };
        let with_lease = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(with_lease)) };
        let answer = txn(&client, success(vec![put_op("a", "1"), with_lease])).await;
        refused(answer, Code::NotFound, "etcdserver: requested lease not found");
        let after = range(&client, all()).await.unwrap();
        assert_eq!((after.count, revision(&after.header)), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn a_read_at_a_compacted_or_future_revision_fails_the_whole_transaction() {
    // Upstream bug 18667: members that had compacted at different times answered differently.
    alone(async |client| {
        for number in 0..5 {
            put(&client, "a", &number.to_string()).await;
        }
        client.kv().compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
        let at =
            |revision| success(vec![put_op("b", "1"), range_op(pb::RangeRequest { revision, ..key("a") })]);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        refused(txn(&client, at(3)).await, Code::OutOfRange, compacted);
        refused(txn(&client, at(-1)).await, Code::OutOfRange, compacted);
        let future = "etcdserver: mvcc: required revision is a future revision";
        refused(txn(&client, at(100)).await, Code::OutOfRange, future);
        assert_eq!(range(&client, key("b")).await.unwrap().count, 0);
        assert!(txn(&client, at(4)).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn ignore_options_demand_an_empty_field_and_an_existing_key() {
    alone(async |client| {
        let put_with = async |request: pb::PutRequest| client.kv().put(request).await;
        let base = pb::PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
        refused(put_with(base.clone()).await, Code::InvalidArgument, "etcdserver: key not found");
        let both = pb::PutRequest { value: "x".into(), ..base.clone() };
        refused(put_with(both).await, Code::InvalidArgument, "etcdserver: value is provided");
        let lease = pb::PutRequest { key: "a".into(), ignore_lease: true, lease: 5, ..Default::default() };
        refused(put_with(lease).await, Code::InvalidArgument, "etcdserver: lease is provided");
        put(&client, "a", "kept").await;
        put_with(base).await.unwrap();
        let kv = range(&client, key("a")).await.unwrap().kvs.remove(0);
        assert_eq!((&kv.value[..], kv.version), (&b"kept"[..], 2));
    })
    .await;
}
