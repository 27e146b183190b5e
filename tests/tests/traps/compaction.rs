//! Compaction: what stays readable, what watchers see, and that members agree afterwards.

use super::watches::{Watch, WatchItem};
use super::*;
use keelson_tests::clock;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

async fn compact(client: &Client, revision: i64) -> Result<pb::CompactionResponse, Status> {
    client
        .kv()
        .compact(pb::CompactionRequest { revision, physical: true })
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_compacted_revision_itself_stays_readable() {
    alone(async |client| {
        for number in 2..=6 {
            put(&client, "a", &number.to_string()).await;
        }
        assert_eq!(revision(&compact(&client, 4).await.unwrap().header), 6);
        let at = |revision| pb::RangeRequest { revision, ..key("a") };
        assert_eq!(&range(&client, at(4)).await.unwrap().kvs[0].value[..], b"4");
        refused(range(&client, at(3)).await, Code::OutOfRange, COMPACTED);
        refused(range(&client, at(1)).await, Code::OutOfRange, COMPACTED);
        // Revision 0 and below mean "current".
        assert_eq!(range(&client, at(-3)).await.unwrap().count, 1);
    })
    .await;
}

#[tokio::test]
async fn compacting_again_or_ahead_is_refused_and_at_the_current_revision_is_not() {
    alone(async |client| {
        put(&client, "a", "1").await;
        put(&client, "a", "2").await;
        refused(
            compact(&client, 4).await,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        );
        assert!(compact(&client, 3).await.is_ok());
        refused(compact(&client, 3).await, Code::OutOfRange, COMPACTED);
        refused(compact(&client, 0).await, Code::OutOfRange, COMPACTED);
        refused(compact(&client, -1).await, Code::OutOfRange, COMPACTED);
        assert_eq!(&range(&client, key("a")).await.unwrap().kvs[0].value[..], b"2");
    })
    .await;
}

#[tokio::test]
async fn a_fresh_store_refuses_to_compact_nothing() {
    alone(async |client| {
        // Nothing is compacted yet (-1), and still 0 is refused; 1 is the revision of the empty store.
        let zero = compact(&client, 0).await;
        let one = compact(&client, 1).await;
        println!("compact 0: {zero:?}, compact 1: {one:?}");
        assert!(one.is_ok());
        refused(compact(&client, 1).await, Code::OutOfRange, COMPACTED);
    })
    .await;
}

#[tokio::test]
async fn a_tombstone_at_the_compacted_revision_is_still_delivered() {
    // Upstream bugs 18089 and 19179: the delete was lost for a watcher opened at the compacted revision.
    alone(async |client| {
        put(&client, "a", "1").await;
        let deleted = delete(&client, "a").await;
        put(&client, "b", "2").await;
        compact(&client, deleted).await.unwrap();
        let mut watch = Watch::open(
            &client,
            pb::WatchCreateRequest { start_revision: deleted, ..super::watches::everything() },
        )
        .await;
        assert!(matches!(watch.next().await, WatchItem::Created(_)));
        let WatchItem::Events(response) = watch.next().await else { panic!("events") };
        let first = &response.events[0];
        assert_eq!((first.r#type, first.kv.as_ref().unwrap().mod_revision), (1, deleted));
        assert_eq!(
            range(&client, pb::RangeRequest { revision: deleted, ..key("a") }).await.unwrap().count,
            0
        );
    })
    .await;
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_is_created_and_then_cancelled() {
    alone(async |client| {
        for number in 2..=6 {
            put(&client, "a", &number.to_string()).await;
        }
        compact(&client, 5).await.unwrap();
        let mut watch = Watch::open(
            &client,
            pb::WatchCreateRequest { start_revision: 3, ..super::watches::everything() },
        )
        .await;
        let WatchItem::Created(created) = watch.next().await else { panic!("created first") };
        assert_eq!(revision(&created.header), 6);
        let WatchItem::Canceled(canceled) = watch.next().await else { panic!("cancelled then") };
        assert_eq!(
            (canceled.compact_revision, canceled.cancel_reason.as_str(), canceled.created),
            (5, "", false)
        );
        assert_eq!((revision(&canceled.header), canceled.events.len()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn members_have_equal_hashes_after_compactions_at_different_times() {
    on_each(3, &[], async |cluster| {
        let clients: Vec<Client> =
            (0..3).map(|index| Client::lazy(&cluster.member(index).client_url())).collect();
        for round in 0..3 {
            for number in 0..20 {
                put(&clients[number % 3], &format!("k{}", number % 7), &format!("{round}-{number}")).await;
                if number % 5 == 0 {
                    delete(&clients[0], &format!("k{}", number % 7)).await;
                }
            }
            let current = revision(&range(&clients[round], all()).await.unwrap().header);
            compact(&clients[round], current - 7).await.unwrap();
        }
        let agreed = clock::until(Duration::from_secs(10), || async {
            let mut seen = Vec::new();
            for client in &clients {
                let answer = client
                    .maintenance()
                    .hash_kv(pb::HashKvRequest { revision: 0 })
                    .await
                    .unwrap()
                    .into_inner();
                seen.push((answer.hash_revision, answer.compact_revision, answer.hash));
            }
            if seen.iter().all(|hash| *hash == seen[0]) { Ok(()) } else { Err(seen) }
        });
        agreed.await.expect("equal hashes");
    })
    .await;
}

#[tokio::test]
async fn hashes_name_their_revisions_and_refuse_what_is_gone() {
    alone(async |client| {
        for number in 2..=6 {
            put(&client, "a", &number.to_string()).await;
        }
        compact(&client, 4).await.unwrap();
        let hash = async |revision| {
            client
                .maintenance()
                .hash_kv(pb::HashKvRequest { revision })
                .await
                .map(tonic::Response::into_inner)
        };
        let now = hash(0).await.unwrap();
        assert_eq!((now.compact_revision, now.hash_revision, revision(&now.header)), (4, 6, 6));
        let then = hash(5).await.unwrap();
        assert_eq!((then.compact_revision, then.hash_revision), (4, 5));
        refused(hash(3).await, Code::OutOfRange, COMPACTED);
        refused(hash(7).await, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
    })
    .await;
}
