//! The guarantees by name, and the bugs of the past that broke them.
//!
//! Owns: one test per promise of `CONTRACT.md`. Source: etcd API guarantees; etcd robustness track record.

mod support;

use std::time::Duration;

use keelson_watch::{HubOptions, WatchRequest};
use support::*;

#[test]
fn ordered_across_the_change_from_past_to_live() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    let mut seen = Vec::new();
    // New events arrive between the pieces of the past.
    for value in 4..20 {
        seen.extend(reader.batch().into_iter().flatten());
        world.put("a", &value.to_string());
    }
    seen.extend(reader.drain());
    let events: Vec<i64> = seen.iter().flat_map(revisions).collect();
    assert_eq!(events, (2..=world.revision).collect::<Vec<_>>());
}

fn revisions(frame: &keelson_watch::Frame) -> Vec<i64> {
    match frame {
        keelson_watch::Frame::Events { events, .. } => {
            events.events().map(|event| event.kv.mod_revision).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn unique_when_one_event_matches_several_ranges_17247() {
    let mut world = World::new();
    let mut reader = world.open();
    // Three watchers of the same key by three structures, and one range twice.
    reader.watch(point("ab"));
    reader.watch(prefix("a"));
    reader.watch(range("aa", "ax"));
    reader.watch(prefix("a"));
    world.put("ab", "1");
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["0@2: 2:ab=1", "1@2: 2:ab=1", "2@2: 2:ab=1", "3@2: 2:ab=1"]);
    assert_eq!(reader.texts(), Vec::<String>::new());
}

#[test]
fn atomic_a_revision_is_never_divided() {
    // Bounds so small that every limit is crossed within the revision.
    let small = HubOptions {
        batch_bytes_soft: 1,
        batch_frames_soft: 1,
        frame_bytes_soft: 1,
        chunk_bytes_soft: 1,
        ..HubOptions::default()
    };
    for options in [small.clone(), HubOptions { log_bytes_max: 1, ..small }] {
        let mut world = World::with(options);
        let mut live = world.open();
        live.watch(prefix("k"));
        // Every second event is another's, so the revision consists of many pieces.
        let keys: Vec<String> =
            (0..400).map(|number| format!("{}{number:03}", ["k", "z"][number % 2])).collect();
        let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
        let rest: Vec<_> = keys.iter().map(|key| (key.as_str(), None)).collect();
        world.txn(&changes);
        world.txn(&rest);
        let mut past = world.open();
        past.create(from(2, prefix("k")));
        for reader in [&mut live, &mut past] {
            let counts =
                reader.drain().into_iter().map(|frame| revisions(&frame).len()).filter(|count| *count > 0);
            assert_eq!(counts.collect::<Vec<_>>(), [200, 200]);
        }
    }
}

#[test]
fn whole_transaction_is_one_shared_slice_per_block() {
    let mut world = World::new();
    let mut readers: Vec<Reader> = (0..50).map(|_| world.open()).collect();
    for reader in &mut readers {
        reader.watch(prefix("k"));
    }
    let keys: Vec<String> = (0..64).map(|number| format!("k{number:03}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    world.txn(&changes);
    let mut addresses = Vec::new();
    for reader in &mut readers {
        for frame in reader.drain() {
            let keelson_watch::Frame::Events { events, .. } = frame else { panic!("{frame:?}") };
            events.pieces(|piece| addresses.push((piece.as_ptr(), piece.len())));
        }
    }
    assert_eq!(addresses.len(), 50, "one piece per reader");
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "the same memory for all");
}

#[test]
fn encoded_at_most_twice_whatever_the_number_of_watchers() {
    let mut world = World::new();
    let mut readers: Vec<Reader> = (0..20).map(|_| world.open()).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.watch(WatchRequest { prev_kv: number % 2 == 0, ..point("a") });
        reader.watch(WatchRequest { prev_kv: number % 3 == 0, ..prefix("a") });
    }
    for value in 0..10 {
        world.put("a", &value.to_string());
    }
    let encoded = |world: &World| world.codec.encoded.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(encoded(&world), 0, "nothing is encoded before somebody needs it");
    for reader in &mut readers {
        assert_eq!(reader.texts().len(), 2);
    }
    assert_eq!(encoded(&world), 20, "ten events, with and without previous value");
}

#[test]
fn resumable_from_the_last_seen_revision() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in 2..30 {
        world.put(["a", "b"][value % 2], &value.to_string());
    }
    let (mut seen, mut next) = (Vec::new(), 2);
    // A client that reconnects after every batch.
    while next <= world.revision {
        let mut reader = world.open();
        reader.create(from(next, everything()));
        let before = seen.len();
        for frame in reader.batch().expect("a batch") {
            seen.extend(revisions(&frame));
        }
        assert!(seen.len() > before, "nothing came from {next}");
        next = seen[seen.len() - 1] + 1;
    }
    assert_eq!(seen, (2..=world.revision).collect::<Vec<_>>());
}

#[test]
fn bookmarkable_progress_never_overtakes_events_15220() {
    // One frame of one revision per batch: the request is made while much is pending.
    let options = HubOptions { batch_frames_soft: 1, frame_bytes_soft: 1, ..HubOptions::default() };
    let mut world = World::with(options);
    let mut reader = world.open();
    reader.watch(point("a"));
    reader.watch(point("b"));
    for value in 0..5 {
        world.put("a", &value.to_string());
        world.put("b", &value.to_string());
    }
    reader.progress();
    reader.progress();
    let texts = reader.texts();
    assert_eq!(texts.len(), 11, "ten frames and one answer: {texts:?}");
    assert_eq!(texts.last().expect("frames"), "~-1@11");
}

#[test]
fn progress_waits_for_watchers_that_read_the_past_15220() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in 0..5 {
        world.put("a", &value.to_string());
    }
    let mut reader = world.open();
    reader.watch(point("z"));
    reader.create(from(2, point("a")));
    reader.progress();
    let texts = reader.texts();
    assert_eq!(
        texts,
        ["+1@6", "1@6: 2:a=0", "1@6: 3:a=1", "1@6: 4:a=2", "1@6: 5:a=3", "1@6: 6:a=4", "~-1@6"]
    );
}

