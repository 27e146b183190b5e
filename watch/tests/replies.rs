//! Requests and their replies, case by case.
//!
//! Owns: the transcript tests of create, cancel, refuse and progress. Source: etcd v3rpc `watch.go`, mvcc `watcher.go`.

mod support;

use keelson_watch::{ControlError, Frame, HubOptions, StreamEnd, WatchRequest};
use support::*;

#[test]
fn created_comes_before_any_event() {
    let mut world = World::new();
    world.put("a", "0");
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    reader.create(point("a"));
    world.put("a", "1");
    assert_eq!(reader.texts(), ["+0@2", "+1@2", "1@3: 3:a=1", "0@3: 2:a=0 3:a=1"]);
}

#[test]
fn automatic_ids_count_from_zero_and_skip_used_ones() {
    let world = World::new();
    let reader = world.open();
    assert_eq!(reader.create(point("a")), Some(0));
    assert_eq!(reader.create(WatchRequest { id: 1, ..point("a") }), Some(1));
    assert_eq!(reader.create(WatchRequest { id: 3, ..point("a") }), Some(3));
    assert_eq!(reader.create(point("a")), Some(2));
    assert_eq!(reader.create(point("a")), Some(4));
    assert!(reader.cancel(2));
    assert_eq!(reader.create(point("a")), Some(5), "numbers are not given out twice");
    assert_eq!(reader.create(WatchRequest { id: 2, ..point("a") }), Some(2), "but may be chosen again");
    // Another stream has ids of its own.
    assert_eq!(world.open().create(point("a")), Some(0));
}

#[test]
fn duplicate_id_is_refused_and_the_first_watcher_stays() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.create(WatchRequest { id: 7, ..point("a") });
    assert_eq!(reader.create(WatchRequest { id: 7, ..point("b") }), None);
    world.txn(&[("a", Some("1")), ("b", Some("1"))]);
    assert_eq!(
        reader.texts(),
        ["+7@1", "--1@1 refused mvcc: duplicate watch ID provided on the WatchStream", "7@2: 2:a=1"]
    );
}

#[test]
fn empty_range_and_negative_start_are_refused() {
    let world = World::new();
    let mut reader = world.open();
    assert_eq!(reader.create(range("b", "a")), None);
    assert_eq!(reader.create(range("a", "a")), None);
    assert_eq!(reader.create(from(-1, range("b", "a"))), None, "the start is looked at first");
    assert_eq!(
        reader.texts(),
        [
            "--1@1 refused mvcc: watcher range is empty",
            "--1@1 refused mvcc: watcher range is empty",
            "--1@1 refused etcdserver: mvcc: required revision has been compacted",
        ]
    );
}

#[test]
fn refusal_of_the_caller_keeps_its_place() {
    let world = World::new();
    let mut reader = world.open();
    reader.create(point("a"));
    let control = reader.stream.control();
    let mut refusal = Box::pin(control.refuse("not allowed"));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(refusal.as_mut().poll(&mut context).is_ready());
    drop(refusal);
    reader.create(point("b"));
    assert_eq!(reader.texts(), ["+0@1", "--1@1 refused not allowed", "+1@1"]);
}

#[test]
fn empty_key_means_the_smallest_key() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(range("", ""));
    reader.watch(range("", "\0"));
    world.put("\0", "1");
    world.put("a", "1");
    assert_eq!(reader.texts(), ["0@2: 2:\0=1", "1@3: 2:\0=1 3:a=1"]);
}

#[test]
fn cancel_answers_once_and_nothing_follows() {
    let mut world = World::new();
    let mut reader = world.open();
    let id = reader.watch(point("a"));
    world.put("a", "1");
    assert!(reader.cancel(id));
    assert!(!reader.cancel(id), "gone already");
    assert!(!reader.cancel(99), "never was");
    world.put("a", "2");
    assert_eq!(reader.texts(), ["-0@2"]);
    assert_eq!(world.hub.stats().watchers, 0);
    assert_eq!(world.hub.stats().ranges, 0);
}

#[test]
fn id_can_be_used_again_at_once() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.create(WatchRequest { id: 5, ..point("a") });
    world.put("a", "1");
    reader.cancel(5);
    reader.create(WatchRequest { id: 5, ..point("b") });
    world.txn(&[("a", Some("2")), ("b", Some("2"))]);
    assert_eq!(reader.texts(), ["+5@1", "-5@2", "+5@2", "5@3: 3:b=2"]);
}

#[test]
fn cancel_while_catching_up() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    let first: Vec<String> = reader.batch().expect("a batch").iter().map(text).collect();
    assert_eq!(first, ["+0@4", "0@4: 2:a=1"]);
    reader.cancel(0);
    assert_eq!(reader.texts(), ["-0@4"]);
    assert_eq!(world.hub.stats().slow_watchers, 0);
}

#[test]
fn filters_drop_events_and_send_nothing_when_all_are_dropped() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(WatchRequest { no_put: true, ..prefix("a") });
    reader.watch(WatchRequest { no_delete: true, ..prefix("a") });
    reader.watch(WatchRequest { no_put: true, no_delete: true, ..prefix("a") });
    world.put("a1", "x");
    assert_eq!(reader.texts(), ["1@2: 2:a1=x"]);
    world.delete("a1");
    assert_eq!(reader.texts(), ["0@3: 3:-a1"]);
    world.txn(&[("a1", Some("1")), ("a2", Some("2")), ("a3", Some("3"))]);
    world.txn(&[("a1", Some("4")), ("a2", None), ("a3", Some("5"))]);
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["0@5: 5:-a2", "1@5: 4:a1=1 4:a2=2 4:a3=3 5:a1=4 5:a3=5"]);
    // The same from the past.
    reader.create(WatchRequest { no_put: true, start: 2, ..prefix("a") });
    reader.create(WatchRequest { no_put: true, no_delete: true, start: 2, ..prefix("a") });
    assert_eq!(reader.texts(), ["+3@5", "+4@5", "3@5: 3:-a1 5:-a2"]);
}

