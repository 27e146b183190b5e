//! The writer: order of completions, group commit, durable mark, back-pressure, and what happens on errors.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::*;
use keelson_wal::disk::{Crash, Fault, OpKind};
use keelson_wal::writer::{Begin, Observer, SyncSample, Writer, writer};
use keelson_wal::{Completion, Op, SimDisk, WalError, WriterHandle, WriterOptions, spawn_writer};

/// Waits are bounded by this; nothing depends on how long anything takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Events in the order they happened.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn completion(&self, name: &str) -> Option<Completion> {
        let (journal, name) = (self.clone(), name.to_string());
        Some(Box::new(move |result| {
            journal.note(match result {
                Ok(()) => format!("{name} ok"),
                Err(error) => format!("{name} failed: {error}"),
            });
        }))
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn done_signal() -> (Option<Completion>, Receiver<Result<(), WalError>>) {
    let (sender, receiver) = channel();
    let completion: Completion = Box::new(move |result| drop(sender.send(result)));
    (Some(completion), receiver)
}

fn options_for(journal: &Journal) -> WriterOptions {
    let journal = journal.clone();
    WriterOptions {
        on_fatal: Box::new(move |error| journal.note(format!("fatal: {error}"))),
        // No test waits for it, and none is disturbed by it.
        idle_seal: Duration::from_secs(3600),
        ..WriterOptions::default()
    }
}

fn task_driven(seed: u64, journal: &Journal) -> (SimDisk, Writer<SimDisk>, WriterHandle) {
    let disk = SimDisk::new(seed);
    let (wal, _) = open(&disk).unwrap();
    let (writer, handle) = writer(wal, options_for(journal));
    (disk, writer, handle)
}

fn append(from: u64, to: u64) -> Op {
    Op::Append(entries(from, to, 1, 100))
}

#[test]
fn everything_queued_is_one_group_and_completes_in_order() {
    let journal = Journal::default();
    let (disk, mut writer, handle) = task_driven(1, &journal);
    assert_eq!(writer.begin(), Begin::Idle);
    for (name, op) in [
        ("a", append(1, 4)),
        ("b", Op::Vote(blob("v"))),
        ("c", Op::Truncate { after: Some(2) }),
        ("d", append(3, 5)),
        ("e", Op::Committed(blob("c"))),
    ] {
        handle.submit(op, journal.completion(name));
    }
    disk.set_trace(true);
    assert_eq!(writer.begin(), Begin::Written);
    assert!(journal.take().is_empty(), "nothing is acknowledged before the sync");
    assert_eq!(handle.durable_through(), None);
    assert!(writer.finish());
    assert_eq!(journal.take(), ["a ok", "b ok", "c ok", "d ok", "e ok"]);
    assert_eq!(disk.take_trace().len(), 2, "one write, one sync");
    assert_eq!(handle.durable_through(), Some(4));
    assert_eq!(handle.progress().completed, 5);

    // Nothing here needs a sync, so nothing waits for one.
    handle.submit(Op::Committed(blob("d")), journal.completion("f"));
    handle.submit(Op::Purge { through: 1, position: blob("p") }, journal.completion("g"));
    assert_eq!(writer.begin(), Begin::Noted);
    assert_eq!(journal.take(), ["f ok", "g ok"]);
    assert!(disk.take_trace().is_empty());
    writer.stop();
    assert!(!disk.take_trace().is_empty(), "the seal takes them along");
    handle.submit(append(5, 6), journal.completion("late"));
    assert_eq!(journal.take(), ["late failed: the log is closed"]);
}

