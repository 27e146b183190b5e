//! Cost of applying puts and of reading, with RocksDB.
//!
//! `cargo run --release --example apply_bench -- [keys] [puts] [group]` prints microseconds of this thread's CPU per
//! put, keys per second of a range, microseconds per point get, and what a restart and a count cost. Values have 256
//! bytes. A number is worth something only beside the machine, the commit and this command.

use std::time::{Duration, Instant};

use bytes::Bytes;
use keelson_mvcc::*;

const VALUE_BYTES: usize = 256;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let keys = arguments.next().unwrap_or(200_000);
    let puts = arguments.next().unwrap_or(1_000_000);
    let group = arguments.next().unwrap_or(128);
    let dir = tempfile::tempdir().expect("a directory");
    let start = now();
    let mut bench = Bench::open(dir.path());
    println!("open an empty store: {:.1?}, {} bytes", start.elapsed(), bench.store.view().size_bytes());
    println!("{keys} keys, {puts} puts of {VALUE_BYTES} B in groups of {group}; idle RSS {} MB", rss_mb());

    bench.puts("create", keys, group, |number| number);
    bench.puts("overwrite", puts, group, |number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys);
    bench.reads(keys);
    bench.compact();
    bench.restart(dir.path());
    let mut bench = Bench::open(dir.path());
    bench.delete_all();
    println!("RSS {} MB", rss_mb());
}

struct Bench {
    store: Store<RocksEngine>,
    next: u64,
}

impl Bench {
    fn open(dir: &std::path::Path) -> Self {
        let engine = RocksEngine::open(dir, RocksOptions::default()).expect("the engine opens");
        let store = Store::open(engine, StoreOptions::default()).expect("the store opens");
        let next = store.applied().map_or(0, |applied| applied.index + 1);
        Bench { store, next }
    }

    fn puts(&mut self, what: &str, count: u64, group: u64, key_of: impl Fn(u64) -> u64) {
        let (wall, cpu) = (now(), thread_cpu());
        let (mut flush_wall, mut flush_cpu, mut unflushed) = (Duration::ZERO, Duration::ZERO, 0);
        let mut number = 0;
        while number < count {
            // One buffer per entry, as it comes from the log.
            let mut buffer = Vec::with_capacity((group as usize) * (VALUE_BYTES + 40));
            let last = (number + group).min(count);
            for number in number..last {
                buffer.extend_from_slice(key(key_of(number)).as_bytes());
                buffer.extend(std::iter::repeat_n(number as u8, VALUE_BYTES));
            }
            let mut buffer = Bytes::from(buffer);
            let commands = (number..last).map(|number| {
                let key = buffer.split_to(key(key_of(number)).len());
                Command::Put(Put { key, value: buffer.split_to(VALUE_BYTES), ..Put::default() })
            });
            let commands = commands.collect();
            let position = LogPosition { term: 1, leader: 1, index: self.next };
            self.next += 1;
            self.store.apply(&[ApplyEntry::Commands { position, commands }]).expect("the engine works");
            unflushed += (last - number) * (VALUE_BYTES as u64) * 2;
            number = last;
            if unflushed > 32 << 20 {
                unflushed = 0;
                let (wall, cpu) = (now(), thread_cpu());
                self.store.flush().expect("the engine works");
                flush_wall += wall.elapsed();
                flush_cpu += thread_cpu() - cpu;
            }
        }
        let (wall, cpu) = (wall.elapsed() - flush_wall, thread_cpu() - cpu - flush_cpu);
        let per = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        println!(
            "{what}: {:.2} us CPU, {:.2} us wall per put; flushes {flush_wall:.1?} beside",
            per(cpu),
            per(wall)
        );
    }

