//! What the hub promises about its costs: wakes, batches, memory, shared reads, fairness.
//!
//! Owns: tests that count instead of measuring time. Source: `CONTRACT.md`, "Cost and bounds".

mod support;

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use keelson_mvcc::types::{Revision, RevisionEvents};
use keelson_watch::memory::{MemorySource, PlainCodec};
use keelson_watch::{EventSource, Frame, Hub, HubOptions, SourceError, WatchRequest};
use support::*;

#[test]
fn each_stream_is_woken_once_per_publication() {
    let mut world = World::new();
    let mut reader = world.open();
    let mut other = world.open();
    for number in 0..10 {
        reader.watch(point(&format!("k{number}")));
    }
    other.watch(point("z"));
    assert!(reader.batch().is_none() && other.batch().is_none());
    let changes: Vec<Vec<Change>> =
        (0..10).map(|number| vec![(format!("k{number}"), Some("1".to_owned()))]).collect();
    let group: Vec<_> = changes.iter().map(|changes| world.write(changes).expect("a change")).collect();
    world.hub.publish(&group, world.revision);
    assert_eq!((reader.wakes(), other.wakes()), (1, 0));
    // A reader that does not come is not woken again.
    world.put("k1", "2");
    assert_eq!(reader.wakes(), 1);
    assert_eq!(reader.drain().len(), 10);
    world.put("k1", "3");
    assert_eq!((reader.wakes(), other.wakes()), (2, 0));
    // A snapshot wakes all that have to read it, once.
    assert_eq!(reader.drain().len(), 1);
    world.install_snapshot(&[("k1", Some("4")), ("k2", Some("4"))], -1);
    assert_eq!((reader.wakes(), other.wakes()), (3, 1));
}

#[test]
fn the_waker_of_the_last_poll_counts() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(point("a"));
    assert!(reader.batch().is_none());
    let first = std::mem::take(&mut reader.wakes);
    assert!(reader.batch().is_none());
    world.put("a", "1");
    assert_eq!(reader.wakes(), 1);
    assert_eq!(Arc::strong_count(&first), 1, "the first waker is not kept");
}

#[test]
fn recent_log_is_bounded_and_hits_go_with_it() {
    let mut world = World::with(HubOptions { log_bytes_max: 10_000, ..HubOptions::default() });
    let mut reader = world.open();
    // Many ranges over one key: their hits are charged to the log too.
    for number in 0..100 {
        reader.watch(range("a", &format!("b{number}")));
    }
    for value in 0..100 {
        world.put("a", &value.to_string());
        let stats = world.hub.stats();
        assert!(stats.log_bytes <= 10_000, "{stats:?}");
    }
    let stats = world.hub.stats();
    assert!(stats.log_revisions < 4, "100 hits cost more than the event: {stats:?}");
    // Whatever a reader missed, it gets.
    assert_eq!(reader.drain().iter().map(events_in).sum::<usize>(), 100 * 100);
    // One revision above the bound is kept while it is the newest.
    let huge = "v".repeat(100_000);
    world.put("a", &huge);
    assert_eq!(world.hub.stats().log_revisions, 1);
    world.put("aa", "small");
    assert!(world.hub.stats().log_bytes < 10_000, "{:?}", world.hub.stats());
    let few = HubOptions { log_revisions_max: 5, ..HubOptions::default() };
    let mut world = World::with(few);
    for value in 0..10 {
        world.put("a", &value.to_string());
    }
    assert_eq!(world.hub.stats().log_revisions, 5);
}

fn events_in(frame: &Frame) -> usize {
    match frame {
        Frame::Events { events, .. } => events.count(),
        _ => 0,
    }
}

#[test]
fn pending_events_are_counted_per_watcher() {
    let mut world = World::new();
    let mut reader = world.open();
    reader.watch(prefix("a"));
    reader.watch(point("ab"));
    world.txn(&[("a", Some("1")), ("ab", Some("1")), ("b", Some("1"))]);
    world.put("ab", "2");
    assert_eq!(world.hub.stats().pending_events, 3 + 2);
    reader.drain();
    let stats = world.hub.stats();
    assert_eq!((stats.pending_events, stats.events_total, stats.delivered_total), (0, 4, 5));
}