#[test]
fn progress_between_publications_carries_what_was_delivered() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.progress();
    assert_eq!(reader.texts(), Vec::<String>::new(), "no watcher, no answer");
    reader.watch(point("a"));
    // The source is ahead of the hub, as it is between view and publication.
    let events = world.write(&[("a".into(), Some("1".into()))]).expect("a change");
    reader.progress();
    assert_eq!(reader.texts(), ["~-1@1"]);
    world.hub.publish(&[events], 2);
    reader.progress();
    assert_eq!(reader.texts(), ["0@2: 2:a=1", "~-1@2"]);
}

#[test]
fn future_watcher_gets_no_older_event_20221() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(from(5, point("a")));
    reader.watch(point("a"));
    for value in 2..=6 {
        world.put("a", &value.to_string());
    }
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["0@6: 5:a=5 6:a=6", "1@6: 2:a=2 3:a=3 4:a=4 5:a=5 6:a=6"]);
}

#[test]
fn future_watcher_gets_no_older_progress_20221() {
    let interval = Duration::from_secs(10);
    let mut world = World::with(HubOptions { progress_interval: interval, ..HubOptions::default() });
    let mut reader = world.open();
    let id = reader.watch(WatchRequest { progress_notify: true, ..from(4, point("a")) });
    world.put("b", "1");
    reader.progress();
    world.hub.tick(interval * 2);
    assert_eq!(reader.texts(), Vec::<String>::new());
    // The refused request does not come back later.
    world.put("b", "2");
    world.put("b", "3");
    assert_eq!(reader.texts(), Vec::<String>::new());
    reader.progress();
    world.hub.tick(interval * 4);
    assert_eq!(reader.texts(), ["~0@4", "~-1@4"]);
    // The next revision counts as future too, as in etcd.
    reader.watch(from(5, point("a")));
    reader.progress();
    assert_eq!(reader.texts(), Vec::<String>::new());
    assert!(reader.cancel(1));
    reader.progress();
    assert_eq!(reader.texts(), ["-1@4", "~-1@4"]);
    assert_eq!(id, 0);
}

