//! Views that are older than the store, history that goes away while it is read, and snapshots.

mod common;

use common::{Driver, delete, entry, everything, put};
use keelson_mvcc::*;

fn at(revision: Revision) -> RangeOptions {
    RangeOptions { range: everything(), revision, ..RangeOptions::default() }
}

on_every_engine! {
    fn a_view_answers_from_its_own_revision_whatever_the_row_cache_holds<M>() {
        for row_cache_bytes in [0, 1 << 20] {
            let machine = M::new();
            let mut node = Driver::open_with(machine.open(), StoreOptions { row_cache_bytes });
            node.must(put("a", "old"));
            node.must(put("gone", "old"));
            let view = node.store.reader().view();
            node.must(put("a", "new"));
            node.must(put("b", "new"));
            node.must(delete("gone"));
            let value = |key: &str| view.get(key.as_bytes()).unwrap().map(|kv| kv.value);
            assert_eq!(value("a").unwrap(), "old");
            assert_eq!(value("gone").unwrap(), "old");
            assert_eq!(value("b"), None);
            assert_eq!(view.count(&everything(), 0), Ok(2));
            let single = RangeOptions { range: KeyRange::single("a"), ..RangeOptions::default() };
            assert_eq!(view.range(&single).unwrap().kvs[0].value, "old");
            assert_eq!(node.store.reader().view().get(b"a").unwrap().unwrap().value, "new");
        }
    }

    /// Rule 11: dead rows vanish under open views, so a read of the past says `Compacted` rather than something
    /// wrong, while the view's own revision stays readable.
    fn reading_the_past_through_an_old_view_checks_the_mark_afterwards<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let old = node.must(put("a", "1"));
        node.must(put("b", "1"));
        node.must(put("a", "2"));
        let current = node.must(delete("b"));
        let view = node.store.reader().view();
        let mark = node.must(put("c", "1"));
        node.must(Command::Compact { revision: mark });
        node.drop_dead_rows();
        let compacted = |requested| ReadError::Compacted { requested, mark };
        let txn = |revision| Txn { success: vec![TxnOp::Range(at(revision))], ..Txn::default() };
        assert_eq!(view.range(&at(old)), Err(compacted(old)));
        assert_eq!(view.range(&RangeOptions { range: KeyRange::single("a"), ..at(old) }), Err(compacted(old)));
        assert_eq!(view.count(&everything(), old), Err(compacted(old)));
        assert_eq!(view.eval_txn_readonly(&txn(old)), Err(compacted(old)));
        assert_eq!(view.events(1, Revision::MAX, usize::MAX), Err(compacted(2)));
        assert_eq!(view.hash_kv(0), Err(compacted(current)));
        assert!(Export::new(view.clone()).is_none());
        let now = view.range(&at(current)).unwrap();
        assert_eq!(now.kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>(), ["2"]);
        assert!(view.eval_txn_readonly(&txn(current)).is_ok());
    }

    /// etcd checks the operations it executes and no others: a revision that only the branch not taken names may be
    /// compacted or in the future, at any depth, in transactions that read as in those that write.
    fn the_branch_not_taken_asks_for_nothing<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let old = node.must(put("a", "1"));
        let mark = node.must(put("a", "2"));
        let current = node.must(put("a", "3"));
        node.must(Command::Compact { revision: mark });
        node.drop_dead_rows();
        let read = |revision| TxnOp::Range(at(revision));
        let nested = |success: TxnOp, failure: TxnOp| {
            TxnOp::Txn(Txn { success: vec![success], failure: vec![failure], ..Txn::default() })
        };
        for unreadable in [old, -1, current + 1] {
            let wrong = read(unreadable);
            for (taken, other) in [
                (read(current), wrong.clone()),
                (read(mark), nested(wrong.clone(), wrong.clone())),
                (nested(read(0), wrong.clone()), wrong.clone()),
                (nested(nested(read(mark), wrong.clone()), nested(wrong.clone(), wrong.clone())), read(0)),
            ] {
                let txn = Txn { success: vec![taken.clone()], failure: vec![other], ..Txn::default() };
                let reply = node.store.view().eval_txn_readonly(&txn);
                assert!(reply.is_ok(), "{reply:?} of {txn:?}");
                let reply = node.one(Command::Txn(txn));
                assert!(reply.outcome.is_ok(), "{reply:?}");
                let txn = Txn { success: vec![taken, nested(wrong.clone(), read(0))], ..Txn::default() };
                assert!(node.store.view().eval_txn_readonly(&txn).is_err());
                assert!(node.one(Command::Txn(txn)).outcome.is_err());
            }
        }
    }

    /// A member that receives a snapshot gets all history the snapshot's mark allows to read, although the sender
    /// compacts and drops while it sends.
    fn an_export_keeps_the_history_it_promises<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        for number in 0..50 {
            node.must(put("a", &number.to_string()));
            node.must(delete("a"));
        }
        let expected = node.store.view().hash_kv(0).unwrap();
        let mut export = node.store.snapshot();
        let mut chunks = vec![export.next().unwrap().unwrap()];
        let revision = node.must(put("b", "1"));
        node.must(Command::Compact { revision });
        node.drop_dead_rows();
        assert!(node.store.view().physically_compacted() < revision, "held");
        chunks.extend(export.by_ref().map(Result::unwrap));
        drop(export);
        node.drop_dead_rows();
        assert_eq!(node.store.view().physically_compacted(), revision, "let go");
        let receiver = M::new();
        let mut target = Driver::open(receiver.open());
        target.store.install(chunks).unwrap();
        assert_eq!(target.store.view().hash_kv(0).unwrap(), expected);
        assert_eq!(target.store.view().events(1, Revision::MAX, usize::MAX).unwrap().len(), 100);
    }

    /// Rule 15: everything is replaced in one step and durably, old views keep the old data until they go, and a
    /// second snapshot replaces the first.
    fn an_install_replaces_everything_in_one_step<M>() {
        let mut source = Driver::open(MemoryEngine::default());
        for number in 0..3000 {
            source.must(put(&format!("k{number}"), &"v".repeat(200)));
        }
        let receiver = M::new();
        let mut target = Driver::open(receiver.open());
        target.must(put("mine", "1"));
        let (reader, old) = (target.store.reader(), target.store.view().clone());
        for round in 0..2 {
            source.must(Command::AlarmRaise(Alarm { member: round, kind: AlarmKind::NoSpace }));
            source.must(Command::MetaSet { key: "round".into(), value: round.to_string().into() });
            let chunks: Vec<_> = source.store.snapshot().map(Result::unwrap).collect();
            assert!(chunks.len() > 4, "several chunks of rows");
            let ticket = target.store.begin_flush().unwrap();
            target.store.install(chunks).unwrap();
            // A flush begun before belongs to the old data and must not touch the new.
            target.store.finish_flush(ticket.run().unwrap()).unwrap();
            assert_eq!(reader.view().digest(), source.store.view().digest());
            assert_eq!(reader.view().key_count(), 3000);
            assert_eq!(reader.view().alarms().len(), round as usize + 1);
            assert_eq!(reader.view().meta(b"round").unwrap().unwrap(), round.to_string());
            assert_eq!(old.get(b"mine").unwrap().unwrap().value, "1");
        }
        drop((target, reader, old));
        let target = Driver::open(receiver.open());
        assert_eq!(target.store.view().digest(), source.store.view().digest(), "durable without another flush");
        assert_eq!(target.next, source.next);
    }

    /// Memory and disk are given back: the size of a store that was compacted and is idle falls (rule 12).
    fn the_size_of_a_compacted_store_falls<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        for number in 0..2000 {
            // Values that do not compress.
            let value: String = (0..64).map(|at| char::from(b'!' + ((number * 31 + at * at * 7 + at * number) % 90) as u8)).collect();
            node.must(put(&format!("k{}", number % 10), &value.repeat(4)));
        }
        node.store.flush().unwrap();
        let before = node.store.view().size_bytes();
        let revision = node.store.view().revision();
        node.must(Command::Compact { revision });
        node.drop_dead_rows();
        let after = node.store.view().size_bytes();
        assert!(after * 2 < before, "{before} bytes before, {after} after");
        assert!(node.store.view().size_in_use_bytes() <= after);
        assert_eq!(node.store.view().physically_compacted(), revision);
        drop(node);
        let node = Driver::open(machine.open());
        assert_eq!(node.store.view().key_count(), 10);
    }
}

