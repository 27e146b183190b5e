//! What the log does for its callers, without faults: reading back, recycling, purging, huge entries, space.

mod common;

use std::sync::Mutex;

use common::*;
use keelson_wal::disk::{Crash, Fault};
use keelson_wal::{
    EntryRecord, Identity, Op, OpenError, Options, ReadError, SimDisk, Stage, Wal, WalError, verify,
};

fn fresh(seed: u64) -> (SimDisk, Wal<SimDisk>) {
    let disk = SimDisk::new(seed);
    let (wal, recovered) = open(&disk).unwrap();
    assert!(recovered.fresh);
    (disk, wal)
}

fn append(wal: &mut Wal<SimDisk>, from: u64, to: u64, bytes: usize) {
    wal.write(&[Op::Append(entries(from, to, 1, bytes))]).unwrap();
}

fn indexes(entries: &[EntryRecord]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index).collect()
}

#[test]
fn a_fresh_log_is_small_and_empty() {
    let (disk, wal) = fresh(1);
    assert_eq!(segments(&disk).len(), 1);
    assert_eq!(disk.used_bytes(), 8 << 10, "one small segment, nothing else");
    assert_eq!(wal.reader().range(), 0..0);
    assert_eq!(wal.durable_through(), None);
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert!(!recovered.fresh);
    assert_eq!(observe(&wal, &recovered), Model::default());
}

#[test]
fn reads_are_bounded_by_range_and_bytes() {
    let (_disk, mut wal) = fresh(2);
    for index in (1..41).step_by(4) {
        append(&mut wal, index, index + 4, 500);
    }
    assert_eq!(indexes(&wal.read(3..6, u64::MAX).unwrap()), [3, 4, 5]);
    assert_eq!(indexes(&wal.read(1..41, 2000).unwrap()), [1, 2, 3, 4]);
    assert_eq!(indexes(&wal.read(1..41, 2499).unwrap()), [1, 2, 3, 4]);
    assert_eq!(indexes(&wal.read(7..41, 0).unwrap()), [7], "at least one entry");
    assert_eq!(indexes(&wal.read(39..99, u64::MAX).unwrap()), [39, 40]);
    assert!(wal.read(41..99, u64::MAX).unwrap().is_empty());
    assert!(wal.read(5..5, u64::MAX).unwrap().is_empty());
    for entry in wal.read(1..41, u64::MAX).unwrap() {
        assert_eq!(entry.payload, payload(entry.index, 1, 500));
        assert_eq!((entry.term, entry.leader), (1, 1));
    }
    wal.write(&[Op::Purge { through: 9, position: blob("p") }]).unwrap();
    assert!(matches!(wal.read(9..12, u64::MAX), Err(ReadError::Purged { first_kept: 10 })));
    assert_eq!(indexes(&wal.read(10..12, u64::MAX).unwrap()), [10, 11]);
}

#[test]
fn truncated_entries_are_forgotten_and_replaced() {
    let (disk, mut wal) = fresh(3);
    append(&mut wal, 1, 11, 100);
    wal.write(&[Op::Truncate { after: Some(6) }]).unwrap();
    assert_eq!(wal.reader().range(), 1..7);
    assert_eq!(wal.durable_through(), Some(6));
    let replaced = entries(7, 9, 2, 60);
    wal.write(&[Op::Append(replaced.clone())]).unwrap();
    assert_eq!(wal.read(7..11, u64::MAX).unwrap(), replaced);
    drop(wal);
    let (wal, recovered) = open(&disk.crash(Crash::LoseAll)).unwrap();
    assert_eq!(recovered.last_index, Some(8));
    assert_eq!(wal.read(6..11, u64::MAX).unwrap()[1..], replaced);
}

#[test]
fn a_gap_or_a_step_back_is_refused_before_anything_is_written() {
    for (op, expected) in [
        (Op::Append(entries(5, 6, 1, 10)), "append of index 5, but the log continues with index 4"),
        (Op::Append(entries(3, 4, 1, 10)), "append of index 3, but the log continues with index 4"),
        (Op::Truncate { after: Some(0) }, "truncate after index 0, but the log is purged through index 1"),
    ] {
        let (disk, mut wal) = fresh(4);
        append(&mut wal, 1, 4, 10);
        wal.write(&[Op::Purge { through: 1, position: blob("p") }]).unwrap();
        let ops = disk.ops();
        assert_eq!(wal.write(&[Op::Vote(blob("v")), op]).unwrap_err().to_string(), expected);
        assert_eq!(disk.ops(), ops);
        assert!(
            wal.write(&[Op::Vote(blob("v"))]).is_err(),
            "a caller that is wrong about the log is stopped"
        );
    }
}

