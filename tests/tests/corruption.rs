//! A member whose data were changed behind its back is found, named, and answers no clients until it is replaced.
//!
//! `cargo test -p keelson-tests --test corruption`. Keelson only: etcd's check finds some of this when it is switched on, and
//! there is no way to damage one of its members that would leave ours comparable.

use std::path::Path;
use std::time::Duration;

use keelson_mvcc::engine::{EngineBatch, Family};
use keelson_mvcc::{KvEngine, RocksEngine, RocksOptions};
use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use tonic::{Code, Status};

const CORRUPT: &str = "etcdserver: corrupt cluster";

async fn put(client: &Client, key: &str) -> Result<i64, Status> {
    let request = pb::PutRequest { key: key.to_owned().into(), value: "value".into(), ..Default::default() };
    Ok(client.kv().put(request).await?.into_inner().header.expect("a header").revision)
}

/// A read of what this member has.
async fn read(client: &Client, key: &str) -> Result<pb::RangeResponse, Status> {
    let request = pb::RangeRequest { key: key.to_owned().into(), serializable: true, ..Default::default() };
    client.kv().range(request).await.map(tonic::Response::into_inner)
}

fn client(cluster: &Cluster, index: usize) -> Client {
    Client::for_streams(&cluster.member(index).client_url())
}

async fn id(cluster: &Cluster, index: usize) -> u64 {
    client(cluster, index).status().await.unwrap().header.unwrap().member_id
}

async fn alarms(client: &Client) -> Result<Vec<pb::AlarmMember>, Status> {
    let all = pb::AlarmRequest { action: 0, member_id: 0, alarm: 0 };
    Ok(client.maintenance().alarm(all).await?.into_inner().alarms)
}

/// Three members with some keys, one of which is stopped and has another value for one of them when this returns. It
/// does not lead.
async fn damaged(kind: Kind, flags: &[&str]) -> (Cluster, usize) {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut cluster = Cluster::start(Options::new(kind, 3).quick().flag_all(&flags)).await.expect("a start");
    let leader = cluster.leader(READY_WAIT).await.unwrap();
    let victim = (leader + 1) % 3;
    for number in 0..20 {
        put(&client(&cluster, leader), &format!("k{number}")).await.unwrap();
    }
    clock::until(READY_WAIT, || async {
        let answer = read(&client(&cluster, victim), "k19").await.map_err(|error| error.to_string())?;
        if answer.count == 1 { Ok(()) } else { Err("the last key is not there yet".to_owned()) }
    })
    .await
    .unwrap();
    cluster.member_mut(victim).terminate(READY_WAIT).expect("a graceful end");
    change_value(&cluster.member(victim).data().join("db"), b"k7");
    (cluster, victim)
}

/// Changes the newest value of a key as no checksum notices: the row is written anew, beside everything that guards it.
fn change_value(db: &Path, key: &[u8]) {
    let engine = RocksEngine::open(db, RocksOptions::default()).expect("the engine of the stopped member");
    let mut row = engine.get(Family::Latest, key).unwrap().expect("the key").to_vec();
    *row.last_mut().expect("the value's last byte") ^= 1;
    let mut batch = engine.batch();
    batch.put(Family::Latest, key, &row);
    engine.write(batch).unwrap();
    engine.flush().unwrap();
}