    fn reads(&self, keys: u64) {
        let view = self.store.reader().view();
        let all = KeyRange { key: Bytes::from_static(b"/"), end: Bytes::from_static(b"0") };
        let everything = RangeOptions { range: all.clone(), ..RangeOptions::default() };
        let start = thread_cpu();
        let found = view.range(&everything).expect("a range").kvs.len();
        println!("range: {:.0} keys/s of CPU", found as f64 / (thread_cpu() - start).as_secs_f64());
        let revision = view.revision() - 20_000.min(view.revision() / 2);
        let start = thread_cpu();
        let found = view.range(&RangeOptions { revision, ..everything.clone() }).expect("a range").kvs.len();
        println!(
            "range in the past: {:.0} keys/s of CPU",
            found as f64 / (thread_cpu() - start).as_secs_f64()
        );

        let few: Vec<_> = (0..1000).map(|number| key(number * 31 % keys)).collect();
        per("point get, mostly cached", 1_000_000, |number| view.get(few[number as usize % 1000].as_bytes()));
        per("point get, any key", 100_000, |number| view.get(key(number * 7919 % keys).as_bytes()));
        let engine = RangeOptions { revision, ..RangeOptions::default() };
        per("point get in the past", 20_000, |number| {
            let range = KeyRange::single(key(number * 7919 % keys));
            view.range(&RangeOptions { range, ..engine.clone() }).expect("a read")
        });
        per("count of everything", 2_000, |_| view.count(&all, 0).expect("a count"));
        let page = RangeOptions { limit: 500, ..everything.clone() };
        per("page of 500 with count", 500, |number| {
            let range = KeyRange { key: key(number * 131 % keys).into(), end: all.end.clone() };
            view.range(&RangeOptions { range, ..page.clone() }).expect("a page")
        });
        per("last key", 2_000, |_| {
            let options = RangeOptions { limit: 1, sort_order: SortOrder::Descend, ..everything.clone() };
            view.range(&options).expect("a range")
        });
        let start = thread_cpu();
        let events: usize = view
            .events(view.revision() - 100_000.min(view.revision() / 2), view.revision(), usize::MAX)
            .expect("events")
            .iter()
            .map(|one| one.events.len())
            .sum();
        println!("events: {:.0}/s of CPU", events as f64 / (thread_cpu() - start).as_secs_f64());
        let start = thread_cpu();
        view.hash_kv(0).expect("a hash");
        println!("hash of everything: {:.1?} CPU", thread_cpu() - start);
    }

    fn compact(&mut self) {
        let before = self.store.view().size_bytes();
        let revision = self.store.view().revision();
        let start = now();
        let position = LogPosition { term: 1, leader: 1, index: self.next };
        self.next += 1;
        let commands = vec![Command::Compact { revision }];
        self.store.apply(&[ApplyEntry::Commands { position, commands }]).expect("the engine works");
        println!("compact: {:.1?} in the foreground", start.elapsed());
        let start = now();
        self.store.flush().expect("the engine works");
        let mut job = self.store.compaction_job();
        let mut slices = 0;
        while job.step(32 << 20).expect("the engine works") != CompactionProgress::Idle {
            slices += 1;
        }
        let after = self.store.view().size_bytes();
        let mb = |bytes: u64| bytes >> 20;
        println!("then {slices} slices in {:.1?}: {} MB to {} MB", start.elapsed(), mb(before), mb(after));
    }

    fn delete_all(&mut self) {
        let (cpu, before) = (thread_cpu(), rss_mb());
        let range = KeyRange { key: Bytes::from_static(b"/"), end: Bytes::from_static(b"0") };
        let position = LogPosition { term: 1, leader: 1, index: self.next };
        self.next += 1;
        let commands = vec![Command::DeleteRange(DeleteRange { range, prev_kv: false })];
        let applied =
            self.store.apply(&[ApplyEntry::Commands { position, commands }]).expect("the engine works");
        println!(
            "delete {} keys in one revision: {:.1?} CPU, RSS {before} to {} MB",
            applied.events[0].events.len(),
            thread_cpu() - cpu,
            rss_mb()
        );
    }

    fn restart(&mut self, dir: &std::path::Path) {
        let keys = self.store.view().key_count();
        let other = tempfile::tempdir().expect("a directory");
        let empty = Bench::open(other.path());
        self.next = empty.next;
        drop(std::mem::replace(self, empty));
        let start = now();
        let bench = Bench::open(dir);
        println!("open with {} keys: {:.1?}", bench.store.view().key_count(), start.elapsed());
        assert_eq!(bench.store.view().key_count(), keys);
    }
}

fn key(number: u64) -> String {
    format!("/registry/pods/ns-{:03}/pod-{number:09}", number % 100)
}

fn per<T>(what: &str, count: u64, run: impl Fn(u64) -> T) {
    let start = thread_cpu();
    for number in 0..count {
        std::hint::black_box(run(number));
    }
    println!("{what}: {:.2} us CPU", (thread_cpu() - start).as_secs_f64() * 1e6 / count as f64);
}

#[allow(clippy::disallowed_methods)] // Measuring is what this program is for.
fn now() -> Instant {
    Instant::now()
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0))
}

fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) >> 10
}