#[test]
fn how_far_to_purge_follows_from_bytes() {
    let (_disk, mut wal) = fresh(20);
    assert_eq!(wal.reader().index_keeping(100), 0);
    for index in 1..101 {
        wal.prepare().unwrap();
        append(&mut wal, index, index + 1, 1000);
    }
    let reader = wal.reader();
    assert_eq!(reader.index_keeping(0), 101);
    assert_eq!(reader.index_keeping(u64::MAX), 1);
    // One entry of 1000 bytes takes three sectors, and segments have unused ends.
    let kept = 101 - reader.index_keeping(50_000);
    assert!((20..=33).contains(&kept), "{kept}");
    wal.write(&[Op::Purge { through: 90, position: blob("p") }, Op::Vote(blob("v"))]).unwrap();
    assert_eq!((reader.index_keeping(u64::MAX), reader.index_keeping(1600)), (91, 100));
}

#[test]
fn a_purge_past_the_end_starts_the_log_anew() {
    let (disk, mut wal) = fresh(5);
    append(&mut wal, 1, 4, 10);
    wal.write(&[Op::Purge { through: 100, position: blob("snapshot") }]).unwrap();
    assert_eq!((wal.reader().range(), wal.durable_through()), (101..101, Some(100)));
    append(&mut wal, 101, 103, 10);
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.purged, Some((100, blob("snapshot"))));
    assert_eq!((recovered.first_index, wal.reader().range()), (Some(101), 101..103));
}

/// Purged segments are used again, no more than asked is given up, and the directory stops growing.
#[test]
fn segments_are_recycled() {
    let (disk, mut wal) = fresh(6);
    let mut largest = 0;
    for index in 1..2000 {
        append(&mut wal, index, index + 1, 500);
        if index % 50 == 0 {
            wal.write(&[Op::Purge { through: index - 40, position: blob("p") }]).unwrap();
            assert_eq!(indexes(&wal.read(index - 39..index + 1, u64::MAX).unwrap()).len(), 40);
        }
        wal.prepare().unwrap();
        if index > 200 {
            largest = largest.max(disk.used_bytes());
        }
    }
    assert!(largest < 20 * (16 << 10), "{largest}");
    let names: Vec<_> = segments(&disk);
    let newest = names.last().unwrap().to_str().unwrap().to_string();
    assert!(newest > format!("{DIR}/{:016x}.wal", 50), "{newest}");
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(observe(&wal, &recovered).next(), 2000);
}

/// After the first lap no file is created any more: recycling is renames and header writes.
#[test]
fn a_steady_log_creates_no_files() {
    use keelson_wal::disk::OpKind;
    let (disk, mut wal) = fresh(7);
    let step = |wal: &mut Wal<SimDisk>, index: u64| {
        append(wal, index, index + 1, 700);
        wal.write(&[Op::Purge { through: index.saturating_sub(30), position: blob("p") }]).unwrap();
        wal.prepare().unwrap();
    };
    (1..300).for_each(|index| step(&mut wal, index));
    disk.set_trace(true);
    (300..600).for_each(|index| step(&mut wal, index));
    let trace = disk.take_trace();
    let count = |kind| trace.iter().filter(|op| op.kind == kind).count();
    assert_eq!((count(OpKind::Create), count(OpKind::Remove)), (0, 0));
    assert!(count(OpKind::Rename) > 20);
    assert!(trace.iter().all(|op| op.bytes <= 4096), "nothing is zeroed again");
}

