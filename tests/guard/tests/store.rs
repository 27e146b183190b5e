//! A write on its way through the store: proposed, logged, applied, matched against watches.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::guard;
use keelson_guard::Bound;
use keelson_mvcc::types::{Command, Event, EventKind, KeyRange, KeyValue, LogPosition, Put, RevisionEvents};
use keelson_mvcc::{ApplyEntry, RocksEngine, RocksOptions, Store, StoreOptions};
use keelson_raftstore::Clock;
use keelson_raftstore::proposer::{Proposals, ProposerOptions};
use keelson_wal::{EntryRecord, Identity, Op, Options, RealDisk, Stage, Wal};
use keelson_watch::memory::MemorySource;
use keelson_watch::{FrameCodec, Hub, HubOptions, WatchRequest};
use openraft_rt_tokio::TokioRuntime;

/// Operations per measurement, and of one group.
const MANY: u64 = 1000;
const GROUP: u64 = 100;

fn put(number: u64) -> Put {
    let key = Bytes::from(format!("/registry/pods/default/pod-{:08}", number % 500));
    Put { key, value: Bytes::from(vec![b'v'; 256]), ..Put::default() }
}

#[test]
fn a_proposal_is_encoded_into_the_open_batch() {
    let options = ProposerOptions { commands_max: 10_000, ..ProposerOptions::default() };
    let proposals = Proposals::new(1, 1, options, Clock::start::<TokioRuntime>());
    let command = Command::Put(put(1));
    let mut waiting = Vec::with_capacity(2 * MANY as usize);
    // The slot for the reply, and a share of the batch's buffer as it grows.
    guard("propose", MANY, Bound { count: 1.1, bytes: 1050.0 }, |_| {
        waiting.push(proposals.propose(&command, Duration::from_secs(60), None, 0));
    });
}

#[test]
fn a_group_is_logged_from_a_buffer_that_is_reused() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options::new(Identity { cluster: 1, member: 1 }, Box::new(|| 7));
    let (mut wal, _) = Wal::open(RealDisk, dir.path(), options).expect("opens");
    let payload = Bytes::from(vec![b'p'; 300]);
    // The list of the operation, which is the test's own, and the growth of the index of entries.
    guard("log block", 200, Bound { count: 1.1, bytes: 100.0 }, |number| {
        let entry = EntryRecord { index: number + 1, term: 1, leader: 1, payload: payload.clone() };
        let ops = [Op::Append(vec![entry])];
        if wal.stage(&ops).expect("stages") == Stage::AwaitPrepare {
            panic!("a segment of a mebibyte holds 400 groups");
        }
        wal.commit().expect("commits");
    });
}

#[test]
fn an_overwrite_is_applied_without_copies_that_are_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let engine = RocksEngine::open(dir.path(), RocksOptions::default()).expect("opens");
    let mut store = Store::open(engine, StoreOptions::default()).expect("opens");
    let groups: Vec<ApplyEntry> = (0..2 * MANY / GROUP)
        .map(|group| ApplyEntry::Commands {
            position: LogPosition { term: 1, leader: 1, index: group },
            commands: (0..GROUP).map(|number| Command::Put(put(group * GROUP + number))).collect(),
        })
        .collect();
    // Kept: the event with its list, the old version in it, the cached value. Grown with the group: overlay, replies.
    // What RocksDB allocates by itself is not seen.
    guard(
        "apply put",
        MANY / GROUP,
        Bound { count: 6.6 * GROUP as f64, bytes: 1950.0 * GROUP as f64 },
        |group| {
            let applied = store.apply(&groups[group as usize..=group as usize]).expect("applies");
            assert_eq!(applied.events.len(), GROUP as usize);
        },
    );
}

struct NoFrames;

impl FrameCodec for NoFrames {
    fn events(&self, _: &[&Event], _: bool, _: &mut BytesMut) {}
}

/// Publishes events of keys below `/a/` to a thousand streams that watch a key each below `prefix`.
fn publish(path: &str, prefix: &'static str, bound: Bound) {
    let hub = Hub::new(HubOptions::default(), Arc::new(MemorySource::default()), Arc::new(NoFrames));
    let streams: Vec<_> = (0..1000).map(|_| hub.open()).collect();
    for (number, stream) in streams.iter().enumerate() {
        let key = Bytes::from(format!("{prefix}{number:04}"));
        let request = WatchRequest { range: KeyRange::single(key), ..WatchRequest::default() };
        stream.control().try_create(&request).expect("room").expect("a fresh id");
    }
    let events: Vec<_> = (0..2 * MANY)
        .map(|number| {
            let kv = KeyValue {
                key: Bytes::from(format!("/a/{:04}", number % 1000)),
                value: Bytes::from(vec![b'v'; 256]),
                mod_revision: number as i64 + 2,
                ..KeyValue::default()
            };
            let event = Event { kind: EventKind::Put, kv, prev: None, sub: 0 };
            Arc::new(RevisionEvents { revision: number as i64 + 2, events: vec![event] })
        })
        .collect();
    guard(path, MANY, bound, |number| {
        let number = number as usize;
        hub.publish(&events[number..=number], number as i64 + 2);
    });
}

/// The list of places touched, which stands in the log with the event.
const PUBLISHED: Bound = Bound { count: 1.1, bytes: 320.0 };

#[test]
fn an_event_nobody_watches_costs_its_place_in_the_log() {
    publish("match none of 1000", "/b/", PUBLISHED);
}

#[test]
fn an_event_one_of_a_thousand_watches_costs_no_more() {
    publish("match one of 1000", "/a/", PUBLISHED);
}
