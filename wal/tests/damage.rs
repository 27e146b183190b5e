//! Tears are cut, damage is refused: every bit, every sector, and what disks do to whole writes.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use keelson_wal::disk::{Crash, Fault};
use keelson_wal::{EntryRecord, Identity, Op, OpenError, Options, REMEDY, ReadError, SimDisk, Wal};
use proptest::prelude::*;

/// A log of several segments, the last ones recycled (so that stale blocks lie behind the end), closed without
/// a seal. Returns the disk and what the log holds.
fn grown(seed: u64, last_group: &[Op]) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    let (mut wal, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let mut write = |wal: &mut Wal<SimDisk>, ops: &[Op]| {
        wal.write(ops).unwrap();
        model = model.after(ops);
    };
    for index in 1..120 {
        write(&mut wal, &[Op::Append(entries(index, index + 1, 1, 700))]);
        if index % 10 == 0 {
            write(&mut wal, &[Op::Vote(blob(format!("vote {index}")))]);
        }
        if index % 40 == 0 && index < 100 {
            let through = index - 10;
            write(&mut wal, &[Op::Purge { through, position: blob("p") }, Op::Vote(blob("w"))]);
        }
        wal.prepare().unwrap();
    }
    if !last_group.is_empty() {
        write(&mut wal, last_group);
    }
    drop(wal);
    assert!(segments(&disk).len() > 3 && model.first() > 70);
    (disk, model)
}

fn last_group(bytes: usize) -> Vec<Op> {
    vec![Op::Append(vec![EntryRecord {
        index: 120,
        term: 9,
        leader: 1,
        payload: payload(120, 9, bytes).into(),
    }])]
}

/// The sectors of the last block: its segment, and their offsets.
fn last_block(disk: &SimDisk) -> (PathBuf, Vec<u64>) {
    let mut newest = (0, PathBuf::new(), Vec::new());
    for path in segments(disk) {
        for (offset, number) in stamped_sectors(&disk.content(&path).unwrap()) {
            if number > newest.0 {
                newest = (number, path.clone(), Vec::new());
            }
            if number == newest.0 {
                newest.2.push(offset);
            }
        }
    }
    (newest.1, newest.2)
}

/// Whether this sector belongs to the chain, that is, neither header padding nor stale content nor zeros.
fn is_live(disk: &SimDisk, path: &Path, offset: u64) -> bool {
    if offset < 4096 {
        return offset < 512;
    }
    // Live sectors are those whose number is higher than all that come before the segment.
    let content = disk.content(path).unwrap();
    let sectors = stamped_sectors(&content);
    let mut highest = sectors.first().map_or(0, |(_, number)| *number);
    let mut live = false;
    for (at, number) in sectors {
        if number < highest {
            break;
        }
        highest = number;
        live |= at == offset / 512 * 512;
    }
    live
}

fn damaged(result: Result<Model, OpenError>) -> Option<(PathBuf, u64)> {
    match result {
        Err(OpenError::Damaged { file, offset, .. }) => Some((file, offset)),
        _ => None,
    }
}

fn reopen(disk: &SimDisk) -> Result<Model, OpenError> {
    let (wal, recovered) = open(disk)?;
    Ok(observe(&wal, &recovered))
}