/// etcd issue 14370 at the level of the driver: with the disk standing still inside the sync, no
/// acknowledgement leaves; votes (which openraft answers with) included.
#[test]
fn etcd_14370_nothing_is_acknowledged_while_the_sync_stands_still() {
    let disk = SimDisk::new(2);
    let (mut wal, _) = open(&disk).unwrap();
    wal.prepare().unwrap();
    let (entered, in_sync) = channel();
    let (resume, gate) = channel::<()>();
    let (entered, gate) = (Mutex::new(entered), Mutex::new(gate));
    let stall = Arc::new(AtomicBool::new(true));
    let stalled = stall.clone();
    disk.set_hook(move |op| {
        if op.kind == OpKind::Sync && stalled.load(Ordering::SeqCst) {
            entered.lock().unwrap().send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
    });
    let journal = Journal::default();
    let handle = spawn_writer(wal, options_for(&journal)).unwrap();
    handle.submit(append(1, 2), journal.completion("append"));
    in_sync.recv_timeout(DEADLINE).unwrap();
    let queued = 20;
    for index in 2..2 + queued {
        handle.submit(append(index, index + 1), journal.completion("later"));
    }
    let (completion, done) = done_signal();
    handle.submit(Op::Vote(blob("v")), completion);
    assert!(journal.take().is_empty());
    assert_eq!((handle.durable_through(), handle.progress().completed), (None, 0));
    // Power goes now: the image must not hold more than was acknowledged, and nothing was.
    let image = disk.fork().crash(Crash::LoseAll);
    assert_eq!(open(&image).unwrap().1.last_index, None);

    disk.set_trace(true);
    stall.store(false, Ordering::SeqCst);
    resume.send(()).unwrap();
    done.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(journal.take().len(), 1 + queued as usize);
    assert_eq!(handle.durable_through(), Some(1 + queued));
    let syncs = disk.take_trace().iter().filter(|op| op.kind == OpKind::Sync).count();
    assert_eq!(syncs, 1, "what was queued during one sync is the next block");
    handle.shutdown();
    open(&disk).expect("the directory is free after shutdown");
}

#[test]
fn an_error_is_reported_before_anybody_is_told_and_nothing_is_acknowledged_after_it() {
    for fault_at in 0..2 {
        let journal = Journal::default();
        let (disk, mut writer, handle) = task_driven(3, &journal);
        disk.inject(disk.ops() + fault_at, Fault::Io);
        handle.submit(append(1, 2), journal.completion("first"));
        handle.submit(Op::Vote(blob("v")), journal.completion("vote"));
        if fault_at == 0 {
            assert_eq!(writer.begin(), Begin::Failed);
        } else {
            assert_eq!(writer.begin(), Begin::Written);
            handle.submit(append(2, 3), journal.completion("queued meanwhile"));
            assert!(!writer.finish());
        }
        handle.submit(Op::Committed(blob("c")), journal.completion("after"));
        let found = journal.take();
        assert!(found[0].starts_with("fatal: "), "{found:?}");
        assert_eq!(found.len(), if fault_at == 0 { 4 } else { 5 });
        assert!(found[1..].iter().all(|text| text.contains("failed: ")), "{found:?}");
        assert!(found[1].starts_with("first"));
        assert!(handle.failure().is_some());
        assert!(handle.wait_durable(1).is_err());
        let ops = disk.ops();
        assert_eq!(writer.begin(), Begin::Failed);
        writer.stop();
        assert_eq!(disk.ops(), ops, "the disk is not touched again");
    }
}

#[test]
fn a_prepare_that_fails_ends_the_log_unless_the_disk_is_full() {
    let journal = Journal::default();
    let (disk, mut writer, _handle) = task_driven(4, &journal);
    disk.inject(disk.ops() + 1, Fault::NoSpace);
    assert!(writer.prepare());
    assert!(writer.wal().space().low && journal.take().is_empty());
    writer.retry_space();
    disk.inject(disk.ops() + 1, Fault::Io);
    assert!(!writer.prepare());
    assert!(journal.take()[0].starts_with("fatal: write "));
}

/// The mark is what an engine write waits for, so it must never cover an entry that a queued truncation
/// removes and a queued append replaces.
#[test]
fn the_durable_mark_falls_with_a_truncation_at_once() {
    let journal = Journal::default();
    let (_disk, mut writer, handle) = task_driven(5, &journal);
    handle.submit(append(1, 11), None);
    writer.begin();
    writer.finish();
    assert_eq!(handle.durable_through(), Some(10));
    // An older append is being written while the truncation is submitted.
    handle.submit(append(11, 13), None);
    assert_eq!(writer.begin(), Begin::Written);
    handle.submit(Op::Truncate { after: Some(5) }, None);
    assert_eq!(handle.durable_through(), Some(5));
    handle.submit(append(6, 9), None);
    writer.finish();
    assert_eq!(handle.durable_through(), Some(5), "the queued truncation still counts");
    writer.begin();
    assert_eq!(handle.durable_through(), Some(5));
    writer.finish();
    assert_eq!(handle.durable_through(), Some(8));
    handle.submit(Op::Purge { through: 20, position: blob("p") }, None);
    writer.begin();
    assert_eq!(handle.durable_through(), Some(20), "a snapshot covers what it purges");
}

struct Flag(AtomicU64);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>, flag: &Arc<Flag>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(flag.clone())))
}

