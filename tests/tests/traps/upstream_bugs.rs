//! Bugs of etcd's track record that clients could see: each test has the number of its issue and asks for the promise that
//! was broken. Those about crashes in the middle of a write are in the crash suite.
//!
//! | issue | where |
//! |---|---|
//! | 13766, 14370, 14685, 17780, 20271 | `crash.rs`: SIGKILL under load, with compactions, histories through the checker |
//! | 14571 | `auth.rs`, once there are users |
//! | 18055 | `raftstore/tests`: repeated snapshots |
//! | 18089, 19179 | `compaction.rs`: the tombstone at the compacted revision, and here |
//! | 20221 | `watches.rs`: a watch of the future, and here |

use std::collections::BTreeSet;

use super::watches::{Watch, WatchItem, everything};
use super::*;
use keelson_tests::clock::until;
use keelson_tests::cluster::READY_WAIT;

/// Writes `count` values of some bytes to a few keys, sixteen at a time.
async fn write(client: &Client, count: usize, bytes: usize) {
    use futures::StreamExt as _;
    let value = bytes::Bytes::from(vec![b'x'; bytes]);
    let puts = (0..count).map(|number| {
        let key = format!("w{}", number % 7);
        let request = pb::PutRequest { key: key.into(), value: value.clone(), ..Default::default() };
        let client = client.clone();
        async move { client.kv().put(request).await.expect("a put") }
    });
    futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
}

/// Reads events until one of the given revision, and checks that revisions come in order and each of them once.
async fn read_all(watch: &mut Watch, first: i64, last: i64) {
    let mut next = first;
    while next <= last {
        match watch.next().await {
            WatchItem::Events(response) => {
                for event in &response.events {
                    let revision = event.kv.as_ref().expect("a key").mod_revision;
                    assert_eq!(revision, next, "lost, repeated or out of order");
                    next += 1;
                }
            }
            WatchItem::Progress(progress) => {
                let told = revision(&progress.header);
                assert!(told < next, "progress at {told} overtook the event of {next}");
            }
            other => panic!("{next} of {last}: {other:?}"),
        }
    }
}

/// 15220: progress notifications overtook events that were still on their way. 17247: an event came twice.
#[tokio::test]
async fn bug_15220_and_17247_events_come_once_and_before_the_progress_that_covers_them() {
    on_each(1, &["--watch-progress-notify-interval=100ms"], async |cluster| {
        let client = Client::for_streams(&cluster.member(0).client_url());
        let create = pb::WatchCreateRequest { start_revision: 2, progress_notify: true, ..everything() };
        let mut watch = Watch::open(&client, create).await;
        assert!(matches!(watch.next().await, WatchItem::Created(_)));
        let writer = client.clone();
        let writing = tokio::spawn(async move { write(&writer, 1500, 50).await });
        let mut next = 2;
        while next <= 1501 {
            watch.ask_progress().await;
            match watch.next().await {
                WatchItem::Events(response) => {
                    for event in &response.events {
                        assert_eq!(event.kv.as_ref().expect("a key").mod_revision, next);
                        next += 1;
                    }
                }
                WatchItem::Progress(progress) => assert!(revision(&progress.header) < next),
                other => panic!("{other:?}"),
            }
        }
        writing.await.expect("the writer");
    })
    .await;
}

/// 17529: a stream whose client did not read lost events.
#[tokio::test]
async fn bug_17529_a_starved_stream_loses_nothing() {
    alone(async |client| {
        // On a connection of its own, which fills up.
        let mut watch = Watch::open(&client.reconnected(), everything()).await;
        assert!(matches!(watch.next().await, WatchItem::Created(_)));
        write(&client, 1500, 20_000).await;
        read_all(&mut watch, 2, 1501).await;
    })
    .await;
}

