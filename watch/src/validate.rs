//! All invariants of the hub's state that can be seen at rest.
//!
//! Owns: nothing. Called by: tests and simulations, through `Hub::validate`; too dear for anything else.
//! Source: the invariants named in the headers of `state`, `watcher`, `subscription` and `log`.

use std::collections::HashSet;

use crate::state::State;
use crate::watcher::{NONE, Phase};

impl State {
    /// Panics with the first invariant that does not hold.
    pub(crate) fn validate(&self) {
        self.log.validate();
        assert!(self.log.first_revision().is_none_or(|first| first <= self.revision));
        assert!(
            self.behind > 0 || self.chunks.is_empty(),
            "nobody reads the past, yet pieces of it are kept"
        );
        let mut armed = HashSet::new();
        let (mut of_subscriptions, mut hits) = (0, 0);
        for (id, subscription) in self.subscriptions.iter() {
            of_subscriptions += subscription.watchers as usize;
            assert!(subscription.watchers > 0, "a subscription has watchers");
            assert_eq!(self.index.find(&self.subscriptions, &subscription.range), Some(id), "it is indexed");
            hits += subscription.validate(self.log.first_seq(), self.log.next_seq());
            let mut at = subscription.armed;
            while at != NONE {
                assert_eq!(self.watchers[at].subscription, id, "listed where it belongs");
                assert!(armed.insert(at), "listed once");
                at = self.watchers[at].next;
            }
        }
        assert_eq!(of_subscriptions, self.watchers.len(), "every watcher has one subscription");
        // Those of removed subscriptions stay charged until their entries go.
        assert!(hits <= self.log.hits(), "hits are charged to the log");
        let (mut of_streams, mut behind) = (0, 0);
        for (slot, stream) in self.streams.iter() {
            of_streams += stream.watchers.len();
            behind += stream.behind;
            let live = stream.dirty.iter().filter(|token| self.live_watcher(**token).is_some());
            let dirty: HashSet<u32> = live.map(|token| token.slot).collect();
            let mut counts = [0; 3];
            for (id, watcher_slot) in &stream.watchers {
                let watcher = &self.watchers[*watcher_slot];
                assert_eq!((watcher.id, watcher.stream), (*id, slot), "a stream lists its own watchers");
                counts[watcher.phase as usize] += 1;
                assert_eq!(
                    watcher.phase == Phase::Armed,
                    armed.contains(watcher_slot),
                    "armed ones are listed"
                );
                assert_eq!(
                    watcher.phase == Phase::Dirty,
                    dirty.contains(watcher_slot),
                    "dirty ones are queued"
                );
                if watcher.phase == Phase::Dirty {
                    assert!(watcher.cursor <= self.revision, "what waits was published");
                }
            }
            assert_eq!(counts[Phase::Dirty as usize], dirty.len());
            assert_eq!(counts[Phase::Behind as usize], stream.behind);
            assert!(stream.waker.is_none() || !self.has_work(slot), "a waiting stream has nothing to do");
            assert_eq!(stream.timer.is_some(), self.timers.iter().any(|(_, of)| *of == slot));
        }
        assert_eq!(of_streams, self.watchers.len(), "every watcher has one stream");
        assert_eq!(behind, self.behind);
    }
}
