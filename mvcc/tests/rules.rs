//! Rules that are easy to miss, each as a story, on every engine. The list is docs/rules.md.

mod common;

use common::{Driver, everything, put};
use keelson_mvcc::*;

on_every_engine! {
    /// However many keys a deletion takes, it is one revision, and its events are given out together.
    fn rule_9_a_deletion_of_very_many_keys_is_one_revision<M>() {
        const KEYS: usize = 50_000;
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        for thousand in 0..KEYS / 1000 {
            let puts = (0..1000).map(|number| put(&format!("k{thousand:03}{number:03}"), "v"));
            node.group(vec![puts.collect()]);
        }
        let before = node.store.view().revision();
        let range = DeleteRange { range: everything(), prev_kv: false };
        let deleted = node.group(vec![vec![Command::DeleteRange(range)]]);
        assert_eq!(deleted.view.revision(), before + 1);
        assert_eq!(deleted.events.len(), 1, "one revision");
        assert_eq!(deleted.events[0].events.len(), KEYS);
        let again = deleted.view.events(before, Revision::MAX, 1).unwrap();
        assert_eq!(again[0].events.len(), KEYS, "a bound on bytes does not divide it");
        let left = deleted.view.range(&RangeOptions { range: everything(), ..RangeOptions::default() }).unwrap();
        assert_eq!(left.count, 0);
    }

    /// A leader that decided in an earlier term that a lease has run out may have been wrong: it was renewed since.
    fn rule_17_a_revoke_of_an_earlier_term_does_nothing<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let revoke = |term| Command::LeaseRevoke { id: 7, term: Some(term) };
        node.term = 3;
        node.must(Command::LeaseGrant { id: 7, ttl_s: 60 });
        node.term = 5;
        node.must(revoke(3));
        assert!(node.store.view().lease(7).unwrap().is_some(), "decided in term 3, in the log of term 5");
        node.must(revoke(5));
        assert!(node.store.view().lease(7).unwrap().is_none());
    }

    /// Time that an earlier leader wrote down takes nothing from a lease that was renewed under the next one.
    fn rule_17_a_checkpoint_of_an_earlier_term_does_nothing<M>() {
        let machine = M::new();
        let mut node = Driver::open(machine.open());
        let checkpoint = |term| Command::LeaseCheckpoint { remaining: vec![(7, 20), (8, 20)], term: Some(term) };
        node.must(Command::LeaseGrant { id: 7, ttl_s: 3600 });
        node.term = 5;
        let left = |node: &Driver<_>| node.store.view().lease(7).unwrap().unwrap().remaining_s;
        node.must(checkpoint(3));
        assert_eq!(left(&node), 0);
        node.must(checkpoint(5));
        assert_eq!(left(&node), 20, "and an unknown lease beside it is no error");
    }
}