/// Purge is a promise about entries, not about files: nothing above it may go, and files go only when the
/// purge itself is durable.
#[test]
fn purge_never_takes_more_than_asked_and_waits_for_durability() {
    let (disk, mut wal) = fresh(8);
    for index in 1..100 {
        append(&mut wal, index, index + 1, 500);
    }
    let all = segments(&disk);
    wal.write(&[Op::Purge { through: 50, position: blob("p") }]).unwrap();
    wal.prepare().unwrap();
    let with_next = segments(&disk);
    assert!(all.iter().all(|path| with_next.contains(path)), "the purge is only noted yet");
    wal.seal().unwrap();
    wal.prepare().unwrap();
    let left = segments(&disk);
    assert!(!left.contains(&all[0]) && left.len() < with_next.len());
    assert_eq!(indexes(&wal.read(51..100, u64::MAX).unwrap()), (51..100).collect::<Vec<_>>());
    drop(wal);
    let (wal, _) = open(&disk.crash(Crash::LoseAll)).unwrap();
    assert_eq!(wal.reader().range(), 51..100);
}

#[test]
fn a_reader_that_meets_a_recycled_file_is_told_purged() {
    let (disk, mut wal) = fresh(9);
    for index in 1..60 {
        append(&mut wal, index, index + 1, 700);
    }
    let reader = wal.reader();
    wal.write(&[Op::Purge { through: 55, position: blob("p") }, Op::Vote(blob("v"))]).unwrap();
    for index in 60..200 {
        wal.prepare().unwrap();
        append(&mut wal, index, index + 1, 700);
        wal.write(&[Op::Purge { through: index - 3, position: blob("p") }]).unwrap();
        assert!(matches!(reader.read(10..20, u64::MAX), Err(ReadError::Purged { .. })));
        assert_eq!(indexes(&reader.read(index - 1..index + 1, u64::MAX).unwrap()), [index - 1, index]);
    }
    drop(disk);
}

/// The file goes away between the look-up and the read: purged, rewritten for a later segment. The reader must
/// say so, not hand out what it finds there, nor call it damage.
#[test]
fn a_file_recycled_under_a_running_read_is_noticed() {
    let (disk, mut wal) = fresh(21);
    for index in 1..40 {
        wal.prepare().unwrap();
        append(&mut wal, index, index + 1, 700);
    }
    let reader = wal.reader();
    let before = reader.read(20..24, u64::MAX).unwrap();
    let wal = Mutex::new(Some(wal));
    let (done, recycled) = std::sync::mpsc::channel();
    disk.set_read_hook(move |_, _| {
        // Once; reads of the log itself do not come here again.
        let Some(mut wal) = wal.lock().unwrap().take() else { return };
        for index in 40..120 {
            append(&mut wal, index, index + 1, 700);
            wal.write(&[Op::Purge { through: index - 5, position: blob("p") }]).unwrap();
            wal.prepare().unwrap();
        }
        done.send(wal).unwrap();
    });
    let result = reader.read(20..24, u64::MAX);
    let wal = recycled.recv().unwrap();
    assert!(matches!(result, Err(ReadError::Purged { first_kept: 115 })), "{result:?}");
    assert_eq!(before.len(), 4);
    assert_eq!(indexes(&wal.read(115..120, u64::MAX).unwrap()), [115, 116, 117, 118, 119]);
}

/// Readers see entries when they are durable, not when they are written.
#[test]
fn entries_are_read_only_after_their_sync() {
    use keelson_wal::disk::OpKind;
    let (disk, mut wal) = fresh(22);
    append(&mut wal, 1, 3, 100);
    let (reader, seen) = (wal.reader(), std::sync::Arc::new(Mutex::new(Vec::new())));
    let sink = seen.clone();
    disk.set_hook(move |op| sink.lock().unwrap().push((op.kind, reader.range())));
    append(&mut wal, 3, 5, 100);
    assert_eq!(*seen.lock().unwrap(), [(OpKind::Write, 1..3), (OpKind::Sync, 1..3)]);
    assert_eq!(wal.reader().range(), 1..5);
}

