//! Enough keys that the counted index has many chunks: counts and pages against a plain map.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Driver, delete, put};
use keelson_mvcc::*;
use proptest::prelude::*;

fn key(number: u32) -> String {
    format!("/k/{number:05}")
}

fn range(from: u32, to: u32) -> KeyRange {
    KeyRange { key: key(from).into(), end: key(to).into() }
}

#[derive(Clone, Debug)]
enum Step {
    Fill { from: u32, len: u32, stride: u32 },
    Clear { from: u32, len: u32 },
    Flip(Vec<u32>),
    Compact,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u32..3000, 1u32..900, 1u32..4).prop_map(|(from, len, stride)| Step::Fill { from, len, stride }),
        2 => (0u32..3000, 1u32..500).prop_map(|(from, len)| Step::Clear { from, len }),
        3 => prop::collection::vec(0u32..3500, 1..60).prop_map(Step::Flip),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..9)
}

fn run<E: KvEngine>(
    steps: &[Step],
    probes: &[(u32, u32, i64)],
    reopen: impl Fn(Option<Driver<E>>) -> Driver<E>,
) {
    let mut driver = reopen(None);
    let mut keys: BTreeMap<u32, ()> = BTreeMap::new();
    let mut history = BTreeMap::from([(1, keys.clone())]);
    let mut mark = 1;
    for step in steps {
        let mut commands = Vec::new();
        match step {
            Step::Fill { from, len, stride } => {
                for number in (0..*len).map(|at| from + at * stride) {
                    commands.push(put(&key(number), "v"));
                    keys.insert(number, ());
                }
            }
            Step::Clear { from, len } => {
                let delete = DeleteRange { range: range(*from, from + len), prev_kv: false };
                commands.push(Command::DeleteRange(delete));
                keys.retain(|number, ()| !(*from..from + len).contains(number));
            }
            Step::Flip(numbers) => {
                for number in numbers {
                    if keys.remove(number).is_some() {
                        commands.push(delete(&key(*number)));
                    } else {
                        commands.push(put(&key(*number), "v"));
                        keys.insert(*number, ());
                    }
                }
            }
            Step::Compact => {
                mark = driver.store.view().revision();
                driver.one(Command::Compact { revision: mark });
                driver.drop_dead_rows();
            }
            Step::Reopen => {
                driver.store.flush().unwrap();
                driver = reopen(Some(driver));
            }
        }
        driver.group(vec![commands]);
        history.insert(driver.store.view().revision(), keys.clone());
        let view = driver.store.view();
        assert_eq!(view.key_count(), keys.len() as u64);
        for (revision, keys) in history.iter().filter(|(revision, _)| **revision >= mark) {
            for (from, to, limit) in probes {
                check(view, keys, *revision, *from, *to, *limit);
            }
        }
    }
}

fn check<E: KvEngine>(
    view: &ReadView<E>,
    keys: &BTreeMap<u32, ()>,
    revision: Revision,
    from: u32,
    to: u32,
    limit: i64,
) {
    let expected: Vec<u32> = keys.range(from..to.max(from)).map(|(number, ())| *number).collect();
    assert_eq!(view.count(&range(from, to), revision), Ok(expected.len() as u64));
    let options = RangeOptions { range: range(from, to), revision, limit, ..RangeOptions::default() };
    let reply = view.range(&options).unwrap();
    let shown = &expected[..expected.len().min(limit as usize)];
    assert_eq!(reply.kvs.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>(), to_keys(shown.iter()));
    assert_eq!((reply.count, reply.more), (expected.len() as i64, expected.len() > limit as usize));
    // The next page, whose count may be remembered.
    if let Some(last) = reply.kvs.last() {
        let next = KeyRange { key: [&last.key[..], &[0]].concat().into(), end: options.range.end.clone() };
        let reply = view.range(&RangeOptions { range: next, ..options.clone() }).unwrap();
        assert_eq!(reply.count, (expected.len() - shown.len()) as i64);
    }
    let last = RangeOptions { sort_order: SortOrder::Descend, ..options };
    let reply = view.range(&last).unwrap();
    let shown = expected.iter().rev().take(limit as usize);
    assert_eq!(reply.kvs.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>(), to_keys(shown));
    assert_eq!((reply.count, reply.more), (expected.len() as i64, expected.len() > limit as usize));
}

fn to_keys<'a>(numbers: impl Iterator<Item = &'a u32>) -> Vec<Bytes> {
    numbers.map(|number| key(*number).into()).collect()
}

fn probes() -> impl Strategy<Value = Vec<(u32, u32, i64)>> {
    prop::collection::vec((0u32..3500, 0u32..4500, prop::sample::select(vec![1i64, 10, 200, 700])), 5)
}

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn counts_and_pages_are_exact_at_every_revision(steps in steps(), probes in probes()) {
        let engine = MemoryEngine::default();
        run(&steps, &probes, |_| {
            engine.crash();
            Driver::open(engine.clone())
        });
    }
}

#[cfg(feature = "rocks")]
proptest! {
    #![proptest_config(common::cases(4))]

    #[test]
    fn counts_and_pages_are_exact_on_rocksdb(steps in steps(), probes in probes()) {
        let dir = tempfile::tempdir().unwrap();
        run(&steps, &probes, |old| {
            drop(old);
            Driver::open(RocksEngine::open(dir.path(), RocksOptions::default()).unwrap())
        });
    }
}