#[test]
fn previous_values_only_for_those_who_ask() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    reader.watch(WatchRequest { prev_kv: true, ..point("a") });
    world.put("a", "1");
    world.put("a", "2");
    world.delete("a");
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["0@4: 2:a=1 3:a=2 4:-a", "1@4: 2:a=1 3:a=2<1 4:-a<2"]);
}

/// The value before an event at the compaction mark belongs to a revision that cannot be read any more. Who reads the
/// past gets none, from the recent log as from the store; who was told before the compaction, or waits for it, does.
#[test]
fn previous_values_end_at_the_compaction_mark() {
    let mut world = World::new();
    let mut live = world.open();
    live.watch(WatchRequest { prev_kv: true, ..point("a") });
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.compact(3);
    assert_eq!(live.texts(), ["0@4: 2:a=1 3:a=2<1 4:a=3<2"]);
    let mut late = world.open();
    late.create(WatchRequest { prev_kv: true, ..from(3, point("a")) });
    assert_eq!(late.texts(), ["+0@4", "0@4: 3:a=2 4:a=3<2"]);
}

#[test]
fn live_header_is_the_last_event_and_catch_up_header_is_the_hub() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    world.put("a", "1");
    world.put("b", "1");
    assert_eq!(reader.texts(), ["0@2: 2:a=1"]);
    reader.create(from(2, point("a")));
    assert_eq!(reader.texts(), ["+1@3", "1@3: 2:a=1"]);
}

#[test]
fn fragments_cut_by_encoded_size() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(WatchRequest { fragment: true, ..prefix("k") });
    let keys: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    let value = "v".repeat(100);
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(value.as_str()))).collect();
    world.txn(&changes);
    let frames = reader.drain();
    let [Frame::Events { events, fragment: true, .. }] = frames.as_slice() else { panic!("{frames:?}") };
    let one = events.encoded_len() / 10;
    // Less than the bound: three events fit below 4 * one, the fourth would reach it.
    let parts = events.clone().split(4 * one);
    assert_eq!(parts.iter().map(|part| part.count()).collect::<Vec<_>>(), [3, 3, 3, 1]);
    assert!(parts.iter().all(|part| part.encoded_len() < 4 * one));
    let joined: Vec<Decoded> = parts.iter().flat_map(decode).collect();
    assert_eq!(joined, decode(events));
    // An event that is too large travels alone; a batch that fits stays whole.
    assert_eq!(events.clone().split(1).len(), 10);
    assert_eq!(events.clone().split(events.encoded_len()).len(), 2);
    assert_eq!(events.clone().split(events.encoded_len() + 1).len(), 1);
}

#[test]
fn replies_are_bounded_and_requests_wait_for_room() {
    let world = World::with(HubOptions { controls_max: 2, ..HubOptions::default() });
    let mut reader = world.open();
    let control = reader.stream.control();
    assert!(control.try_create(&point("a")).is_ok());
    assert!(control.try_create(&point("b")).is_ok());
    assert_eq!(control.try_create(&point("c")), Err(ControlError::Full));
    assert_eq!(control.try_cancel(0), Err(ControlError::Full));

    let waiter = std::sync::Arc::new(WakeCount::default());
    let waker = std::task::Waker::from(waiter.clone());
    let mut context = std::task::Context::from_waker(&waker);
    let request = point("c");
    let mut waiting = Box::pin(control.create(&request));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert_eq!(reader.texts(), ["+0@1", "+1@1"]);
    assert_eq!(std::sync::Arc::strong_count(&waiter), 2, "the waker was used up");
    assert_eq!(waiting.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(Some(2))));
    assert_eq!(reader.texts(), ["+2@1"]);
}

#[test]
fn dropping_the_reader_removes_everything() {
    let mut world = World::new();
    let reader = world.open();
    for number in 0..1000 {
        reader.create(WatchRequest { progress_notify: true, ..point(&format!("k{number}")) });
    }
    let control = reader.stream.control();
    assert_eq!(world.hub.stats().watchers, 1000);
    drop(reader);
    let stats = world.hub.stats();
    assert_eq!((stats.streams, stats.watchers, stats.ranges), (0, 0, 0));
    assert_eq!(control.try_create(&point("a")), Err(ControlError::Closed));
    // A new stream in the same slot is not reached by the old handle.
    let mut other = world.open();
    assert_eq!(control.try_create(&point("a")), Err(ControlError::Closed));
    world.put("k1", "1");
    assert_eq!(other.texts(), Vec::<String>::new());
}

#[test]
fn closing_the_hub_ends_every_stream() {
    let world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    assert_eq!(reader.drain().len(), 0);
    let wakes = reader.wakes();
    world.hub.close();
    assert_eq!(reader.wakes(), wakes + 1);
    assert!(matches!(reader.poll(), std::task::Poll::Ready(Err(StreamEnd::Closed))));
    assert_eq!(reader.stream.control().try_create(&point("a")), Err(ControlError::Closed));
}

#[test]
fn futures_can_move_between_threads() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let world = World::new();
    let mut reader = world.open();
    let control = reader.stream.control();
    let request = point("a");
    drop(movable(control.create(&request)));
    drop(movable(control.refuse("no")));
    drop(movable(reader.stream.next()));
}
