//! Readers, a writer, flushes and the compaction job at the same time, on every engine.
//!
//! Revision r puts key `r % KEYS` with value r, or, where r is a multiple of seven, deletes it; so what any revision
//! holds can be computed, and every answer is either exactly that or `Compacted`.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{Driver, delete, everything, put};
use keelson_mvcc::*;

const KEYS: i64 = 23;
const REVISIONS: i64 = 4000;

fn key(revision: Revision) -> String {
    format!("k{:02}", revision % KEYS)
}

/// A deletion at the second lap or later, where the key surely exists: it was put a lap before, unless that was a
/// deletion too, and two multiples of seven are never 23 apart.
fn is_deletion(revision: Revision) -> bool {
    revision % 7 == 0 && revision > KEYS + 2
}

fn command(revision: Revision) -> Command {
    if is_deletion(revision) { delete(&key(revision)) } else { put(&key(revision), &revision.to_string()) }
}

/// The keys at a revision with the revision that wrote them.
fn state(revision: Revision) -> BTreeMap<String, Revision> {
    let mut keys = BTreeMap::new();
    for written in (2..=revision).rev().take(KEYS as usize) {
        if !is_deletion(written) {
            keys.insert(key(written), written);
        }
    }
    keys
}

fn check_range(reply: &RangeReply, revision: Revision) {
    let found: BTreeMap<_, _> = reply
        .kvs
        .iter()
        .map(|kv| {
            assert_eq!(kv.value, kv.mod_revision.to_string());
            (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision)
        })
        .collect();
    assert_eq!(found, state(revision), "at {revision}");
    assert_eq!(reply.count, found.len() as i64);
}

fn check_events(events: &[std::sync::Arc<RevisionEvents>], after: Revision, mark: Revision) {
    for (at, one) in events.iter().enumerate() {
        assert_eq!(one.revision, after + 1 + at as i64, "no revision is missing");
        let [event] = one.events.as_slice() else { panic!("one change per revision") };
        assert_eq!(event.kind, if is_deletion(one.revision) { EventKind::Delete } else { EventKind::Put });
        assert_eq!(event.kv.key, key(one.revision));
        let prev = state(one.revision - 1).get(&key(one.revision)).copied();
        match &event.prev {
            Some(found) => assert_eq!(Some(found.mod_revision), prev),
            None => assert!(prev.is_none() || one.revision <= mark),
        }
    }
}

fn read_all<E: KvEngine>(reader: &Reader<E>, done: &AtomicBool, answers: &AtomicU64, mut random: u64) {
    while !done.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let view = reader.view();
        let current = view.revision();
        let now = view.range(&RangeOptions { range: everything(), ..RangeOptions::default() }).unwrap();
        check_range(&now, current);
        for (name, written) in state(current) {
            let found = view.get(name.as_bytes()).unwrap().expect("the key exists at the view's revision");
            assert_eq!(found.mod_revision, written);
        }
        let revision = (current - (random >> 33) as i64 % 300).max(1);
        match view.range(&RangeOptions { range: everything(), revision, ..RangeOptions::default() }) {
            Ok(reply) => {
                check_range(&reply, revision);
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(matches!(error, ReadError::Compacted { mark, .. } if mark > revision), "{error}")
            }
        }
        match view.events(revision, current, 2000) {
            Ok(events) => check_events(&events, revision, reader.view().compacted()),
            Err(error) => {
                assert!(matches!(error, ReadError::Compacted { mark, .. } if mark > revision + 1), "{error}")
            }
        }
        if random >> 61 == 0 {
            match view.hash_kv(0) {
                Ok(hash) => assert_eq!(hash.hash_revision, current),
                Err(error) => assert!(matches!(error, ReadError::Compacted { .. }), "{error}"),
            }
        }
    }
}

on_every_engine! {
    fn every_answer_is_exact_or_compacted_while_everything_moves<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let (done, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let reader = node.store.reader();
        let mut job = node.store.compaction_job();
        thread::scope(|scope| {
            // Set even if the writer panics, else the readers would never end.
            struct Finally<'a>(&'a AtomicBool);
            impl Drop for Finally<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            for seed in 1..=2 {
                let (reader, done, answers) = (&reader, &done, &answers);
                scope.spawn(move || {
                    let _finally = Finally(done);
                    read_all(reader, done, answers, seed);
                });
            }
            scope.spawn(|| {
                let _finally = Finally(&done);
                while !done.load(Ordering::Relaxed) {
                    if job.step(4 << 10).unwrap() == CompactionProgress::Idle {
                        thread::yield_now();
                    }
                }
            });
            let _finally = Finally(&done);
            let mut next = 2;
            while next <= REVISIONS && !done.load(Ordering::Relaxed) {
                let group: Vec<_> = (next..next + 1 + next % 20).map(command).collect();
                next += group.len() as i64;
                assert_eq!(node.group(vec![group]).view.revision(), next - 1);
                if next % 9 == 0 {
                    node.one(Command::Compact { revision: next - 1 - next % 150 });
                }
                if next % 5 == 0 {
                    let ticket = node.store.begin_flush().unwrap();
                    let flushed = ticket.run().unwrap();
                    node.store.finish_flush(flushed).unwrap();
                }
            }
        });
        assert!(answers.into_inner() > 0, "the past was read");
        let end = node.store.view().revision();
        let all = RangeOptions { range: everything(), ..RangeOptions::default() };
        check_range(&node.store.view().range(&all).unwrap(), end);
    }
}