#[test]
fn entries_larger_than_a_segment_get_one_of_their_own() {
    let (disk, mut wal) = fresh(10);
    let mut model = Model::default();
    for (index, bytes) in [(1, 100), (2, 40_000), (3, 100), (4, 16_300), (5, 3_000_000), (6, 0)] {
        let ops = [Op::Append(vec![entry(index, 1, payload(index, 1, bytes))])];
        wal.write(&ops).unwrap();
        model = model.after(&ops);
        if index % 2 == 0 {
            wal.prepare().unwrap();
        }
    }
    let check = |wal: &Wal<SimDisk>| {
        let found = wal.read(1..7, u64::MAX).unwrap();
        assert_eq!(found, model.entries.values().cloned().collect::<Vec<_>>());
        assert_eq!(indexes(&wal.read(4..7, 50_000).unwrap()), [4]);
    };
    check(&wal);
    drop(wal);
    let disk = disk.crash(Crash::LoseAll);
    let (mut wal, _) = open(&disk).unwrap();
    check(&wal);
    // Files of unusual size are not kept for reuse.
    wal.write(&[Op::Purge { through: 6, position: blob("p") }, Op::Vote(blob("v"))]).unwrap();
    wal.prepare().unwrap();
    assert!(disk.used_bytes() < 100_000, "{}", disk.used_bytes());
}

#[test]
fn a_group_of_several_megabytes_is_one_block() {
    let disk = SimDisk::new(11);
    let options = Options { segment_bytes: 16 << 20, first_segment_bytes: 8 << 20, ..options(11) };
    let (mut wal, _) = Wal::open(disk.clone(), dir(), options).unwrap();
    disk.set_trace(true);
    append(&mut wal, 1, 5001, 1000);
    assert_eq!(disk.take_trace().len(), 2);
    let found = wal.read(4990..5001, u64::MAX).unwrap();
    assert_eq!(found.last().unwrap().payload, payload(5000, 1, 1000));
}

#[test]
fn only_the_tail_that_was_asked_for_is_handed_back() {
    let disk = SimDisk::new(12);
    let small = || Options { tail_bytes_max: 1000, ..options(12) };
    let (mut wal, _) = Wal::open(disk.clone(), dir(), small()).unwrap();
    append(&mut wal, 1, 41, 300);
    wal.seal().unwrap();
    drop(wal);
    let (mut wal, recovered) = Wal::open(disk.clone(), dir(), small()).unwrap();
    assert_eq!(indexes(&recovered.tail), [38, 39, 40]);
    assert_eq!(recovered.first_index, Some(1));
    // A truncation below what is remembered still ends the tail with the last entry.
    wal.write(&[Op::Truncate { after: Some(20) }, Op::Vote(blob("v"))]).unwrap();
    drop(wal);
    let (_, recovered) = Wal::open(disk, dir(), small()).unwrap();
    assert_eq!(indexes(&recovered.tail), [20]);
}

#[test]
fn verify_reads_everything_and_changes_nothing() {
    let (disk, mut wal) = fresh(19);
    assert!(matches!(verify(&disk, dir(), None), Err(OpenError::Locked { .. })));
    append(&mut wal, 1, 60, 700);
    wal.write(&[Op::Purge { through: 7, position: blob("p") }]).unwrap();
    wal.seal().unwrap();
    let ops = [Op::Append(entries(60, 70, 1, 900))];
    assert_eq!(wal.stage(&ops).unwrap(), Stage::Written);
    // The last sector that was written did not reach the medium.
    let path = segments(&disk).pop().unwrap();
    let (torn, _) = stamped_sectors(&disk.content(&path).unwrap()).pop().unwrap();
    drop(wal);
    disk.overwrite(&path, torn, &[0; 512]);
    let ops = disk.ops();
    let found = verify(&disk, dir(), None).unwrap().unwrap();
    assert_eq!((found.first_index, found.last_index), (Some(8), Some(59)));
    assert!(found.torn_bytes > 9000, "{found:?}");
    assert_eq!(disk.ops(), ops);
    let other = Identity { cluster: 9, member: 9 };
    assert!(matches!(verify(&disk, dir(), Some(other)), Err(OpenError::IdentityMismatch { .. })));
    let empty = SimDisk::new(1);
    keelson_wal::Disk::create_dir_all(&empty, dir()).unwrap();
    assert_eq!(verify(&empty, dir(), None).unwrap(), None);
}

#[test]
fn larger_sectors_are_respected() {
    let disk = SimDisk::new(13);
    let wide = || Options { block_align_bytes: 4096, ..options(13) };
    let (mut wal, _) = Wal::open(disk.clone(), dir(), wide()).unwrap();
    disk.set_trace(true);
    for index in 1..20 {
        wal.prepare().unwrap();
        append(&mut wal, index, index + 1, 100);
    }
    for op in disk.take_trace() {
        assert_eq!(op.offset % 4096, 0);
    }
    drop(wal);
    // Opened with another alignment: each segment keeps the one it was made with.
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last_index, Some(19));
    append(&mut wal, 20, 60, 300);
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.last_index, Some(59));
}