#[test]
fn future_watcher_across_a_snapshot_20221() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(from(4, point("a")));
    reader.watch(from(100, point("a")));
    world.install_snapshot(&[("a", Some("2")), ("a", Some("3")), ("a", Some("4")), ("a", Some("5"))], -1);
    world.put("a", "6");
    let events: Vec<String> = reader.texts();
    assert_eq!(events, ["0@6: 4:a=4 5:a=5", "0@6: 6:a=6"]);
    // The largest start there is does not overflow anything.
    reader.watch(from(i64::MAX, point("a")));
    world.install_snapshot(&[("a", Some("7"))], 3);
    reader.progress();
    assert_eq!(reader.texts(), ["0@7: 7:a=7"]);
}

#[test]
fn never_back_in_time_after_a_snapshot_15271() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    reader.watch(point("b"));
    world.put("a", "1");
    assert_eq!(reader.texts(), ["0@2: 2:a=1"]);
    world.put("b", "1");
    // The reader has not taken revision 3 when the member is cut off and comes back by snapshot.
    world.install_snapshot(&[("a", Some("2")), ("b", Some("2")), ("a", Some("3"))], 2);
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["0@6: 4:a=2 6:a=3", "1@6: 3:b=1 5:b=2"]);
    world.put("a", "4");
    assert_eq!(reader.texts(), ["0@7: 7:a=4"]);
}

#[test]
fn quiet_watcher_has_everything_up_to_the_snapshot_15271() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    for value in ["1", "2", "3", "4"] {
        world.put("b", value);
    }
    // It got nothing since revision 1, but it is in sync up to 5: a mark of 6 takes nothing from it.
    world.install_snapshot(&[("b", Some("5")), ("a", Some("1"))], 6);
    assert_eq!(reader.texts(), ["0@7: 7:a=1"]);
}

#[test]
fn near_starts_share_a_read_but_not_the_events() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    for start in [4, 2, 3] {
        reader.create(from(start, point("a")));
    }
    let mut texts = reader.texts();
    texts.sort();
    let events = ["0@4: 4:a=3", "1@4: 2:a=1 3:a=2 4:a=3", "2@4: 3:a=2 4:a=3"];
    assert_eq!(texts, [["+0@4", "+1@4", "+2@4"], events].concat());
}

#[test]
fn watcher_cancelled_during_a_read_gets_nothing_more() {
    let mut world = World::with(tiny_log());
    world.put("a", "1");
    world.put("z", "1");
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    reader.create(point("b"));
    reader.progress();
    let control = reader.stream.control();
    world.hooked.during_scan(true, Box::new(move || assert_eq!(control.try_cancel(0), Ok(true))));
    // The client waits for the word about watcher 0 before it may take a progress for all.
    assert_eq!(reader.texts(), ["+0@3", "+1@3", "-0@3", "~-1@3"]);
}

#[test]
fn events_published_during_a_read_follow_it() {
    let mut world = World::with(tiny_log());
    world.put("a", "1");
    world.put("z", "1");
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    let events = world.write(&[("a".into(), Some("2".into()))]).expect("a change");
    let hub = world.hub.clone();
    world.hooked.during_scan(true, Box::new(move || hub.publish(&[events], 4)));
    assert_eq!(reader.texts(), ["+0@3", "0@3: 2:a=1", "0@4: 4:a=2"]);
}

#[test]
fn snapshot_cancels_only_cursors_below_its_mark() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    world.put("a", "1");
    reader.texts();
    // Everything up to 2 was delivered. A mark of 3 loses nothing, a mark of 5 does.
    world.install_snapshot(&[("a", Some("2")), ("a", Some("3"))], 3);
    assert_eq!(reader.texts(), ["0@4: 3:a=2 4:a=3"]);
    world.install_snapshot(&[("a", Some("4")), ("a", Some("5")), ("b", Some("1"))], 6);
    assert_eq!(reader.texts(), ["-0@0 compacted 6"]);
    assert_eq!(world.hub.stats().watchers, 0);
}

