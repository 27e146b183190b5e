//! Prints the cost of a delivered event for several shapes of fan-out, on one thread.
//!
//! Owns: nothing. Run: `cargo run --release -p keelson-watch --example fanout_bench`. A delivered event is one event
//! handed to one watcher with its bytes copied into an output buffer, as a server would do for small events; sockets
//! are not part of it. "publish" is the share of `Hub::publish` alone, which is what the apply task waits for.
//! Source: own; the shapes follow `spec/performance.md`, section 7.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use keelson_mvcc::types::{Event, EventKind, KeyRange, KeyValue, Revision, RevisionEvents};
use keelson_watch::memory::PlainCodec;
use keelson_watch::{EventSource, Frame, Hub, HubOptions, SourceError, WatchRequest, WatchStream};

/// There is no past here: all readers keep up.
struct NoPast;

impl EventSource for NoPast {
    fn events(&self, _: Revision, _: Revision, _: usize) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        Err(SourceError::Failed("a reader fell behind".to_owned()))
    }

    fn revision(&self) -> Revision {
        1
    }

    fn compacted(&self) -> Revision {
        -1
    }
}

/// Wakes by putting the number of the stream into a list.
struct Ready {
    number: usize,
    list: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.list.lock().expect("one thread").push(self.number);
    }
}

struct Bench {
    hub: Hub,
    streams: Vec<(WatchStream, Waker)>,
    ready: Arc<Mutex<Vec<usize>>>,
    revision: Revision,
    out: BytesMut,
}

impl Bench {
    fn new(streams: usize) -> Self {
        let hub = Hub::new(HubOptions::default(), Arc::new(NoPast), Arc::new(PlainCodec));
        let ready = Arc::new(Mutex::new(Vec::new()));
        let streams = (0..streams)
            .map(|number| (hub.open(), Waker::from(Arc::new(Ready { number, list: ready.clone() }))))
            .collect();
        Bench { hub, streams, ready, revision: 1, out: BytesMut::with_capacity(1 << 20) }
    }

    fn watch(&self, stream: usize, request: &WatchRequest) {
        let control = self.streams[stream].0.control();
        assert!(matches!(control.try_create(request), Ok(Some(_))));
    }

