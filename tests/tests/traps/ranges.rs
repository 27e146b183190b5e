//! Revisions, ranges, counts and orders.

use super::*;

#[tokio::test]
async fn the_first_write_of_a_fresh_store_is_revision_2() {
    alone(async |client| {
        assert_eq!(revision(&range(&client, key("a")).await.unwrap().header), 1);
        assert_eq!(put(&client, "a", "1").await, 2);
        assert_eq!(put(&client, "a", "1").await, 3);
    })
    .await;
}

#[tokio::test]
async fn what_changes_nothing_uses_no_revision() {
    alone(async |client| {
        assert_eq!(put(&client, "a", "1").await, 2);
        assert_eq!(delete(&client, "missing").await, 2);
        assert_eq!(revision(&txn(&client, success(vec![])).await.unwrap().header), 2);
        assert_eq!(revision(&txn(&client, success(vec![delete_op("x", "y")])).await.unwrap().header), 2);
        let refused_put = pb::PutRequest { key: "a".into(), lease: 99, ..Default::default() };
        refused(client.kv().put(refused_put).await, Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(revision(&range(&client, all()).await.unwrap().header), 2);
        assert_eq!(delete(&client, "a").await, 3);
        assert_eq!(delete(&client, "a").await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_key_starts_again_with_version_1() {
    alone(async |client| {
        put(&client, "a", "1").await;
        put(&client, "a", "2").await;
        delete(&client, "a").await;
        put(&client, "a", "3").await;
        let kv = range(&client, key("a")).await.unwrap().kvs.remove(0);
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    })
    .await;
}

#[tokio::test]
async fn the_count_ignores_limit_and_filters() {
    alone(async |client| {
        for name in ["a", "b", "c", "d"] {
            put(&client, name, "v").await;
        }
        let limited = range(&client, pb::RangeRequest { limit: 2, ..all() }).await.unwrap();
        assert_eq!((limited.kvs.len(), limited.more, limited.count), (2, true, 4));
        let filtered = range(&client, pb::RangeRequest { min_mod_revision: 5, ..all() }).await.unwrap();
        assert_eq!((filtered.kvs.len(), filtered.more, filtered.count), (1, false, 4));
        let counted = range(&client, pb::RangeRequest { count_only: true, limit: 2, ..all() }).await.unwrap();
        assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 4));
    })
    .await;
}

#[tokio::test]
async fn keys_only_leaves_the_lease_out_unless_sorted_by_value() {
    alone(async |client| {
        let grant = pb::LeaseGrantRequest { ttl: 1000, id: 7 };
        client.lease().lease_grant(grant).await.unwrap();
        let request = pb::PutRequest { key: "a".into(), value: "v".into(), lease: 7, ..Default::default() };
        client.kv().put(request).await.unwrap();
        let plain =
            range(&client, pb::RangeRequest { keys_only: true, ..key("a") }).await.unwrap().kvs.remove(0);
        assert_eq!((plain.lease, plain.value.len(), plain.version), (0, 0, 1));
        let sorted = pb::RangeRequest { keys_only: true, sort_target: 4, sort_order: 1, ..key("a") };
        let sorted = range(&client, sorted).await.unwrap().kvs.remove(0);
        assert_eq!((sorted.lease, sorted.value.len()), (7, 0));
    })
    .await;
}

#[tokio::test]
async fn a_sort_target_without_order_sorts_ascending_what_the_limit_let_through() {
    alone(async |client| {
        // Values run against the keys: sorted by value, d comes first.
        for (name, value) in [("a", "4"), ("b", "3"), ("c", "2"), ("d", "1")] {
            put(&client, name, value).await;
        }
        let names =
            |answer: pb::RangeResponse| answer.kvs.iter().map(|kv| kv.key[0] as char).collect::<String>();
        // One more than the limit is fetched in key order (a, b, c), sorted by value (c, b, a), and cut.
        let quirk = range(&client, pb::RangeRequest { sort_target: 4, limit: 2, ..all() }).await.unwrap();
        assert_eq!((quirk.more, quirk.count, names(quirk)), (true, 4, "cb".to_owned()));
        let ordered = pb::RangeRequest { sort_target: 4, sort_order: 1, limit: 2, ..all() };
        assert_eq!(names(range(&client, ordered).await.unwrap()), "dc");
        let descending = pb::RangeRequest { sort_order: 2, limit: 2, ..all() };
        assert_eq!(names(range(&client, descending).await.unwrap()), "dc");
    })
    .await;
}

#[tokio::test]
async fn unknown_sort_options_are_refused() {
    alone(async |client| {
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1)] {
            let request = pb::RangeRequest { sort_order, sort_target, ..key("a") };
            refused(range(&client, request).await, Code::InvalidArgument, "etcdserver: invalid sort option");
        }
    })
    .await;
}

#[tokio::test]
async fn range_ends_follow_their_encoding() {
    alone(async |client| {
        for name in ["a", "b", "c"] {
            put(&client, name, "v").await;
        }
        let count = async |from: &str, end: &str| {
            let request = pb::RangeRequest {
                key: from.to_owned().into(),
                range_end: end.to_owned().into(),
                ..Default::default()
            };
            range(&client, request).await.unwrap().count
        };
        assert_eq!(count("b", "").await, 1);
        assert_eq!(count("b", "\0").await, 2);
        assert_eq!(count("\0", "\0").await, 3);
        assert_eq!(count("a", "c").await, 2);
        assert_eq!(count("c", "a").await, 0);
        assert_eq!(count("b", "b").await, 0);
    })
    .await;
}

#[tokio::test]
async fn future_and_negative_revisions() {
    alone(async |client| {
        put(&client, "a", "1").await;
        let at = |revision| pb::RangeRequest { revision, ..key("a") };
        refused(
            range(&client, at(3)).await,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        );
        assert_eq!(range(&client, at(-1)).await.unwrap().count, 1);
        assert_eq!(range(&client, at(1)).await.unwrap().count, 0);
        assert_eq!(revision(&range(&client, at(1)).await.unwrap().header), 2);
    })
    .await;
}

#[tokio::test]
async fn a_streamed_range_carries_header_count_and_more_on_its_last_message() {
    alone(async |client| {
        for number in 0..40 {
            put(&client, &format!("k{number:02}"), "v").await;
        }
        let mut stream =
            client.kv().range_stream(pb::RangeRequest { limit: 35, ..all() }).await.unwrap().into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            chunks.push(chunk.range_response.expect("a response"));
        }
        let last = chunks.pop().expect("a last message");
        assert!(chunks.iter().all(|chunk| chunk.header.is_none() && chunk.count == 0 && !chunk.more));
        assert_eq!((revision(&last.header), last.count, last.more), (41, 40, true));
        let kvs: usize = chunks.iter().map(|chunk| chunk.kvs.len()).sum::<usize>() + last.kvs.len();
        assert_eq!(kvs, 35);
    })
    .await;
}

#[tokio::test]
async fn a_streamed_range_refuses_sorts_and_filters() {
    alone(async |client| {
        let code = Code::Unimplemented;
        for request in [
            pb::RangeRequest { sort_order: 2, ..all() },
            pb::RangeRequest { sort_order: 1, sort_target: 1, ..all() },
        ] {
            let answer = first_of(&client, request).await;
            refused(answer, code, "RangeStream does not support custom sort orders");
        }
        // Ascending keys are what a stream gives anyway; a target without an order is not refused either.
        assert!(first_of(&client, pb::RangeRequest { sort_order: 1, ..all() }).await.is_ok());
        assert!(first_of(&client, pb::RangeRequest { sort_target: 1, ..all() }).await.is_ok());
        let filtered = first_of(&client, pb::RangeRequest { min_mod_revision: 1, ..all() }).await;
        refused(filtered, code, "RangeStream does not support revision filters");
    })
    .await;
}

async fn first_of(
    client: &Client,
    request: pb::RangeRequest,
) -> Result<Option<pb::RangeStreamResponse>, Status> {
    client.kv().range_stream(request).await?.into_inner().message().await
}