#[test]
fn two_snapshots_in_a_row() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(everything());
    world.put("a", "1");
    world.install_snapshot(&[("a", Some("2"))], -1);
    world.install_snapshot(&[("a", Some("3"))], -1);
    // One without news.
    world.install_snapshot(&[], -1);
    assert_eq!(reader.texts(), ["0@4: 2:a=1 3:a=2 4:a=3"]);
    world.install_snapshot(&[], -1);
    assert_eq!(reader.texts(), Vec::<String>::new());
}

#[test]
fn reached_start_is_not_in_the_future_after_a_snapshot() {
    let interval = Duration::from_secs(10);
    let mut world = World::with(HubOptions { progress_interval: interval, ..HubOptions::default() });
    let mut reader = world.open();
    reader.watch(WatchRequest { progress_notify: true, ..from(3, point("a")) });
    reader.watch(from(100, point("a")));
    for value in ["1", "2", "3"] {
        world.put("b", value);
    }
    // Found by the model: after a snapshot without news the first watcher seemed to wait for revision 5.
    world.install_snapshot(&[], -1);
    world.hub.tick(interval * 2);
    assert_eq!(reader.texts(), ["~0@4"]);
    reader.cancel(1);
    reader.progress();
    assert_eq!(reader.texts(), ["-1@4", "~-1@4"]);
}

#[test]
fn starving_stream_loses_nothing_17529() {
    let options = HubOptions {
        log_bytes_max: 8 << 10,
        batch_bytes_soft: 4 << 10,
        frame_bytes_soft: 2 << 10,
        chunk_bytes_soft: 1 << 10,
        ..HubOptions::default()
    };
    let mut world = World::with(options);
    let mut slow = world.open();
    let mut fast = world.open();
    let ids: Vec<_> = (0..20).map(|number| slow.watch(prefix(&format!("k{number:02}")))).collect();
    fast.watch(everything());
    let mut seen: Vec<Vec<i64>> = vec![Vec::new(); ids.len()];
    let mut take = |frames: Vec<keelson_watch::Frame>| {
        for frame in frames {
            seen[frame.id() as usize].extend(revisions(&frame));
        }
    };
    let mut fast_count = 0;
    for round in 0..3000 {
        world.put(&format!("k{:02}x", round % 20), &"v".repeat(50));
        fast_count += fast.drain().iter().map(|frame| revisions(frame).len()).sum::<usize>();
        // The slow one takes one batch now and then.
        if round % 100 == 99 {
            take(slow.batch().expect("something is always pending"));
        }
    }
    assert_eq!(fast_count, 3000, "the fast one is not slowed");
    assert!(world.hub.stats().slow_watchers > 0, "the log has moved past the slow one");
    take(slow.drain());
    for (number, seen) in seen.iter().enumerate() {
        let expected: Vec<i64> = (0..150).map(|round| 2 + number as i64 + 20 * round).collect();
        assert_eq!(seen, &expected, "watcher {number}");
    }
}

#[test]
fn tombstone_at_the_mark_is_delivered_18089_19179() {
    let mut world = World::with(tiny_log());
    world.put("a", "1");
    let deleted = world.delete("a");
    world.put("b", "1");
    world.compact(deleted);
    let mut reader = world.open();
    reader.create(from(deleted, point("a")));
    assert_eq!(reader.texts(), ["+0@4", "0@4: 3:-a"]);
}

#[test]
fn compacted_start_is_created_then_cancelled() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    // The recent log still holds everything; the answer must not depend on that.
    world.compact(3);
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    reader.create(from(3, point("a")));
    assert_eq!(reader.texts(), ["+0@4", "+1@4", "-0@0 compacted 3", "1@4: 3:a=2 4:a=3"]);
    assert!(!reader.cancel(0), "it is gone");
    reader.progress();
    assert_eq!(reader.texts(), ["~-1@4"], "a cancelled watcher holds up nobody");
}

