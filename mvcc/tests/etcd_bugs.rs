//! Bugs etcd had at this level, each as a story with our answer, on every engine.

mod common;

use bytes::Bytes;
use common::{Driver, delete, everything, put};
use keelson_mvcc::*;

fn compact(revision: Revision) -> Command {
    Command::Compact { revision }
}

fn at(range: KeyRange, revision: Revision) -> RangeOptions {
    RangeOptions { range, revision, ..RangeOptions::default() }
}

on_every_engine! {
    /// etcd #18089, #19179: compacting at the revision of a deletion removed the tombstone, so a watch from exactly
    /// that revision, which is not compacted, never saw the key go.
    fn etcd_18089_19179_a_deletion_at_the_mark_is_still_seen_by_a_watch<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        node.must(put("a", "1"));
        node.must(put("b", "1"));
        let deleted = node.must(delete("a"));
        node.must(put("c", "1"));
        node.must(compact(deleted));
        for _ in 0..2 {
            let view = node.store.view();
            let found = view.events(deleted - 1, Revision::MAX, usize::MAX).unwrap();
            assert_eq!(found[0].revision, deleted);
            assert_eq!(found[0].events[0].kind, EventKind::Delete);
            assert_eq!(found[0].events[0].kv.key, "a");
            assert_eq!(found[0].events[0].prev, None, "the revision before it is compacted");
            let below = view.events(deleted - 2, Revision::MAX, usize::MAX);
            assert_eq!(below, Err(ReadError::Compacted { requested: deleted - 1, mark: deleted }));
            // And it does not come back to life.
            let kvs = view.range(&at(everything(), deleted)).unwrap().kvs;
            assert_eq!(kvs.into_iter().map(|kv| kv.key).collect::<Vec<_>>(), ["b"]);
            node.drop_dead_rows();
        }
    }

    /// etcd #18667: a transaction with a put and then a read at a compacted revision failed in the middle, on some
    /// members only. Here it is refused as a whole before it writes, everywhere.
    fn etcd_18667_a_transaction_that_reads_below_the_mark_writes_nothing<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let old = node.must(put("a", "1"));
        let current = node.must(put("a", "2"));
        node.must(compact(current));
        let read = |revision| TxnOp::Range(at(KeyRange::single("a"), revision));
        let write = TxnOp::Put(Put { key: "a".into(), value: "3".into(), ..Put::default() });
        let nested = |op| TxnOp::Txn(Txn { success: vec![op], ..Txn::default() });
        for (read, error) in [
            (read(old), ApplyError::Compacted { requested: old, mark: current }),
            (nested(read(old)), ApplyError::Compacted { requested: old, mark: current }),
            (read(-1), ApplyError::Compacted { requested: -1, mark: current }),
            (read(99), ApplyError::FutureRevision { requested: 99, current }),
        ] {
            let txn = Txn { success: vec![write.clone(), read], ..Txn::default() };
            assert_eq!(node.one(Command::Txn(txn)), Reply { revision: current, outcome: Err(error) });
            assert_eq!(node.store.view().get(b"a").unwrap().unwrap().value, "2");
        }
    }

    /// etcd #13766: the applied index and the data were written apart, so a crash between them made a member skip or
    /// repeat entries after the restart, and it never noticed. Here both are in one batch: whatever moment the engine
    /// goes back to, replaying what follows the applied position ends in the same state.
    fn etcd_13766_applied_position_and_data_never_part<M>() {
        let commands: Vec<Command> = (0..30)
            .map(|number| match number % 7 {
                3 => delete(&format!("k{}", number % 3)),
                5 => compact(number / 2),
                _ => put(&format!("k{}", number % 5), &number.to_string()),
            })
            .collect();
        let mut whole = Driver::open(MemoryEngine::default());
        commands.iter().for_each(|command| drop(whole.one(command.clone())));
        for flushed in (0..commands.len()).step_by(3) {
            let machine = M::new();
            let mut node = Driver::open(machine.open());
            for (number, command) in commands.iter().enumerate() {
                node.one(command.clone());
                if number == flushed {
                    node.store.flush().unwrap();
                }
            }
            drop(node);
            let mut node = Driver::open(machine.open());
            assert_eq!(node.next, flushed as u64 + 1, "nothing before the flush is lost, nothing after it survives");
            for command in &commands[node.next as usize..] {
                node.one(command.clone());
            }
            assert_eq!(node.store.view().digest(), whole.store.view().digest());
        }
    }

    /// etcd #17780: the newest revision was that of a deletion, a compaction removed it, and after a crash right then
    /// the member restarted at a lower revision and gave it out a second time.
    fn etcd_17780_a_crash_in_a_compaction_never_lowers_the_revision<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        node.must(put("a", "1"));
        node.must(put("a", "2"));
        let last = node.must(delete("a"));
        node.must(compact(last));
        node.drop_dead_rows();
        drop(node);
        let mut node = Driver::open(machine.open());
        assert_eq!((node.store.view().revision(), node.store.view().compacted()), (last, last));
        assert_eq!(node.must(put("b", "1")), last + 1, "the next revision is a new one");
    }

    /// Rule 11: a mark that is not yet durable must drop nothing, else a crash shows a hole in a history that is not
    /// compacted. Here the mark is raised while a flush that does not cover it is under way.
    fn a_mark_that_a_crash_takes_back_has_dropped_nothing<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        for number in 0..20 {
            node.must(put("a", &number.to_string()));
        }
        let before = node.store.view().clone();
        let events = before.events(1, Revision::MAX, usize::MAX).unwrap();
        let hash = before.hash_kv(0).unwrap();
        let ticket = node.store.begin_flush().unwrap();
        let flushed = ticket.run().unwrap();
        node.must(compact(15));
        assert_eq!(node.store.finish_flush(flushed).unwrap(), before.applied());
        assert_eq!(node.store.compaction_job().step(u64::MAX).unwrap(), CompactionProgress::Idle);
        drop((node, before));
        let node = Driver::open(machine.open());
        let view = node.store.view();
        assert_eq!(view.compacted(), -1);
        assert_eq!(view.events(1, Revision::MAX, usize::MAX).unwrap(), events);
        assert_eq!(view.hash_kv(0).unwrap(), hash);
        for revision in 2..=view.revision() {
            let found = view.range(&at(KeyRange::single("a"), revision)).unwrap();
            assert_eq!(found.kvs[0].value, (revision - 2).to_string());
        }
    }

    /// A command of the same group is visible to the next one, a refused one is not (rule 7).
    fn later_commands_of_a_group_see_earlier_ones_and_only_those_that_succeeded<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let grant = Command::LeaseGrant { id: 7, ttl_s: 60 };
        let leased = |key: &'static str| {
            Command::Put(Put { key: Bytes::from(key), lease: 7, prev_kv: true, ..Put::default() })
        };
        let refused_txn = Command::Txn(Txn {
            success: vec![
                TxnOp::Put(Put { key: "x".into(), ..Put::default() }),
                TxnOp::Put(Put { key: "y".into(), lease: 99, ..Put::default() }),
            ],
            ..Txn::default()
        });
        let revoke = Command::LeaseRevoke { id: 7, term: None };
        let applied = node.group(vec![
            vec![grant.clone(), grant, leased("b"), leased("a"), refused_txn],
            vec![leased("a"), revoke.clone(), leased("c"), revoke],
        ]);
        let replies = applied.replies.into_iter().flatten();
        let outcomes: Vec<_> = replies.map(|reply| (reply.revision, reply.outcome)).collect();
        assert_eq!(outcomes[0], (1, Ok(Outcome::LeaseGrant { id: 7, ttl_s: 60 })));
        assert_eq!(outcomes[1], (1, Err(ApplyError::LeaseExists(7))));
        assert_eq!(outcomes[2], (2, Ok(Outcome::Put { prev: None })));
        assert_eq!(outcomes[3], (3, Ok(Outcome::Put { prev: None })));
        assert_eq!(outcomes[4], (3, Err(ApplyError::LeaseNotFound(99))));
        let (4, Ok(Outcome::Put { prev: Some(prev) })) = &outcomes[5] else { panic!("{:?}", outcomes[5]) };
        assert_eq!((prev.version, prev.mod_revision, prev.lease), (1, 3, 7));
        assert_eq!(outcomes[6], (5, Ok(Outcome::LeaseRevoke)));
        assert_eq!(outcomes[7], (5, Err(ApplyError::LeaseNotFound(7))));
        assert_eq!(outcomes[8], (5, Err(ApplyError::LeaseNotFound(7))));
        let events = node.store.view().events(4, Revision::MAX, usize::MAX).unwrap();
        let deleted: Vec<_> = events[0].events.iter().map(|event| (event.sub, event.kv.key.clone())).collect();
        assert_eq!(deleted, [(0, Bytes::from("a")), (1, Bytes::from("b"))], "sorted, in one revision");
    }

    /// The first write of a fresh store is revision 2, and what changes nothing takes no revision.
    fn the_first_write_is_revision_2_and_nothing_takes_no_revision<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        assert_eq!((node.store.view().revision(), node.store.view().compacted()), (1, -1));
        assert_eq!(node.must(delete("a")), 1);
        assert_eq!(node.must(Command::Txn(Txn::default())), 1);
        let failed = Txn {
            compare: vec![Compare {
                range: KeyRange::single("a"),
                result: CompareResult::NotEqual,
                target: CompareTarget::Value(Bytes::from("x")),
            }],
            success: vec![TxnOp::Put(Put { key: "a".into(), ..Put::default() })],
            failure: Vec::new(),
        };
        assert_eq!(node.must(Command::Txn(failed)), 1, "a missing key has no value, not even a different one");
        assert_eq!(node.must(put("a", "")), 2);
    }
}
