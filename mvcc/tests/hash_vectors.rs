//! HashKV against numbers that etcd's own code gave.
//!
//! Source: `go.etcd.io/etcd/server/v3` v3.7.3, package `storage/mvcc`: a store with the writes below, asked by
//! `HashStorage().HashByRev(revision)`. Left out are answers etcd gives from its cache of compaction-time hashes;
//! those were computed with the mark before, which their `CompactRevision` says.

mod common;

use common::{Driver, delete, put};
use keelson_mvcc::*;

fn leased(key: &'static str, value: &'static str, lease: LeaseId) -> Put {
    Put { key: key.into(), value: value.into(), lease, ..Put::default() }
}

fn check<E: KvEngine>(node: &Driver<E>, expected: &[(Revision, u32)]) {
    let view = node.store.view();
    for &(revision, hash) in expected {
        let hash_revision = if revision == 0 { view.revision() } else { revision };
        let expected = KvHash { hash, compact_revision: view.compacted(), hash_revision };
        assert_eq!(view.hash_kv(revision), Ok(expected), "at {revision} with mark {}", view.compacted());
    }
}

on_every_engine! {
    fn hash_kv_is_that_of_etcd<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        check(&node, &[(0, 0x40a4_756d)]);
        node.must(Command::LeaseGrant { id: 7, ttl_s: 60 });
        node.must(Command::LeaseGrant { id: 9, ttl_s: 60 });
        node.must(put("a", "1"));
        node.must(Command::Put(leased("b", "two", 7)));
        node.must(put("a", ""));
        node.must(delete("b"));
        node.must(Command::Txn(Txn {
            success: vec![
                TxnOp::Put(leased("c", "in a txn", 0)),
                TxnOp::Put(leased("d", "in a txn too", 9)),
                TxnOp::DeleteRange(DeleteRange { range: KeyRange::single("a"), prev_kv: false }),
            ],
            ..Txn::default()
        }));
        node.must(put("b", "again"));
        node.must(put("c", "more"));
        check(&node, &[
            (0, 0xd938_da78),
            (2, 0x9a39_6dd7),
            (3, 0x35a9_6555),
            (4, 0x1c54_4453),
            (5, 0x4d23_4c39),
            (6, 0x6feb_342d),
            (7, 0x31e1_2c9f),
            (8, 0xd938_da78),
        ]);

        let compact = |node: &mut Driver<M::Engine>, revision, expected: &[(Revision, u32)]| {
            node.must(Command::Compact { revision });
            check(node, expected);
            node.drop_dead_rows();
            check(node, expected);
        };
        compact(&mut node, 5, &[(0, 0xd6e3_9c29), (6, 0x62ac_dce3), (7, 0x0238_e78b), (8, 0xd6e3_9c29)]);
        compact(&mut node, 6, &[(0, 0xc94b_3b82), (7, 0x9b10_76a0), (8, 0xc94b_3b82)]);
        let range = KeyRange { key: "a".into(), end: "z".into() };
        node.must(Command::DeleteRange(DeleteRange { range, prev_kv: false }));
        check(&node, &[(0, 0x4f62_453f), (7, 0x9b10_76a0), (8, 0xc94b_3b82), (9, 0x4f62_453f)]);
        compact(&mut node, 8, &[(0, 0x9f4e_f15d), (9, 0x9f4e_f15d)]);
        compact(&mut node, 9, &[(0, 0x40a4_756d)]);
        node.must(put("a", "back"));
        check(&node, &[(0, 0x7762_9739), (10, 0x7762_9739)]);
    }
}
