//! Measures the log on a real directory: `wal_bench DIRECTORY [payload_bytes] [seconds] [waiters...]`.
//!
//! Each waiter appends one record, waits until it is durable, and appends the next; waiters share the writer.
//! Run it on the disk that will hold the data, on a quiet machine, and read it beside the figures of a plain
//! 4 KiB `fdatasync` loop there. To have many waiters on few cores, one thread plays up to 512 of them: it
//! keeps that many records in flight.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keelson_wal::writer::{Observer, SyncSample};
use keelson_wal::{
    Bytes, Completion, EntryRecord, Identity, Op, Options, RealDisk, Wal, WriterHandle, WriterOptions,
    spawn_writer,
};

#[derive(Clone, Default)]
struct Syncs(Arc<Totals>);

#[derive(Default)]
struct Totals {
    count: AtomicU64,
    nanos: AtomicU64,
    bytes: AtomicU64,
    samples: Mutex<Vec<u64>>,
}

impl Observer for Syncs {
    fn synced(&mut self, sample: &SyncSample) {
        let nanos = sample.duration.as_nanos() as u64;
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.0.bytes.fetch_add(sample.bytes, Ordering::Relaxed);
        self.0.samples.lock().expect("no panics here").push(nanos);
    }
}

/// One thread that keeps `in_flight` records on their way until time is up. Indexes come from one counter that
/// is held while submitting, because the log wants them without gaps.
fn play(
    handle: &WriterHandle,
    next: &Mutex<u64>,
    payload: &Bytes,
    in_flight: usize,
    until: Duration,
    clock: &impl Fn() -> Duration,
) -> u64 {
    let (sender, receiver) = channel::<()>();
    let submit = || {
        let mut next = next.lock().expect("no panics here");
        let entry = EntryRecord { index: *next, term: 1, leader: 1, payload: payload.clone() };
        *next += 1;
        let sender = sender.clone();
        let completion: Completion = Box::new(move |result| {
            result.expect("the log is good");
            // The receiver is gone when time is up.
            let _ = sender.send(());
        });
        handle.submit_blocking(Op::Append(vec![entry]), Some(completion));
    };
    (0..in_flight).for_each(|_| submit());
    let mut done = 0;
    while clock() < until {
        receiver.recv().expect("completions come");
        done += 1;
        let mut more = 1;
        while receiver.try_recv().is_ok() {
            done += 1;
            more += 1;
        }
        (0..more).for_each(|_| submit());
    }
    done
}

fn run(
    dir: &Path,
    payload_bytes: usize,
    seconds: u64,
    waiters: usize,
    clock: impl Fn() -> Duration + Copy + Send + Sync,
) {
    let _ = std::fs::remove_dir_all(dir);
    // Salts only have to differ from run to run here.
    let mut salt = u64::from(std::process::id()) << 32;
    let options = Options::new(
        Identity { cluster: 1, member: 1 },
        Box::new(move || {
            salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            salt
        }),
    );
    let started = clock();
    let (mut wal, _) = Wal::open(RealDisk, dir, options).expect("open the log");
    let open_time = clock() - started;
    // The steady state is of interest, so start with a full-grown segment ready.
    wal.prepare().expect("prepare a segment");
    let syncs = Syncs::default();
    let handle =
        spawn_writer(wal, WriterOptions { observer: Box::new(syncs.clone()), ..WriterOptions::default() })
            .expect("start the writer");
    let next = Mutex::new(1);
    let payload = Bytes::from(vec![0x5a; payload_bytes]);
    let threads = waiters.div_ceil(512);
    let begin = clock();
    let until = begin + Duration::from_secs(seconds);
    let total: u64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let in_flight = waiters / threads + usize::from(thread < waiters % threads);
                let (handle, next, payload) = (&handle, &next, &payload);
                scope.spawn(move || play(handle, next, payload, in_flight, until, &clock))
            })
            .collect();
        // Keeps the log short, as a store does, so that segments are recycled.
        while clock() < until {
            let last = *next.lock().expect("no panics here");
            handle.wait_durable(last.saturating_sub(1).max(1)).expect("the log is good");
            let keep = (32 << 20) / (payload_bytes as u64 + 29);
            if last > keep {
                handle.submit(Op::Purge { through: last - keep, position: Bytes::new() }, None);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        running.into_iter().map(|thread| thread.join().expect("no panics here")).sum()
    });
    let elapsed = (clock() - begin).as_secs_f64();
    handle.shutdown();
    let totals = &syncs.0;
    let count = totals.count.load(Ordering::Relaxed).max(1);
    let mut samples = std::mem::take(&mut *totals.samples.lock().expect("no panics here"));
    samples.sort_unstable();
    let percentile = |part: usize| samples[(samples.len() - 1) * part / 100] / 1000;
    println!(
        "{waiters:>7} {:>11.0} {:>9.0} {:>9} {:>9} {:>9} {:>11.1} {:>9.1} {:>9.2}",
        total as f64 / elapsed,
        count as f64 / elapsed,
        totals.nanos.load(Ordering::Relaxed) / count / 1000,
        percentile(50),
        percentile(99),
        total as f64 / count as f64,
        totals.bytes.load(Ordering::Relaxed) as f64 / elapsed / 1e6,
        open_time.as_secs_f64() * 1e3,
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: wal_bench DIRECTORY [payload_bytes] [seconds] [waiters...]");
        std::process::exit(2);
    };
    let mut number =
        |otherwise: u64| arguments.next().map_or(otherwise, |text| text.parse().expect("a number"));
    let payload_bytes = number(256) as usize;
    let seconds = number(3);
    let mut waiters: Vec<usize> = arguments.map(|text| text.parse().expect("a number")).collect();
    if waiters.is_empty() {
        waiters = vec![1, 8, 64, 512, 2048];
    }
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let start = std::time::Instant::now();
    println!("payload {payload_bytes} bytes, {seconds} s each, in {}", dir.display());
    println!(
        "{:>7} {:>11} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9}",
        "waiters", "records/s", "syncs/s", "us/sync", "p50 us", "p99 us", "per sync", "MB/s", "open ms"
    );
    for count in waiters {
        run(&dir.join("wal_bench"), payload_bytes, seconds, count, move || start.elapsed());
    }
    let _ = std::fs::remove_dir_all(dir.join("wal_bench"));
}