    fn event(&self, revision: Revision, key: String, value: &Bytes) -> Arc<RevisionEvents> {
        let kv = KeyValue {
            key: key.into(),
            value: value.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        Arc::new(RevisionEvents {
            revision,
            events: vec![Event { kind: EventKind::Put, kv, prev: None, sub: 0 }],
        })
    }

    /// Reads one stream until it waits; gives the number of events.
    fn drain(&mut self, number: usize) -> u64 {
        let (stream, waker) = &mut self.streams[number];
        let mut events = 0;
        while let Poll::Ready(frames) = stream.poll_next(&mut Context::from_waker(waker)) {
            for frame in frames.expect("the hub is open") {
                if let Frame::Events { events: batch, .. } = frame {
                    events += batch.count() as u64;
                    batch.copy_to(&mut self.out);
                    if self.out.len() > 1 << 19 {
                        black_box(&self.out);
                        self.out.clear();
                    }
                }
            }
        }
        events
    }

    fn drain_all(&mut self) {
        for number in 0..self.streams.len() {
            self.drain(number);
        }
        self.ready.lock().expect("one thread").clear();
    }

    /// Publishes groups of `group` events for about a second and drains who was woken after each.
    #[allow(clippy::disallowed_methods)] // A benchmark measures real time.
    fn run(&mut self, name: &str, group: usize, value_bytes: usize, mut key: impl FnMut(u64) -> String) {
        let value = Bytes::from(vec![b'v'; value_bytes]);
        self.drain_all();
        let (mut delivered, mut published, mut wakes) = (0u64, 0u64, 0u64);
        let mut publishing = Duration::ZERO;
        let mut total = Duration::ZERO;
        while total < Duration::from_secs(1) {
            let events: Vec<_> = (0..group as i64)
                .map(|number| self.event(self.revision + 1 + number, key(published + number as u64), &value))
                .collect();
            let start = Instant::now();
            self.revision += group as i64;
            self.hub.publish(&events, self.revision);
            publishing += start.elapsed();
            let woken = std::mem::take(&mut *self.ready.lock().expect("one thread"));
            wakes += woken.len() as u64;
            for number in woken {
                delivered += self.drain(number);
            }
            total += start.elapsed();
            published += group as u64;
        }
        let per = |time: Duration, count: u64| time.as_nanos() as f64 / count as f64;
        let cost = if delivered == 0 { "-".to_owned() } else { format!("{:.1}", per(total, delivered)) };
        println!(
            "{name:<44} group {group:>2} {cost:>8} ns/delivered {:>7.0} ns publish/event {:>9.0} delivered/s {:>8.2} wakes/event",
            per(publishing, published),
            delivered as f64 / total.as_secs_f64(),
            wakes as f64 / published as f64,
        );
    }
}

fn point(key: String) -> WatchRequest {
    WatchRequest { range: KeyRange::single(key), ..WatchRequest::default() }
}

fn prefix(key: &str) -> WatchRequest {
    let mut end = key.as_bytes().to_vec();
    *end.last_mut().expect("not empty") += 1;
    WatchRequest {
        range: KeyRange { key: key.to_owned().into(), end: end.into() },
        ..WatchRequest::default()
    }
}

/// A cheap sequence that visits keys in no order.
fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Resident memory of many point watchers; first of all, because freed memory of other runs would hide it.
fn memory() {
    let mut kept = Vec::new();
    for (name, streams) in [("one stream", 1), ("a stream each", 200_000)] {
        let before = resident_bytes();
        let mut bench = Bench::new(streams);
        let count = 200_000;
        let mut key = String::new();
        for number in 0..count {
            key.clear();
            write!(key, "/registry/pods/default/pod-{number:09}").expect("a string");
            bench.watch(number % streams, &point(key.clone()));
            if number % 1000 == 999 && streams == 1 {
                bench.drain_all();
            }
        }
        bench.drain_all();
        let bytes = (resident_bytes() - before) as f64 / count as f64;
        println!(
            "{count} point watchers with keys of {} bytes, {name}: {bytes:.0} resident bytes each",
            key.len()
        );
        kept.push(bench);
    }
    drop(kept);
}

fn main() {
    memory();
    for group in [1, 64] {
        let mut bench = Bench::new(1);
        for _ in 0..1000 {
            bench.watch(0, &point("/registry/a".to_owned()));
        }
        bench.run("1000 watchers of one key, one stream", group, 256, |_| "/registry/a".to_owned());

        let mut bench = Bench::new(1000);
        for stream in 0..1000 {
            bench.watch(stream, &point("/registry/a".to_owned()));
        }
        bench.run("1000 watchers of one key, one per stream", group, 256, |_| "/registry/a".to_owned());

        let mut bench = Bench::new(100);
        let key = |number: u64| format!("/registry/pods/namespace-{:04}/pod-{number:07}", number % 1000);
        for number in 0..100_000 {
            bench.watch(number % 100, &point(key(number as u64)));
            if number % 1000 == 999 {
                bench.drain_all();
            }
        }
        bench.run("100,000 points on 100 streams, one match", group, 256, |number| {
            key(scattered(number, 100_000))
        });

        let mut bench = Bench::new(1000);
        for stream in 0..1000 {
            bench.watch(stream, &prefix(&format!("/registry/pods/namespace-{stream:04}/")));
        }
        bench.run("1000 prefixes, one per stream, one match", group, 256, |number| {
            key(scattered(number, 1_000_000))
        });

        let mut bench = Bench::new(1000);
        for stream in 0..1000 {
            bench.watch(stream, &prefix("/registry/pods/"));
        }
        bench.run("1000 watchers of one prefix, one per stream", group, 256, |number| {
            key(scattered(number, 1_000_000))
        });

        let mut bench = Bench::new(1000);
        for stream in 0..1000 {
            let range = KeyRange {
                key: format!("/registry/pods/namespace-{stream:04}/a").into(),
                end: format!("/registry/pods/namespace-{:04}/x", stream + 1).into(),
            };
            bench.watch(stream, &WatchRequest { range, ..WatchRequest::default() });
        }
        bench.run("1000 overlapping ranges, about two match", group, 256, |number| {
            key(scattered(number, 1_000_000))
        });
    }

    // Publication with nobody concerned: what every put pays.
    let mut bench = Bench::new(1);
    for number in 0..100_000 {
        bench.watch(0, &point(format!("/registry/other/{number:07}")));
        if number % 1000 == 999 {
            bench.drain_all();
        }
    }
    bench.run("100,000 points, no match", 64, 256, |number| format!("/registry/pods/{number:012}"));
}