#[test]
fn waiting_for_durability_wakes_when_it_is_there() {
    let journal = Journal::default();
    let (disk, mut writer, handle) = task_driven(6, &journal);
    let flag = Arc::new(Flag(AtomicU64::new(0)));
    let mut durable = pin!(handle.durable(2));
    assert!(poll_once(durable.as_mut(), &flag).is_pending());
    handle.submit(append(1, 2), None);
    writer.begin();
    writer.finish();
    assert_eq!(flag.0.load(Ordering::SeqCst), 1, "woken to look again");
    assert!(poll_once(durable.as_mut(), &flag).is_pending());
    handle.submit(append(2, 3), None);
    writer.begin();
    assert!(poll_once(durable.as_mut(), &flag).is_pending());
    writer.finish();
    assert!(matches!(poll_once(durable.as_mut(), &flag), Poll::Ready(Ok(()))));
    let mut never = pin!(handle.durable(9));
    assert!(poll_once(never.as_mut(), &flag).is_pending());
    disk.inject(disk.ops(), Fault::Io);
    handle.submit(append(3, 4), None);
    writer.begin();
    assert!(matches!(poll_once(never.as_mut(), &flag), Poll::Ready(Err(WalError::Io { .. }))));
}

#[test]
fn the_queue_is_bounded_by_bytes_and_votes_pass() {
    let journal = Journal::default();
    let disk = SimDisk::new(7);
    let (wal, _) = open(&disk).unwrap();
    let (mut writer, handle) = writer(wal, WriterOptions { queue_bytes_max: 1000, ..options_for(&journal) });
    let flag = Arc::new(Flag(AtomicU64::new(0)));
    let mut next = 1;
    while handle.has_room() {
        handle.submit(append(next, next + 1), None);
        next += 1;
    }
    assert_eq!(next, 9, "eight entries of 129 bytes reach the bound");
    let mut admitted = pin!(handle.admitted());
    assert!(poll_once(admitted.as_mut(), &flag).is_pending());
    handle.submit(Op::Vote(blob("v")), journal.completion("vote"));
    writer.begin();
    assert_eq!(flag.0.load(Ordering::SeqCst), 1, "room as soon as the queue is taken");
    assert!(poll_once(admitted.as_mut(), &flag).is_ready());
    writer.finish();
    assert_eq!(journal.take(), ["vote ok"]);
    assert_eq!(handle.progress().queued_bytes, 0);
}

#[test]
fn a_dropped_writer_leaves_nobody_waiting() {
    let journal = Journal::default();
    let (disk, mut writer, handle) = task_driven(8, &journal);
    handle.submit(append(1, 2), journal.completion("written"));
    writer.begin();
    handle.submit(append(2, 3), journal.completion("queued"));
    drop(writer);
    assert_eq!(journal.take(), ["written failed: the log is closed", "queued failed: the log is closed"]);
    assert!(matches!(handle.wait_durable(2), Err(WalError::Closed)));
    handle.shutdown();
    open(&disk).unwrap();
}