#[test]
fn the_message_names_file_offset_and_remedy() {
    let (disk, _) = grown(1, &[]);
    let path = segments(&disk)[1].clone();
    disk.flip_bit(&path, 4096 + 700, 3);
    let error = open(&disk).map(|_| ()).unwrap_err();
    let text = error.to_string();
    let Some((file, offset)) = damaged(Err(error)) else { panic!("{text}") };
    assert_eq!(file, path);
    assert!((4096..=4096 + 700).contains(&offset), "{offset}");
    for part in [path.to_str().unwrap(), &format!("offset {offset}"), REMEDY, "learner"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_flipped_bit_in_every_sector_of_the_chain_is_refused() {
    let (disk, model) = grown(2, &last_group(1200));
    let mut random = Random(2);
    let (mut refused, mut harmless) = (0, 0);
    for path in segments(&disk) {
        let bytes = disk.content(&path).unwrap().len() as u64;
        for sector in (0..bytes).step_by(512) {
            let copy = disk.fork();
            copy.flip_bit(&path, sector + random.below(512), random.next() as u8);
            let live = is_live(&disk, &path, sector);
            match reopen(&copy) {
                Err(OpenError::Damaged { file, .. }) => {
                    assert_eq!(file, path);
                    refused += 1;
                }
                // The one sector where the next block goes is refused when it is neither old nor new: it
                // might be all of an acknowledged block. Further on, nothing can be meant.
                Ok(found) => {
                    assert!(!live, "{path:?} at {sector}");
                    assert_eq!(found, model);
                    harmless += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 100 && harmless > 20, "{refused} {harmless}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_is_refused_or_harmless(seed in 0u64..4, file in any::<prop::sample::Index>(),
                                                     byte in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (disk, model) = grown(seed, &last_group(900));
        let path = file.get(&segments(&disk)).clone();
        let offset = byte.index(disk.content(&path).unwrap().len()) as u64;
        let live = is_live(&disk, &path, offset);
        disk.flip_bit(&path, offset, bit);
        match reopen(&disk) {
            Err(OpenError::Damaged { file, .. }) => prop_assert_eq!(file, path),
            Ok(found) => {
                prop_assert!(!live);
                prop_assert_eq!(found, model);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    /// Random bytes over a random stretch of the chain, several sectors long.
    #[test]
    fn garbage_over_a_stretch_never_gives_another_log(seed in 0u64..3, file in any::<prop::sample::Index>(),
                                                      start in 0u64..30, sectors in 1usize..6, fill in any::<u64>()) {
        let (disk, model) = grown(seed, &last_group(1500));
        let path = file.get(&segments(&disk)).clone();
        let length = disk.content(&path).unwrap().len() as u64;
        let offset = (start * 512).min(length - sectors as u64 * 512);
        let mut random = Random(fill);
        let garbage: Vec<u8> = (0..sectors * 512).map(|_| random.next() as u8).collect();
        disk.overwrite(&path, offset, &garbage);
        match reopen(&disk) {
            Err(OpenError::Damaged { .. }) => {}
            Ok(found) => prop_assert_eq!(found, model),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
}

/// Puts each subset of the last block's sectors back to what was there before its write: that is every image
/// a power cut during the write can leave.
#[test]
fn every_subset_of_a_torn_block_is_cut() {
    for (seed, bytes) in [(1, 100), (2, 700), (3, 2000), (4, 3300)] {
        let (before, old_model) = grown(seed, &[]);
        let (after, new_model) = grown(seed, &last_group(bytes));
        let (path, offsets) = last_block(&after);
        let (old, new) = (before.content(&path).unwrap(), after.content(&path).unwrap());
        assert_eq!(old.len(), new.len());
        for subset in 0..1u32 << offsets.len() {
            let disk = before.fork();
            for (at, offset) in offsets.iter().enumerate() {
                if subset & 1 << at != 0 {
                    disk.overwrite(&path, *offset, &new[*offset as usize..*offset as usize + 512]);
                }
            }
            let (mut wal, recovered) =
                open(&disk).unwrap_or_else(|error| panic!("subset {subset:b}: {error}"));
            let whole = subset + 1 == 1 << offsets.len();
            let expected = if whole { &new_model } else { &old_model };
            assert_eq!(&observe(&wal, &recovered), expected, "subset {subset:b}");
            assert_eq!(recovered.cut.is_some(), !whole && subset != 0);
            // What was cut is gone for good: the next block takes its place and the log opens again.
            let next = expected.next();
            wal.write(&[Op::Append(entries(next, next + 1, 20, 50))]).unwrap();
            drop(wal);
            assert_eq!(reopen(&disk.crash(Crash::LoseAll)).unwrap().next(), next + 1);
        }
    }
}

/// Rule 18: a bad block all of whose sectors are from its own write was complete, so it may have been
/// acknowledged. It is damage, also when nothing follows it.
#[test]
fn a_bad_last_block_without_a_sector_from_before_is_damage() {
    for bytes in [100, 2000] {
        let (disk, _) = grown(5, &last_group(bytes));
        let (path, offsets) = last_block(&disk);
        for offset in &offsets {
            let copy = disk.fork();
            copy.flip_bit(&path, offset + 100, 0);
            assert_eq!(damaged(reopen(&copy)), Some((path.clone(), offsets[0])));
        }
    }
}

/// A tear with a bad sector in it is still a tear: the sector from before proves that the write never ended.
#[test]
fn a_bad_sector_beside_one_from_before_is_a_tear() {
    let (before, model) = grown(6, &[]);
    let (disk, _) = grown(6, &last_group(2000));
    let (path, offsets) = last_block(&disk);
    assert!(offsets.len() >= 4);
    let old = before.content(&path).unwrap();
    disk.overwrite(&path, offsets[2], &old[offsets[2] as usize..offsets[2] as usize + 512]);
    disk.flip_bit(&path, offsets[1] + 30, 1);
    assert_eq!(reopen(&disk).unwrap(), model);
}

/// Zeroed, stale or lost sectors of the last block look like a tear; the seal's purpose is to make them not.
#[test]
fn after_the_seal_lost_sectors_of_the_last_block_are_damage() {
    for bytes in [100, 2000] {
        let build = |seal: bool| {
            let (before, old_model) = grown(7, &[]);
            let (disk, _) = grown(7, &last_group(bytes));
            let (path, offsets) = last_block(&disk);
            if seal {
                open(&disk).unwrap().0.seal().unwrap().expect("a seal block is written");
            }
            (disk, path, offsets, before, old_model)
        };
        let (sealed, path, offsets, before, _) = build(true);
        let old = before.content(&path).unwrap();
        for offset in &offsets {
            for content in [vec![0; 512], old[*offset as usize..*offset as usize + 512].to_vec()] {
                let copy = sealed.fork();
                copy.overwrite(&path, *offset, &content);
                assert_eq!(damaged(reopen(&copy)), Some((path.clone(), offsets[0])));
            }
        }
        // Without the seal nothing tells it from a tear: the limit that DESIGN.md states.
        let (unsealed, path, offsets, _, old_model) = build(false);
        unsealed.overwrite(&path, offsets[0], &[0; 512]);
        assert_eq!(reopen(&unsealed).unwrap(), old_model);
    }
}

/// A write that the disk reported and never made, and one that it made elsewhere.
#[test]
fn lost_and_misdirected_writes_are_damage_once_a_block_follows() {
    for fault in [Fault::Lost, Fault::Misdirected(1024), Fault::Misdirected(-1536), Fault::Misdirected(512)] {
        let disk = SimDisk::new(8);
        let (mut wal, _) = open(&disk).unwrap();
        for index in 1..5 {
            wal.write(&[Op::Append(entries(index, index + 1, 1, 300))]).unwrap();
        }
        disk.inject(disk.ops(), fault);
        wal.write(&[Op::Append(entries(5, 6, 1, 300))]).unwrap();
        wal.seal().unwrap();
        drop(wal);
        let error = damaged(reopen(&disk));
        assert!(error.is_some(), "{fault:?}");
    }
}

/// A sector replaced by what another block, another position or another segment holds.
#[test]
fn sectors_from_elsewhere_are_damage() {
    let (disk, model) = grown(9, &last_group(2000));
    open(&disk).unwrap().0.seal().unwrap();
    let mut random = Random(9);
    let paths = segments(&disk);
    let mut refused = 0;
    for _ in 0..300 {
        let (from, to) = (
            &paths[random.below(paths.len() as u64) as usize],
            &paths[random.below(paths.len() as u64) as usize],
        );
        let (source, target) = (disk.content(from).unwrap(), disk.content(to).unwrap());
        let from_at = random.below(source.len() as u64 / 512) * 512;
        let to_at = random.below(target.len() as u64 / 512) * 512;
        let sector = &source[from_at as usize..from_at as usize + 512];
        if sector == &target[to_at as usize..to_at as usize + 512] {
            continue;
        }
        let copy = disk.fork();
        copy.overwrite(to, to_at, sector);
        match reopen(&copy) {
            Ok(found) => {
                assert!(!is_live(&disk, to, to_at), "{to:?} at {to_at} from {from:?} at {from_at}");
                assert_eq!(found, model);
            }
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Two copies of one disk that went on differently, mixed: the same file, place, salts and block numbers. Only
/// the chain from block to block tells.
#[test]
fn a_block_of_another_history_is_damage() {
    let trunk = SimDisk::new(16);
    open(&trunk).unwrap().0.write(&[Op::Vote(blob("start"))]).unwrap();
    let grow = |first: &'static str, second: &'static str| {
        let disk = trunk.fork();
        let (mut wal, _) = open(&disk).unwrap();
        wal.write(&[Op::Vote(blob(first))]).unwrap();
        wal.write(&[Op::Vote(blob(second))]).unwrap();
        disk
    };
    let (one, other) = (grow("one", "end"), grow("two", "end"));
    let (path, offsets) = last_block(&one);
    assert_eq!(last_block(&other), (path.clone(), offsets.clone()));
    let at = offsets[0] as usize;
    one.overwrite(&path, offsets[0], &other.content(&path).unwrap()[at..at + 512]);
    assert_eq!(damaged(reopen(&one)), Some((path, offsets[0])));
}

/// A whole segment replaced by an older copy of itself, as a restored backup would.
#[test]
fn an_older_copy_of_a_segment_is_damage() {
    let disk = SimDisk::new(10);
    let (mut wal, _) = open(&disk).unwrap();
    wal.write(&[Op::Append(entries(1, 2, 1, 300))]).unwrap();
    let path = segments(&disk)[0].clone();
    let older = disk.content(&path).unwrap();
    let mut index = 2;
    while segments(&disk).len() < 2 {
        wal.write(&[Op::Append(entries(index, index + 1, 1, 300))]).unwrap();
        index += 1;
    }
    drop(wal);
    disk.overwrite(&path, 0, &older);
    assert!(matches!(damaged(reopen(&disk)), Some((file, _)) if file == path));
}

#[test]
fn missing_segments_are_named() {
    let (disk, model) = grown(11, &[]);
    let paths = segments(&disk);
    for (at, path) in paths.iter().enumerate() {
        let copy = disk.fork();
        copy.lose_file(path);
        let sequence = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        match reopen(&copy) {
            Err(OpenError::MissingSegment { sequence: named, dir }) => {
                assert_eq!((named, dir.as_path()), (sequence, common::dir()));
                assert!(at + 1 < paths.len());
            }
            // The last file is the prepared one, in which nothing is yet.
            Ok(found) => assert!(at + 1 == paths.len() && found == model),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_shortened_segment_is_damage() {
    let (disk, _) = grown(12, &[]);
    for path in segments(&disk) {
        for length in [0, 100, 4096, 4096 + 512] {
            let copy = disk.fork();
            copy.shorten(&path, length);
            assert_eq!(damaged(reopen(&copy)), Some((path.clone(), 0)));
        }
    }
}

#[test]
fn another_identity_is_refused() {
    let (disk, _) = grown(13, &[]);
    for identity in [Identity { cluster: 1, ..IDENTITY }, Identity { member: 1, ..IDENTITY }] {
        let options = Options { identity, ..options(1) };
        let error = Wal::open(disk.clone(), dir(), options).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, OpenError::IdentityMismatch { expected, found, .. } if expected == identity && found == IDENTITY)
        );
        assert!(text.contains("3e") && text.contains("check the data directory"), "{text}");
    }
}

/// Nothing is changed by an open that refuses, so that the evidence stays.
#[test]
fn a_refused_open_changes_nothing() {
    let (disk, _) = grown(14, &last_group(500));
    disk.flip_bit(&segments(&disk)[1], 4096 + 20, 0);
    let contents = |disk: &SimDisk| -> Vec<_> {
        disk.files().into_iter().map(|path| (path.clone(), disk.content(&path))).collect()
    };
    let before = contents(&disk);
    assert!(damaged(reopen(&disk)).is_some());
    assert!(contents(&disk) == before);
}

#[test]
fn damage_under_a_running_log_is_found_by_reads() {
    let disk = SimDisk::new(15);
    let (mut wal, _) = open(&disk).unwrap();
    wal.write(&[Op::Append(entries(1, 20, 1, 300))]).unwrap();
    let path = segments(&disk)[0].clone();
    let path = segments(&disk).get(1).cloned().unwrap_or(path);
    let (_, offsets) = last_block(&disk);
    disk.flip_bit(&path, offsets[5] + 77, 2);
    let error = wal.read(1..20, u64::MAX).unwrap_err();
    assert!(
        matches!(&error, ReadError::Damaged { file, offset, .. } if *file == path && *offset == offsets[5])
    );
    assert!(error.to_string().contains("learner"));
    assert_eq!(wal.read(1..3, u64::MAX).unwrap().len(), 2, "other entries can be read");
    disk.inject_read_error(disk.reads());
    assert!(matches!(wal.read(1..3, u64::MAX), Err(ReadError::Io { .. })));
}
