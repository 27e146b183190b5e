//! What every engine must guarantee, checked on each of them.

mod common;

use std::collections::BTreeMap;

use common::Machine;
use keelson_mvcc::engine::*;
use proptest::prelude::*;

type Model = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(Family, Vec<u8>, Option<Vec<u8>>)>),
    Flush,
    Crash,
    Hold,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let family = prop::sample::select(Family::ALL.to_vec());
    let key = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), 1..4);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    let step = prop_oneof![
        8 => prop::collection::vec((family, key, value), 1..8).prop_map(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        2 => Just(Step::Hold),
    ];
    prop::collection::vec(step, 1..40)
}

fn check<S: EngineSnapshot>(snapshot: &S, model: &Model) {
    for family in Family::ALL {
        let rows: Vec<_> =
            model.iter().filter(|((of, _), _)| *of == family).map(|((_, key), value)| (key, value)).collect();
        for (key, value) in &rows {
            assert_eq!(snapshot.get(family, key, <[u8]>::to_vec).unwrap().as_ref(), Some(*value));
        }
        let mut bounds: Vec<Vec<u8>> = rows.iter().map(|(key, _)| (*key).clone()).collect();
        bounds.extend([vec![], vec![b'a'], vec![0, 0], vec![0xff; 5]]);
        for from in &bounds {
            assert_eq!(
                snapshot.get(family, from, |_| ()).unwrap().is_some(),
                rows.iter().any(|(key, _)| *key == from)
            );
            for upper in bounds.iter().map(|upper| Some(upper.as_slice())).chain([None]) {
                if upper.is_some_and(|upper| upper < from.as_slice()) {
                    continue;
                }
                let within = |key: &[u8]| key >= from.as_slice() && upper.is_none_or(|upper| key < upper);
                let expected: Vec<_> = rows
                    .iter()
                    .filter(|(key, _)| within(key))
                    .map(|(key, value)| ((*key).clone(), (*value).clone()))
                    .collect();
                let mut cursor = snapshot.cursor(family, CursorOptions { upper, bulk: upper.is_none() });
                assert!(cursor.item().is_none(), "at no position before the first seek");
                let mut found = Vec::new();
                cursor.seek(from);
                while let Some((key, value)) = cursor.item() {
                    found.push((key.to_vec(), value.to_vec()));
                    cursor.next();
                }
                assert_eq!(found, expected);
                let mut found = Vec::new();
                cursor.seek_before(upper);
                while let Some((key, value)) = cursor.item().filter(|(key, _)| *key >= from.as_slice()) {
                    found.push((key.to_vec(), value.to_vec()));
                    cursor.prev();
                }
                found.reverse();
                assert_eq!(found, expected, "backwards from {upper:?} to {from:?}");
                cursor.check().unwrap();
            }
        }
    }
}

fn run<M: Machine>(steps: &[Step]) {
    let machine = M::new();
    let mut engine = Some(machine.open());
    let (mut live, mut durable) = (Model::new(), Model::new());
    let mut held = Vec::new();
    for step in steps {
        let current = engine.as_ref().expect("always open here");
        match step {
            Step::Write(changes) => {
                let mut batch = current.batch();
                for (family, key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(*family, key, value);
                            live.insert((*family, key.clone()), value.clone());
                        }
                        None => {
                            batch.delete(*family, key);
                            live.remove(&(*family, key.clone()));
                        }
                    }
                }
                assert!(batch.len_bytes() > 0);
                current.write(batch).unwrap();
                let (family, key, value) = changes.last().expect("not empty");
                assert_eq!(current.get(*family, key).unwrap().map(|found| found.to_vec()), *value);
            }
            Step::Flush => {
                current.flush().unwrap();
                durable = live.clone();
            }
            Step::Crash => {
                check_all(&held);
                held.clear();
                drop(engine.take());
                engine = Some(machine.open());
                live = durable.clone();
                check(&engine.as_ref().expect("just opened").snapshot(), &live);
            }
            Step::Hold => held.push((current.snapshot(), live.clone())),
        }
    }
    check(&engine.expect("open").snapshot(), &live);
    // Snapshots outlive the handle.
    check_all(&held);
}

fn check_all<S: EngineSnapshot>(held: &[(S, Model)]) {
    held.iter().for_each(|(snapshot, model)| check(snapshot, model));
}

proptest! {
    #![proptest_config(common::cases(32))]

    #[test]
    fn the_memory_engine_is_a_map_that_crashes_to_its_last_flush(steps in steps()) {
        run::<common::MemoryMachine>(&steps);
    }
}

#[cfg(feature = "rocks")]
proptest! {
    #![proptest_config(common::cases(8))]

    #[test]
    fn the_rocks_engine_is_a_map_that_crashes_to_its_last_flush(steps in steps()) {
        run::<common::RocksMachine>(&steps);
    }
}

on_every_engine! {
    /// Old content stays readable through its snapshots, new content is durable at once, and a replacement never
    /// finished leaves no trace.
    fn a_replacement_is_one_step<M>() {
        let write = |engine: &M::Engine, value: &[u8]| {
            let mut batch = engine.batch();
            batch.put(Family::Latest, b"k", value);
            engine.write(batch).unwrap();
        };
        let read = |engine: &M::Engine| engine.get(Family::Latest, b"k").unwrap().unwrap().to_vec();
        let machine = M::new();
        let mut engine = machine.open();
        write(&engine, b"old");
        engine.flush().unwrap();
        let abandoned = engine.fresh().unwrap();
        write(&abandoned, b"abandoned");
        abandoned.flush().unwrap();
        drop(abandoned);
        assert_eq!(read(&engine), b"old");
        let old = engine.snapshot();
        for round in [b"new 1", b"new 2"] {
            let replacement = engine.fresh().unwrap();
            assert!(replacement.get(Family::Latest, b"k").unwrap().is_none(), "starts empty");
            write(&replacement, round);
            replacement.flush().unwrap();
            engine.replace(replacement).unwrap();
            assert_eq!(read(&engine), round);
            assert_eq!(old.get(Family::Latest, b"k", <[u8]>::to_vec).unwrap().unwrap(), b"old");
        }
        drop((engine, old));
        assert_eq!(read(&machine.open()), b"new 2");
    }
}

/// Directories nobody names any more are gone: with the last reader, or at the next open after a crash.
#[cfg(feature = "rocks")]
#[test]
fn old_databases_leave_no_files() {
    use keelson_mvcc::{RocksEngine, RocksOptions};
    let root = tempfile::tempdir().unwrap();
    let databases = || {
        let names = std::fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let mut engine = RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
    assert_eq!(databases(), ["current", "db-1"]);
    let replacement = engine.fresh().unwrap();
    replacement.flush().unwrap();
    let old = engine.snapshot();
    engine.replace(replacement).unwrap();
    assert_eq!(databases(), ["current", "db-1", "db-2"], "a reader holds the old one");
    drop(old);
    assert_eq!(databases(), ["current", "db-2"]);
    drop(engine);
    std::fs::create_dir(root.path().join("db-7")).unwrap();
    let engine = RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
    assert_eq!(databases(), ["current", "db-2"], "what a crash left is removed");
    drop(engine);
    std::fs::remove_dir_all(root.path().join("db-2")).unwrap();
    let error = RocksEngine::open(root.path(), RocksOptions::default()).err().expect("refused");
    assert!(error.to_string().contains("db-2"), "{error}");
}