/// Waits until the alarm names the member.
async fn named(cluster: &Cluster, asked: usize, victim: u64) {
    let client = client(cluster, asked);
    clock::until(READY_WAIT, || async {
        let found = alarms(&client).await.map_err(|error| error.to_string())?;
        let expected = [pb::AlarmMember { member_id: victim, alarm: 2 }];
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
    .unwrap();
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.expect_err("an error");
    assert_eq!((status.code(), status.message()), (Code::DataLoss, CORRUPT));
}

#[tokio::test]
async fn a_periodic_check_names_the_damaged_member_which_answers_no_more() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let flags =
        ["--corrupt-check-time=1s", "--feature-gates=InitialCorruptCheck=false,CompactHashCheck=false"];
    let (mut cluster, victim) = damaged(kind, &flags).await;
    let sound = (victim + 1) % 3;
    cluster.member_mut(victim).start().unwrap();
    let victim_id = clock::until(READY_WAIT, || async {
        client(&cluster, victim).status().await.map(|status| status.header.unwrap().member_id)
    })
    .await
    .unwrap();
    named(&cluster, sound, victim_id).await;

    // Reads and watches of the damaged member are refused, and its log says what to do.
    refused(
        clock::until(READY_WAIT, || async {
            match read(&client(&cluster, victim), "k7").await {
                Err(status) => Ok(Err::<(), _>(status)),
                Ok(_) => Err("it still answers"),
            }
        })
        .await
        .unwrap(),
    );
    let everything = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..Default::default()
        })),
    };
    let watch = async |index| {
        let stream = client(&cluster, index).watch().watch(tokio_stream::once(everything.clone())).await;
        stream?.into_inner().message().await
    };
    refused(watch(victim).await);
    let remedy = format!("etcdctl member remove {victim_id:x}");
    clock::until(READY_WAIT, || async {
        let log = cluster.member(victim).log_text();
        if log.contains(&remedy) { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();

    // The others read on; writes are refused everywhere, as etcd does.
    assert_eq!(read(&client(&cluster, sound), "k7").await.unwrap().kvs[0].value, "value");
    watch(sound).await.expect("a watch");
    refused(put(&client(&cluster, sound), "new").await);

    // What the log advises.
    let remove = pb::MemberRemoveRequest { id: victim_id };
    client(&cluster, sound).cluster().member_remove(remove).await.expect("a removal");
    let disarm = pb::AlarmRequest { action: 2, member_id: victim_id, alarm: 2 };
    client(&cluster, sound).maintenance().alarm(disarm).await.expect("a disarming");
    put(&client(&cluster, sound), "new").await.expect("a put");
}

#[tokio::test]
async fn a_compaction_shows_the_damaged_member() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let flags = [
        "--corrupt-check-time=0",
        "--compact-hash-check-time=1s",
        "--feature-gates=InitialCorruptCheck=false",
    ];
    let (mut cluster, victim) = damaged(kind, &flags).await;
    let sound = (victim + 1) % 3;
    cluster.member_mut(victim).start().unwrap();
    cluster.wait_ready(READY_WAIT).await.unwrap();
    let victim_id = id(&cluster, victim).await;
    // The damage is below the mark, and so is a revision that no member has any more.
    let revision = put(&client(&cluster, sound), "k1").await.unwrap();
    assert_eq!(alarms(&client(&cluster, sound)).await.unwrap(), []);
    let compaction = pb::CompactionRequest { revision, physical: false };
    client(&cluster, sound).kv().compact(compaction).await.unwrap();
    put(&client(&cluster, sound), "k2").await.expect("what comes later is not looked at");
    named(&cluster, sound, victim_id).await;
}

#[tokio::test]
async fn a_damaged_member_does_not_start_beside_sound_ones() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let (mut cluster, victim) = damaged(kind, &[]).await;
    let sound = (victim + 1) % 3;
    cluster.member_mut(victim).start().unwrap();
    let status = cluster.member_mut(victim).wait_end(READY_WAIT).expect("an end");
    let log = cluster.member(victim).log_text();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("has data that differ from the other members'"), "{log}");
    assert!(log.contains("etcdctl member remove"), "{log}");
    // Nobody else is disturbed, and one whose data are sound starts.
    put(&client(&cluster, sound), "new").await.expect("a put");
    cluster.member_mut(sound).terminate(Duration::from_secs(20)).expect("a graceful end");
    // Without an answer there is nothing to compare with, which is no reason to stay away.
    cluster.member_mut(sound).start().unwrap();
    cluster.wait_member_ready(sound, READY_WAIT).await.unwrap();
    let log = cluster.member(sound).log_text();
    assert!(log.contains("the data are those of the other members"), "{log}");
}