#[test]
fn a_damaged_or_incomplete_snapshot_changes_nothing() {
    let mut source = Driver::open(MemoryEngine::default());
    for number in 0..3000 {
        source.must(put(&format!("k{number}"), &"v".repeat(200)));
    }
    let chunks: Vec<_> = source.store.snapshot().map(Result::unwrap).collect();
    let mut target = Driver::open(MemoryEngine::default());
    target.must(put("mine", "1"));
    let before = target.store.view().digest();
    let mut refuse = |chunks: Vec<bytes::Bytes>, what: &str| {
        let refused = target.store.install(chunks);
        assert!(matches!(refused, Err(StoreError::BadSnapshot(_))), "{what}");
        assert_eq!(target.store.view().digest(), before);
        assert!(target.store.apply(&[]).is_ok(), "still usable");
    };
    for missing in 0..chunks.len() {
        let some = chunks.iter().enumerate().filter(|(number, _)| *number != missing);
        refuse(some.map(|(_, chunk)| chunk.clone()).collect(), "a missing chunk");
    }
    for damaged in 0..chunks.len() {
        let mut some = chunks.clone();
        let mut bytes = some[damaged].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        some[damaged] = bytes.into();
        refuse(some, "a flipped bit");
    }
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    refuse(swapped, "swapped chunks");
    target.store.install(chunks).unwrap();
    assert_eq!(target.store.view().digest(), source.store.view().digest());
    let again: Vec<_> = source.store.snapshot().map(Result::unwrap).collect();
    assert!(matches!(target.store.install(again), Err(StoreError::SnapshotBehind { .. })), "not twice");
}

/// After an engine error the store does nothing more.
#[test]
fn an_engine_error_latches_the_store() {
    let engine = MemoryEngine::default();
    let mut driver = Driver::open(engine.clone());
    driver.must(put("a", "1"));
    engine.fail("disk full");
    let group = [entry(driver.next, driver.term, vec![put("a", "2")])];
    assert!(matches!(driver.store.apply(&group), Err(StoreError::Engine(_))));
    engine.crash();
    assert!(matches!(driver.store.apply(&group), Err(StoreError::Latched)));
    assert!(matches!(driver.store.flush(), Err(StoreError::Latched)));
    assert_eq!(driver.store.view().get(b"a").unwrap().unwrap().value, "1", "nothing half done is shown");
}

#[test]
#[should_panic(expected = "entries are applied in order")]
fn an_entry_that_does_not_follow_is_never_applied() {
    let mut driver = Driver::open(MemoryEngine::default());
    driver.must(put("a", "1"));
    driver.next += 1;
    driver.must(put("a", "2"));
}
