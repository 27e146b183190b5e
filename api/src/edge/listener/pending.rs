//! The bounded set of connections that have not proven themselves yet.
//!
//! Owns: [`Pending`]. Invariants: never more than `max` members; when full, the oldest is told to go, so a flood of
//! half-open connections costs its sender the flood and others nothing. (Refusing the newest instead would let a
//! thousand silent sockets lock everybody out for a whole handshake timeout.)
//! Called by: [`super::connection`] around handshake and protocol detection.
//! Source: GHSA-6vch-q96h-7gc3 (unbounded pending handshakes in etcd's listener).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Members in order of arrival.
#[derive(Debug)]
pub(crate) struct Pending {
    max: usize,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    queue: VecDeque<(u64, Arc<Notify>)>,
}

/// Membership; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pending: Arc<Pending>,
    id: u64,
    evicted: Arc<Notify>,
}

impl Pending {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        assert!(max > 0, "a server that admits no handshake serves nobody");
        Arc::new(Pending { max, members: Mutex::default() })
    }

    /// Joins, and tells the oldest member to go if the set is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Slot {
        let evicted = Arc::new(Notify::new());
        let mut members = self.members.lock();
        if members.queue.len() >= self.max
            && let Some((_, oldest)) = members.queue.pop_front()
        {
            oldest.notify_one();
        }
        let id = members.next;
        members.next += 1;
        members.queue.push_back((id, Arc::clone(&evicted)));
        assert!(members.queue.len() <= self.max);
        Slot { pending: Arc::clone(self), id, evicted }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.lock().queue.len()
    }
}

impl Slot {
    /// Completes when this member has to go.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut members = self.pending.members.lock();
        // Ids grow along the queue; an evicted member is no longer in it.
        if let Ok(at) = members.queue.binary_search_by_key(&self.id, |(id, _)| *id) {
            members.queue.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_and_the_bound_holds() {
        let pending = Pending::new(2);
        let first = pending.enter();
        let second = pending.enter();
        let third = pending.enter();
        first.evicted().await;
        assert_eq!(pending.len(), 2);
        drop(first);
        assert_eq!(pending.len(), 2, "an evicted member leaves once only");
        drop(second);
        drop(third);
        assert_eq!(pending.len(), 0);
    }
}
