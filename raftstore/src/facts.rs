//! What all parts of a member know of it: membership, contact with the leader, flags, and who wants to hear of changes.
//!
//! Owns: those facts. Written by: `state_machine` (membership), `net::server` (contact), `keeper` (flags).
//! Read by: `status`, `net`, `membership`. Invariant: the term only grows; `removed` and `stopped` are never unset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::codec::MembershipRow;
use crate::consensus::{Member, Members};
use crate::types::MemberId;

/// See the module.
pub(crate) struct Facts {
    pub(crate) clock: Clock,
    membership: RwLock<Arc<MembershipRow>>,
    contact: Mutex<Option<Contact>>,
    term: AtomicU64,
    pub(crate) removed: AtomicBool,
    pub(crate) ready: AtomicBool,
    pub(crate) disk_stalled: AtomicBool,
    pub(crate) stopped: AtomicBool,
    /// Linearizable reads that timed out.
    pub(crate) reads_failed: AtomicU64,
    changed: Arc<Notify>,
}

/// The last message of a leader that this member accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contact {
    pub(crate) leader: MemberId,
    pub(crate) at_ms: u64,
}

impl Facts {
    pub(crate) fn new(clock: Clock, row: MembershipRow, term: u64) -> Self {
        Facts {
            clock,
            membership: RwLock::new(Arc::new(row)),
            contact: Mutex::new(None),
            term: AtomicU64::new(term),
            removed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            disk_stalled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            reads_failed: AtomicU64::new(0),
            changed: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn membership(&self) -> Arc<MembershipRow> {
        self.membership.read().clone()
    }

    pub(crate) fn set_membership(&self, row: MembershipRow, member: MemberId) {
        if row.removed.contains(&member) {
            self.removed.store(true, Ordering::Release);
        }
        *self.membership.write() = Arc::new(row);
        self.notify();
    }

    pub(crate) fn members(&self) -> Members {
        members(&self.membership())
    }

    /// A leader's message was accepted.
    pub(crate) fn heard_from(&self, leader: MemberId, term: u64) {
        let at_ms = self.clock.now_ms();
        let before = self.contact.lock().replace(Contact { leader, at_ms });
        self.set_term(term);
        if before.is_none_or(|before| before.leader != leader) {
            self.notify();
        }
    }

    pub(crate) fn contact(&self) -> Option<Contact> {
        *self.contact.lock()
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn set_term(&self, term: u64) {
        if self.term.fetch_max(term, Ordering::Relaxed) < term {
            self.notify();
        }
    }

    /// Sets a flag; tells whoever waits if that changed it.
    pub(crate) fn set(&self, flag: &AtomicBool, value: bool) -> bool {
        let changed = flag.swap(value, Ordering::AcqRel) != value;
        if changed {
            self.notify();
        }
        changed
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn changed(&self) -> tokio::sync::futures::OwnedNotified {
        self.changed.clone().notified_owned()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

impl MembershipRow {
    /// The membership as clients see it.
    pub fn members(&self) -> Members {
        members(self)
    }
}

/// The membership as clients see it.
pub(crate) fn members(row: &MembershipRow) -> Members {
    let voters: Vec<_> = row.stored.voter_ids().collect();
    let members = row.stored.nodes().map(|(id, node)| {
        let voter = voters.contains(id);
        let joining = node.joining && !voter;
        Member { id: *id, peer_urls: node.peer_urls.clone(), is_learner: !voter && !joining, joining }
    });
    Members { members: members.collect() }
}