#[test]
fn compaction_overtakes_a_slow_watcher() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in ["1", "2", "3", "4"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    let first: Vec<String> = reader.batch().expect("a batch").iter().map(text).collect();
    assert_eq!(first, ["+0@5", "0@5: 2:a=1"]);
    world.compact(5);
    assert_eq!(reader.texts(), ["-0@0 compacted 5"]);
}

#[test]
fn compaction_known_to_the_source_first() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in ["1", "2", "3", "4"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    world.source.compact(4);
    assert_eq!(reader.texts(), ["+0@5", "-0@0 compacted 4"]);
}

#[test]
fn compaction_does_not_disturb_a_live_watcher() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    world.put("a", "1");
    world.put("a", "2");
    world.compact(3);
    assert_eq!(reader.texts(), ["0@3: 2:a=1 3:a=2"], "events that wait in the log are complete");
    world.put("b", "1");
    world.compact(4);
    world.put("a", "3");
    assert_eq!(reader.texts(), ["0@5: 5:a=3"]);
}

#[test]
fn failed_read_of_the_past_ends_the_stream_without_a_gap() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(from(2, point("a")));
    reader.batch();
    world.source.set_fault(Some("disk"));
    let end = loop {
        if let std::task::Poll::Ready(Err(end)) = reader.poll() {
            break end;
        }
    };
    assert_eq!(end.to_string(), "read old events for a watch: disk");
    world.source.set_fault(None);
    assert!(matches!(reader.poll(), std::task::Poll::Ready(Err(_))), "an ended stream stays ended");
    let mut again = world.open();
    again.create(from(3, point("a")));
    assert_eq!(again.texts(), ["+0@4", "0@4: 3:a=2", "0@4: 4:a=3"]);
}

#[test]
fn quiet_watchers_are_told_how_far_they_are() {
    let interval = Duration::from_secs(600);
    let mut world = World::with(HubOptions { progress_interval: interval, ..HubOptions::default() });
    let mut reader = world.open();
    reader.watch(WatchRequest { progress_notify: true, ..point("a") });
    reader.watch(point("a"));
    reader.watch(WatchRequest { progress_notify: true, ..point("b") });
    world.put("b", "1");
    assert_eq!(reader.texts(), ["2@2: 2:b=1"]);
    world.hub.tick(interval - Duration::from_secs(1));
    assert_eq!(reader.texts(), Vec::<String>::new());
    // Watcher 2 had an event in this interval, watcher 1 did not ask.
    world.hub.tick(interval * 11 / 10);
    assert_eq!(reader.texts(), ["~0@2"]);
    world.hub.tick(interval * 11 / 10);
    assert_eq!(reader.texts(), Vec::<String>::new());
    world.put("c", "1");
    world.hub.tick(interval * 22 / 10);
    assert_eq!(reader.texts(), ["~0@3", "~2@3"]);
    // An event and the round at once: the event comes, and counts as news.
    world.put("a", "1");
    world.hub.tick(interval * 33 / 10);
    assert_eq!(reader.texts(), ["1@4: 4:a=1", "0@4: 4:a=1", "~2@4"]);
}

#[test]
fn quiet_round_skips_watchers_that_read_the_past_15220() {
    let interval = Duration::from_secs(600);
    let options = HubOptions { progress_interval: interval, chunk_bytes_soft: 1, ..tiny_log() };
    let mut world = World::with(options);
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let mut reader = world.open();
    reader.create(WatchRequest { progress_notify: true, no_put: true, ..from(2, point("a")) });
    world.hub.tick(interval * 2);
    let frames: Vec<String> = reader.batch().expect("a batch").iter().map(text).collect();
    assert_eq!(frames, ["+0@4"], "not yet in sync: no progress");
    assert_eq!(reader.texts(), Vec::<String>::new());
    world.hub.tick(interval * 4);
    assert_eq!(reader.texts(), ["~0@4"]);
}