/// Preparing fails on a full disk without ending the log; appends use what is at hand, then are refused,
/// votes go on; with space everything goes on. Nothing acknowledged is lost on the way.
#[test]
fn a_full_disk_keeps_votes_going() {
    let (disk, mut wal) = fresh(14);
    append(&mut wal, 1, 3, 500);
    wal.prepare().unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 4096));
    let mut last = 2;
    let refused = loop {
        wal.prepare().unwrap();
        match wal.write(&[Op::Append(entries(last + 1, last + 2, 1, 500))]) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 100);
    };
    assert!(matches!(refused, WalError::NoSpace { .. }), "{refused}");
    assert!(wal.space().low);
    assert!(last > 15, "the prepared segment was used first");
    for round in 0..5 {
        wal.write(&[Op::Vote(blob(format!("vote {round}")))]).unwrap();
        let again = wal.write(&[Op::Append(entries(last + 1, last + 2, 1, 500))]).unwrap_err();
        assert!(matches!(again, WalError::NoSpace { .. }));
    }
    // Votes continue after a restart in the same state.
    drop(wal);
    let disk = disk.crash(Crash::LoseAll);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.last_index, recovered.vote), (Some(last), Some(blob("vote 4"))));
    wal.write(&[Op::Vote(blob("after"))]).unwrap();
    disk.set_capacity(None);
    wal.prepare().unwrap();
    assert!(!wal.space().low);
    append(&mut wal, last + 1, last + 50, 500);
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.last_index, Some(last + 49));
}

/// A seal is a convenience and must not eat the room kept for votes.
#[test]
fn a_seal_does_not_use_the_reserve() {
    let (disk, mut wal) = fresh(15);
    append(&mut wal, 1, 3, 500);
    wal.prepare().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let mut last = 2;
    while wal.write(&[Op::Append(entries(last + 1, last + 2, 1, 30))]).is_ok() {
        last += 1;
    }
    let before = segments(&disk);
    wal.write(&[Op::Committed(blob("c"))]).unwrap();
    assert!(matches!(wal.seal(), Err(WalError::NoSpace { .. })));
    assert_eq!(segments(&disk), before);
    wal.write(&[Op::Vote(blob("v"))]).unwrap();
    assert_eq!(segments(&disk).len(), before.len() + 1);
}

#[test]
fn a_write_that_finds_no_space_is_final() {
    let (disk, mut wal) = fresh(16);
    disk.inject(disk.ops(), Fault::NoSpace);
    let error = wal.write(&[Op::Append(entries(1, 2, 1, 10))]).unwrap_err();
    assert!(matches!(error, WalError::Io { operation: "write", .. }));
    assert!(wal.write(&[Op::Vote(blob("v"))]).is_err());
}

#[test]
fn files_of_others_are_left_alone() {
    let (disk, wal) = fresh(17);
    drop(wal);
    for name in ["notes.txt", "0000000000000009.new", "0000000000000003.spare", "reserve.new"] {
        use keelson_wal::Disk;
        disk.create(&dir().join(name)).unwrap();
    }
    open(&disk).unwrap();
    let names: Vec<String> =
        disk.files().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_string()).collect();
    assert_eq!(names, ["0000000000000001.wal", "notes.txt"]);
}

#[test]
fn a_prepare_job_may_run_elsewhere() {
    let (disk, mut wal) = fresh(18);
    let job = wal.take_prepare_job().expect("a fresh log wants a next segment");
    assert!(wal.take_prepare_job().is_none(), "one job at a time");
    append(&mut wal, 1, 3, 500);
    let ops = [Op::Append(entries(3, 20, 1, 500))];
    assert_eq!(wal.stage(&ops).unwrap(), Stage::AwaitPrepare);
    let done = std::thread::spawn(move || job.run()).join().unwrap();
    wal.finish_prepare(done).unwrap();
    assert_eq!(wal.stage(&ops).unwrap(), Stage::Written);
    wal.commit().unwrap();
    assert_eq!(wal.durable_through(), Some(19));
    assert_eq!(segments(&disk).len(), 2);
}