/// 18089, 19179: with a compaction in the way of a slow watcher, the event of a deletion was lost.
#[tokio::test]
async fn bug_18089_deletions_reach_watchers_while_the_history_is_compacted() {
    alone(async |client| {
        let mut watch = Watch::open(&client, everything()).await;
        assert!(matches!(watch.next().await, WatchItem::Created(_)));
        let mut last = 1;
        for round in 0..40 {
            last = put(&client, "a", &round.to_string()).await;
            assert_eq!(delete(&client, "a").await, last + 1);
            last += 1;
            let compaction = pb::CompactionRequest { revision: last, physical: round % 8 == 0 };
            client.kv().compact(compaction).await.expect("a compaction");
            // Whoever starts at the compacted revision gets it, tombstone or not.
            let create = pb::WatchCreateRequest { start_revision: last, ..everything() };
            let mut late = Watch::open(&client, create).await;
            assert!(matches!(late.next().await, WatchItem::Created(_)));
            let WatchItem::Events(response) = late.next().await else { panic!("the deletion") };
            assert_eq!(response.events.len(), 1);
            assert_eq!((response.events[0].r#type, revision(&response.header)), (1, last));
        }
        read_all(&mut watch, 2, last).await;
    })
    .await;
}

/// 18667: a transaction with a read below the compacted revision changed some members and not others.
#[tokio::test]
async fn bug_18667_a_transaction_that_cannot_read_changes_nothing_on_any_member() {
    on_each(3, &[], async |cluster| {
        let clients: Vec<Client> =
            (0..3).map(|index| Client::lazy(&cluster.member(index).client_url())).collect();
        for number in 0..10 {
            put(&clients[0], "a", &number.to_string()).await;
        }
        clients[0].kv().compact(pb::CompactionRequest { revision: 6, physical: false }).await.unwrap();
        for round in 0..9 {
            let old = pb::RangeRequest { revision: 1 + round, ..key("a") };
            let request = success(vec![put_op("b", "1"), range_op(old), put_op("c", "2")]);
            let answer = txn(&clients[usize::try_from(round).unwrap() % 3], request).await;
            assert_eq!(answer.is_ok(), 1 + round >= 6, "a read at {}", 1 + round);
        }
        let last = put(&clients[0], "end", "").await;
        let mut hashes = BTreeSet::new();
        for client in &clients {
            let hash = until(READY_WAIT, || async {
                let request = pb::HashKvRequest { revision: last };
                client.maintenance().hash_kv(request).await
            });
            let hash = hash.await.expect("a hash").into_inner();
            hashes.insert((hash.hash, hash.compact_revision, hash.hash_revision));
        }
        assert_eq!(hashes.len(), 1, "{hashes:?}");
    })
    .await;
}

/// 20418: a leader that was paused answered linearizable reads from before the pause.
#[tokio::test]
async fn bug_20418_a_leader_that_was_paused_reads_nothing_stale() {
    on_each(3, &[], async |cluster| {
        for round in 0..3_i32 {
            let leader = cluster.leader(READY_WAIT).await.expect("a leader");
            let other = Client::lazy(&cluster.member((leader + 1) % 3).client_url());
            let paused = Client::lazy(&cluster.member(leader).client_url());
            paused.ping(READY_WAIT).await.expect("a connection");
            cluster.member(leader).freeze();
            // Reads that wait in the frozen leader are answered when it goes on.
            let reads: Vec<_> = (0..8)
                .map(|_| {
                    let paused = paused.clone();
                    tokio::spawn(async move { range(&paused, key("a")).await })
                })
                .collect();
            let value = format!("after pause {round}");
            until(READY_WAIT, || async {
                let request =
                    pb::PutRequest { key: "a".into(), value: value.clone().into(), ..Default::default() };
                other.kv().put(request).await
            })
            .await
            .expect("the others elect a leader");
            cluster.member(leader).thaw();
            let after = until(READY_WAIT, || range(&paused, key("a"))).await.expect("a read");
            assert_eq!(after.kvs[0].value, value.as_bytes(), "stale after the pause");
            for read in reads {
                // Begun before the write: either value, or an error, but never something older than the last round.
                if let Ok(answer) = read.await.expect("a task") {
                    let seen = answer.kvs.first().map(|kv| kv.value.clone()).unwrap_or_default();
                    let before = (round > 0).then(|| format!("after pause {}", round - 1));
                    assert!(seen == value.as_bytes() || seen == before.unwrap_or_default().as_bytes());
                }
            }
        }
    })
    .await;
}

/// 15271: after a partition, and a snapshot from the leader, a watch went back in time. 20221: a watch of the future on a
/// member that lags got older events.
#[tokio::test]
async fn bug_15271_and_20221_watches_on_a_member_that_was_away_go_forward_only() {
    on_each(3, &["--snapshot-count=50", "--snapshot-catchup-entries=20"], async |cluster| {
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let away = (leader + 1) % 3;
        let writer = Client::lazy(&cluster.member(leader).client_url());
        let away_client = Client::for_streams(&cluster.member(away).client_url());
        write(&writer, 50, 50).await;
        until(READY_WAIT, || away_client.ping(Duration::from_secs(1))).await.expect("it follows");
        let mut live =
            Watch::open(&away_client, pb::WatchCreateRequest { start_revision: 2, ..everything() }).await;
        assert!(matches!(live.next().await, WatchItem::Created(_)));
        cluster.member(away).freeze();
        write(&writer, 500, 50).await;
        cluster.member(away).thaw();
        let future = pb::WatchCreateRequest { start_revision: 540, ..everything() };
        let mut future = Watch::open(&away_client, future).await;
        assert!(matches!(future.next().await, WatchItem::Created(_)));
        write(&writer, 20, 50).await;
        read_all(&mut live, 2, 571).await;
        read_all(&mut future, 540, 571).await;
        let resumed = pb::WatchCreateRequest { start_revision: 300, ..everything() };
        let mut resumed = Watch::open(&away_client, resumed).await;
        assert!(matches!(resumed.next().await, WatchItem::Created(_)));
        read_all(&mut resumed, 300, 571).await;
    })
    .await;
}