#[test]
fn batches_are_bounded_live_and_past() {
    let options = HubOptions {
        batch_bytes_soft: 20_000,
        frame_bytes_soft: 5_000,
        chunk_bytes_soft: 5_000,
        ..HubOptions::default()
    };
    for log_bytes_max in [1, 100 << 20] {
        let mut world = World::with(HubOptions { log_bytes_max, ..options.clone() });
        let mut live = world.open();
        for _ in 0..100 {
            live.watch(prefix("k"));
        }
        let value = "v".repeat(500);
        for number in 0..50 {
            world.put(&format!("k{number}"), &value);
        }
        let mut past = world.open();
        for _ in 0..100 {
            past.create(from(2, prefix("k")));
        }
        for reader in [&mut live, &mut past] {
            let mut total = 0;
            while let Some(frames) = reader.batch() {
                let bytes: usize = frames
                    .iter()
                    .map(|frame| match frame {
                        Frame::Events { events, .. } => events.encoded_len(),
                        _ => 0,
                    })
                    .sum();
                // A share for live events and one for the past, each over by at most one frame (or read of the past).
                assert!(bytes <= 2 * (20_000 + 6_000), "a batch of {bytes} bytes");
                total += frames.iter().map(events_in).sum::<usize>();
            }
            assert_eq!(total, 100 * 50);
        }
    }
}

#[test]
fn streams_at_the_same_place_share_reads_of_the_past() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1_000, ..tiny_log() });
    for number in 0..100 {
        world.put("a", &format!("{number:0100}"));
    }
    let mut readers: Vec<Reader> = (0..50).map(|_| world.open()).collect();
    for reader in &readers {
        reader.create(from(2, point("a")));
    }
    // All of them come back after a restart and read in turns.
    let mut counts = vec![0; readers.len()];
    let mut waiting = 0;
    while waiting < readers.len() {
        waiting = 0;
        for (reader, count) in readers.iter_mut().zip(&mut counts) {
            match reader.batch() {
                Some(frames) => *count += frames.iter().map(events_in).sum::<usize>(),
                None => waiting += 1,
            }
        }
    }
    assert_eq!(counts, vec![100; 50]);
    let scans = world.source.scans();
    assert!(scans <= 20, "{scans} reads for 50 streams over ten pieces");
    let encoded = world.codec.encoded.load(std::sync::atomic::Ordering::Relaxed);
    readers.clear();
    assert_eq!(encoded, 0, "nothing was asked for as bytes");
}

#[test]
fn watchers_of_one_stream_share_reads_of_the_past() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1_000, ..tiny_log() });
    for number in 0..100 {
        world.put(&format!("k{:02}", number % 20), &format!("{number:0100}"));
    }
    let mut reader = world.open();
    for number in 0..20 {
        // Starts close together become one cohort.
        reader.create(from(2 + number % 5, point(&format!("k{number:02}"))));
    }
    let total: usize = reader.drain().iter().map(events_in).sum();
    let expected = (0..20).filter(|number| 2 + number >= 2 + number % 5).count() * 5;
    assert_eq!(total, expected);
    assert!(world.source.scans() <= 15, "{} reads", world.source.scans());
}

#[test]
fn one_poll_reads_one_piece_of_the_past() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for _ in 0..10 {
        world.put("a", "1");
    }
    let mut reader = world.open();
    reader.watch(point("zz"));
    reader.create(from(2, point("z")));
    assert_eq!(reader.drain().len(), 1, "the reply");
    // Nine revisions from the source, the newest from the log; each poll without a frame asked to be polled again.
    assert_eq!(world.source.scans(), 9);
    assert_eq!(reader.wakes(), 9);
    assert_eq!(world.hub.stats().slow_watchers, 0);
}