#[test]
fn the_last_handle_closes_the_log_and_what_was_queued_is_written() {
    let journal = Journal::default();
    let disk = SimDisk::new(9);
    let (wal, _) = open(&disk).unwrap();
    let handle = spawn_writer(wal, options_for(&journal)).unwrap();
    let (completion, done) = done_signal();
    for index in 1..50 {
        handle.submit(append(index, index + 1), None);
    }
    handle.submit(Op::Vote(blob("v")), completion);
    let other = handle.clone();
    drop(handle);
    drop(other);
    done.recv_timeout(DEADLINE).unwrap().unwrap();
}

#[derive(Clone, Default)]
struct Samples(Arc<Mutex<Vec<SyncSample>>>);

impl Observer for Samples {
    fn synced(&mut self, sample: &SyncSample) {
        self.0.lock().unwrap().push(*sample);
    }
}

#[test]
fn the_observer_sees_every_sync_with_duration_and_bytes() {
    let journal = Journal::default();
    let disk = SimDisk::new(10);
    let (wal, _) = open(&disk).unwrap();
    let samples = Samples::default();
    let ticks = AtomicU64::new(0);
    let (mut writer, handle) = writer(
        wal,
        WriterOptions {
            observer: Box::new(samples.clone()),
            clock: Box::new(move || Duration::from_millis(7 * ticks.fetch_add(1, Ordering::SeqCst))),
            ..options_for(&journal)
        },
    );
    handle.submit(append(1, 3), None);
    handle.submit(Op::Vote(blob("v")), None);
    writer.begin();
    writer.finish();
    writer.seal();
    let found = samples.0.lock().unwrap().clone();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].duration, found[0].operations), (Duration::from_millis(7), 2));
    assert!(found[0].bytes >= 512 && found[1].operations == 0);
}

/// The default reaction to a failed sync, observed from outside: the process is gone, with a message that
/// names file, operation, errno and remedy, and the waiting client was not answered.
#[test]
fn by_default_a_failed_sync_ends_the_process() {
    const CHILD: &str = "KEELSON_WAL_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let disk = SimDisk::new(11);
        let (mut wal, _) = open(&disk).unwrap();
        wal.prepare().unwrap();
        disk.inject(disk.ops() + 1, Fault::Io);
        let handle = spawn_writer(wal, WriterOptions::default()).unwrap();
        let (completion, done) = done_signal();
        handle.submit(append(1, 2), completion);
        let result = done.recv_timeout(DEADLINE);
        println!("answered: {result:?}");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["by_default_a_failed_sync_ends_the_process", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    for part in ["fdatasync", "/log/0000000000000001.wal", "os error 5", "what to do"] {
        assert!(stderr.contains(part), "{part} is not in: {stderr}");
    }
    assert!(!String::from_utf8_lossy(&output.stdout).contains("answered"), "nobody was told anything");
}

struct Operations(Sender<usize>);

impl Observer for Operations {
    fn synced(&mut self, sample: &SyncSample) {
        let _ = self.0.send(sample.operations);
    }
}

/// When idle, the log seals itself: the last acknowledged block gets a successor.
#[test]
fn an_idle_log_is_sealed() {
    let (wal, _) = open(&SimDisk::new(12)).unwrap();
    let (sender, syncs) = channel();
    let handle = spawn_writer(
        wal,
        WriterOptions {
            idle_seal: Duration::from_millis(1),
            observer: Box::new(Operations(sender)),
            ..WriterOptions::default()
        },
    )
    .unwrap();
    handle.submit(append(1, 2), None);
    while syncs.recv_timeout(DEADLINE).unwrap() != 1 {}
    assert_eq!(syncs.recv_timeout(DEADLINE).unwrap(), 0, "a seal follows without any further operation");
    handle.shutdown();
    assert!(syncs.try_recv().is_err(), "a sealed log is not sealed again");
}
