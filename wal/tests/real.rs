//! The log on the real file system, with real threads and a real kill.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use keelson_wal::{
    Completion, Op, OpenError, Options, RealDisk, Recovered, Wal, WriterOptions, spawn_writer, verify,
};

/// Waits are bounded by this; nothing depends on how long anything takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn open_real(dir: &Path) -> Result<(Wal<RealDisk>, Recovered), OpenError> {
    let options = Options { segment_bytes: 1 << 20, first_segment_bytes: 64 << 10, ..options(1) };
    Wal::open(RealDisk, dir, options)
}

/// Many submitters on the real disk: everything arrives, in the order of each, and is there after reopening.
#[test]
fn many_threads_on_the_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let (wal, recovered) = open_real(&dir).unwrap();
    assert!(recovered.fresh);
    assert!(matches!(open_real(&dir), Err(OpenError::Locked { .. })));
    let reader = wal.reader();
    let handle =
        spawn_writer(wal, WriterOptions { idle_seal: Duration::from_millis(1), ..WriterOptions::default() })
            .unwrap();
    let next = Arc::new(Mutex::new(1u64));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (handle, next, reader) = (handle.clone(), next.clone(), reader.clone());
            scope.spawn(move || {
                let (sender, receiver): (Sender<u64>, Receiver<u64>) = channel();
                for round in 0..200 {
                    let sender = sender.clone();
                    let index = {
                        let mut next = next.lock().unwrap();
                        let index = *next;
                        *next += 1;
                        let op = Op::Append(vec![entry(index, thread, payload(index, thread, 600))]);
                        let completion: Completion = Box::new(move |result| {
                            result.unwrap();
                            sender.send(index).unwrap();
                        });
                        handle.submit_blocking(op, Some(completion));
                        index
                    };
                    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), index);
                    handle.wait_durable(index).unwrap();
                    if round % 10 == 0 {
                        let read = reader.read(index..index + 1, 0).unwrap();
                        assert_eq!(read[0].payload, payload(index, thread, 600));
                    }
                }
            });
        }
    });
    handle.submit(Op::Purge { through: 1000, position: blob("p") }, None);
    handle.shutdown();
    let (wal, recovered) = open_real(&dir).unwrap();
    assert_eq!((recovered.first_index, recovered.last_index), (Some(1001), Some(1600)));
    assert_eq!(recovered.cut, None);
    for entry in wal.read(1001..1601, u64::MAX).unwrap() {
        assert_eq!(entry.payload, payload(entry.index, entry.term, 600));
    }
}

/// A process that is killed while it writes: everything it had been told is there, and the log opens again,
/// many times over.
#[test]
fn kill_9_loses_nothing_acknowledged() {
    const CHILD: &str = "KEELSON_WAL_TEST_DIR";
    if let Some(dir) = std::env::var_os(CHILD) {
        let (wal, recovered) = open_real(Path::new(&dir)).unwrap();
        let handle = spawn_writer(wal, WriterOptions::default()).unwrap();
        let mut index = recovered.last_index.map_or(1, |last| last + 1);
        loop {
            let completion: Completion = Box::new(move |result| {
                result.unwrap();
                println!("acknowledged {index}");
            });
            handle.submit_blocking(Op::Append(entries(index, index + 1, 1, 3000)), Some(completion));
            if index.is_multiple_of(400) {
                handle.submit(Op::Purge { through: index - 300, position: blob("p") }, None);
            }
            index += 1;
        }
    }
    let root = tempfile::tempdir().unwrap();
    let mut last_acknowledged = 0;
    for life in 1..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill_9_loses_nothing_acknowledged", "--exact", "--nocapture"])
            .env(CHILD, root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            if let Some(index) = line.strip_prefix("acknowledged ") {
                last_acknowledged = index.parse().unwrap();
                seen += 1;
                if seen == 150 * life {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let found = verify(&RealDisk, root.path(), None).unwrap().unwrap();
        assert!(found.last_index.unwrap() >= last_acknowledged);
        let (wal, recovered) = open_real(root.path()).unwrap();
        assert_eq!(recovered.last_index, found.last_index);
        for entry in wal.read(wal.reader().range(), u64::MAX).unwrap() {
            assert_eq!(entry.payload, payload(entry.index, 1, 3000));
        }
    }
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/b");
    let (mut wal, _) = open_real(&dir).unwrap();
    wal.prepare().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "active, next, reserve");
}