#[test]
fn live_events_do_not_starve_the_past_nor_the_other_way_round() {
    let options = HubOptions {
        batch_frames_soft: 2,
        frame_bytes_soft: 1,
        chunk_bytes_soft: 1,
        ..HubOptions::default()
    };
    let mut world = World::with(options);
    for value in 0..20 {
        world.put("past", &value.to_string());
    }
    let mut reader = world.open();
    for number in 0..5 {
        reader.watch(point(&format!("live{number}")));
    }
    reader.create(from(2, point("past")));
    let (mut past, mut live) = (0, 0);
    for round in 0..25 {
        for number in 0..5 {
            world.put(&format!("live{number}"), &round.to_string());
        }
        for frame in reader.batch().expect("always something") {
            if frame.id() == 5 { past += events_in(&frame) } else { live += events_in(&frame) }
        }
    }
    assert_eq!(past, 20, "a revision per batch came from the past");
    assert!(live >= 40, "{live} live events");
}

#[test]
fn the_past_has_a_budget_of_its_own() {
    let mut world = World::with(HubOptions { batch_frames_soft: 4, ..HubOptions::default() });
    world.put("past", "1");
    let mut reader = world.open();
    for number in 0..4 {
        reader.watch(point(&format!("live{number}")));
    }
    for _ in 0..4 {
        reader.create(from(2, point("past")));
    }
    for number in 0..4 {
        world.put(&format!("live{number}"), "1");
    }
    let frames = reader.batch().expect("a batch");
    let events = frames.iter().filter(|frame| events_in(frame) > 0).map(Frame::id).collect::<Vec<_>>();
    assert_eq!(events, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_stream_keeps_the_piece_it_is_serving() {
    let options = HubOptions { batch_frames_soft: 10, chunk_bytes_soft: 1_000, ..tiny_log() };
    let mut world = World::with(options);
    for value in 0..200 {
        world.put("a", &format!("{value:0100}"));
    }
    let mut reader = world.open();
    for _ in 0..100 {
        reader.create(from(2, point("a")));
    }
    let mut scans = 0;
    for batch in 0..5 {
        let before = world.source.scans();
        assert!(reader.batch().expect("a batch").len() >= 10);
        scans += world.source.scans() - before;
        // Others read elsewhere, and their pieces push this one out of the shared memory.
        for other in 0..5 {
            let mut other_reader = world.open();
            other_reader.create(from(50 + 30 * other + batch, point("a")));
            other_reader.batch();
        }
    }
    assert_eq!(scans, 1, "one read for a hundred watchers");
}

#[test]
fn new_watchers_far_behind_do_not_starve_those_that_are_nearly_done() {
    let mut world = World::with(HubOptions { chunk_bytes_soft: 1, ..tiny_log() });
    for value in 0..200 {
        world.put("a", &value.to_string());
    }
    let mut reader = world.open();
    reader.create(WatchRequest { id: 1_000, ..from(100, point("a")) });
    let mut seen = 0;
    let mut polls = 0;
    while seen < 102 {
        // A new one from the beginning before each batch.
        let id = reader.create(from(2, point("a"))).expect("room");
        for frame in reader.batch().expect("always something") {
            if frame.id() == 1_000 {
                seen += events_in(&frame);
            }
        }
        reader.cancel(id - 20);
        polls += 1;
        assert!(polls < 102 * 110, "the old watcher has seen {seen} events after {polls} batches");
    }
}

#[test]
fn many_watchers_of_one_stream_over_the_same_past() {
    // More than one group, and a batch that holds only a few of them.
    let options =
        HubOptions { batch_frames_soft: 10, chunk_bytes_soft: 2_000, controls_max: 2_000, ..tiny_log() };
    let mut world = World::with(options);
    for value in 0..30 {
        world.put("a", &format!("{value:0100}"));
    }
    let mut reader = world.open();
    for number in 0..1_200 {
        reader.create(from(2, if number % 2 == 0 { point("a") } else { prefix("a") }));
    }
    let mut next = vec![2; 1_200];
    for frame in reader.drain() {
        if let Frame::Events { id, events, .. } = frame {
            for event in events.events() {
                assert_eq!(event.kv.mod_revision, next[id as usize]);
                next[id as usize] += 1;
            }
        }
    }
    assert!(next.iter().all(|next| *next == 32));
    assert!(world.source.scans() <= 10, "{} reads", world.source.scans());
}

/// Drops a row while it is being read, and raises the mark only then.
struct CompactsWhileReading(MemorySource);

impl EventSource for CompactsWhileReading {
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        let mut events = self.0.events(after, upto, bytes_soft)?;
        if after + 1 < 4 {
            events.remove(0);
            self.0.compact(4);
        }
        Ok(events)
    }

    fn revision(&self) -> Revision {
        self.0.revision()
    }

    fn compacted(&self) -> Revision {
        self.0.compacted()
    }
}

#[test]
fn rows_that_vanish_during_a_read_are_not_skipped_silently() {
    let mut world = World::new();
    let source = Arc::new(CompactsWhileReading(MemorySource::default()));
    for value in ["1", "2", "3", "4"] {
        world.put("a", value);
        source.0.append(world.history.last().expect("just written").clone());
    }
    let hub = Hub::new(HubOptions::default(), source, Arc::new(PlainCodec));
    let mut reader = Reader::new(hub.open());
    reader.create(from(2, point("a")));
    reader.create(from(4, point("a")));
    let mut texts = reader.texts();
    texts.sort();
    assert_eq!(texts, ["+0@5", "+1@5", "-0@0 compacted 4", "1@5: 4:a=3 5:a=4"]);
}

#[test]
fn contradicting_source_ends_the_stream() {
    struct Contradiction;
    impl EventSource for Contradiction {
        fn events(
            &self,
            _: Revision,
            _: Revision,
            _: usize,
        ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
            Err(SourceError::Compacted { mark: 2 })
        }
        fn revision(&self) -> Revision {
            10
        }
        fn compacted(&self) -> Revision {
            2
        }
    }
    let hub = Hub::new(HubOptions::default(), Arc::new(Contradiction), Arc::new(PlainCodec));
    let mut reader = Reader::new(hub.open());
    reader.create(from(5, point("a")));
    assert!(matches!(reader.poll(), Poll::Ready(Ok(frames)) if frames.len() == 1));
    assert!(matches!(reader.poll(), Poll::Ready(Err(_))), "no endless loop");
}

#[test]
#[should_panic(expected = "published revision 2 after 2")]
fn a_revision_is_published_once() {
    let mut world = World::new();
    world.put("a", "1");
    world.hub.publish(&[world.history[0].clone()], 2);
}

#[test]
#[should_panic(expected = "the store went back")]
fn a_snapshot_from_the_past_is_refused() {
    let mut world = World::new();
    world.put("a", "1");
    world.hub.reset(1, -1);
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn real_threads_lose_no_wake_and_no_event() {
    const REVISIONS: i64 = 20_000;
    // A log that holds some hundred revisions: readers change between live and past all the time.
    let mut world = World::with(HubOptions {
        log_bytes_max: 200_000,
        chunk_bytes_soft: 5_000,
        frame_bytes_soft: 20_000,
        ..HubOptions::default()
    });
    std::thread::scope(|scope| {
        for number in 0..4 {
            let mut stream = world.hub.open();
            let control = stream.control();
            scope.spawn(move || {
                block_on(async {
                    control.create(&prefix("k")).await.expect("open");
                    control.create(&point(&format!("k{number}"))).await.expect("open");
                    let mut next = [2, 0];
                    while next[0] <= REVISIONS + 1 {
                        for frame in stream.next().await.expect("open") {
                            let Frame::Events { id, events, .. } = frame else { continue };
                            for event in events.events() {
                                let revision = event.kv.mod_revision;
                                if id == 0 {
                                    assert_eq!(revision, next[0]);
                                    next[0] += 1;
                                } else {
                                    assert!(revision > next[1] && revision % 7 == number);
                                    next[1] = revision;
                                }
                            }
                        }
                    }
                });
            });
        }
        for revision in 2..=REVISIONS + 1 {
            // Readers may create their watchers at any time; hold back the first event until all are there.
            while revision == 2 && world.hub.stats().watchers < 8 {
                std::thread::yield_now();
            }
            assert_eq!(world.put(&format!("k{}", revision % 7), "value"), revision);
        }
    });
    assert_eq!(world.hub.stats().streams, 0);
}
