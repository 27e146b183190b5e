//! The lessor's clock, kept in line with this member's role and with the replicated state.
//!
//! Owns: [`Timing`]. Called by: [`super::LeaseManager`], under its lock. Invariants: the clock runs exactly while
//! this member leads, and starts anew with each term it leads; a lease that is in the clock but not in the state is
//! never renewed.

use std::{collections::BTreeSet, time::Duration};

use keelson_mvcc::{
    lessor::{Lessor, Renewal},
    types::{Lease, LeaseId, ReadError},
};

use keelson_raftstore::consensus::Status;

use crate::backend::ReadAccess;

/// A change of the set of leases, as applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LeaseChange {
    Granted { id: LeaseId, ttl_s: i64 },
    Revoked { id: LeaseId },
}

/// Leases that may be compared with the state in one round of the expiry loop; more are compared in fewer rounds.
const RECONCILED_PER_ROUND: usize = 5000;

pub(super) struct Timing {
    lessor: Lessor,
    /// The leases in the clock.
    known: BTreeSet<LeaseId>,
    /// The term this member leads, while it does.
    term: u64,
    /// What a new leader adds to each lease, for renewals its predecessor may have granted last.
    extension: Duration,
    /// Rounds until the next comparison with the state.
    rounds_to_skip: usize,
}

impl Timing {
    pub(super) fn new(extension: Duration) -> Self {
        Timing { lessor: Lessor::default(), known: BTreeSet::new(), term: 0, extension, rounds_to_skip: 0 }
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn follow_role(&mut self, now: Duration, status: &Status, reader: &dyn ReadAccess) {
        if !status.is_leader {
            if self.lessor.is_leading() {
                self.lessor.demote();
                self.known.clear();
            }
        } else if !self.lessor.is_leading() || self.term != status.term {
            // An unreadable engine is fatal elsewhere; here it only means that nothing expires.
            let Ok(leases) = reader.view().leases() else { return };
            self.lessor.promote(now, &leases, self.extension);
            self.known = leases.iter().map(|lease| lease.id).collect();
            self.term = status.term;
        }
    }

    pub(super) fn applied(&mut self, now: Duration, change: LeaseChange) {
        match change {
            LeaseChange::Granted { id, ttl_s } => self.granted(now, id, ttl_s),
            LeaseChange::Revoked { id } => self.revoked(id),
        }
    }

    /// Takes up leases that were granted, and drops those that were revoked, without a call to [`Timing::applied`].
    pub(super) fn reconcile(&mut self, now: Duration, reader: &dyn ReadAccess) {
        if !self.lessor.is_leading() {
            return;
        }
        if self.rounds_to_skip > 0 {
            self.rounds_to_skip -= 1;
            return;
        }
        let Ok(leases) = reader.view().leases() else { return };
        self.rounds_to_skip = leases.len() / RECONCILED_PER_ROUND;
        let mut gone = std::mem::take(&mut self.known);
        for lease in &leases {
            if gone.remove(&lease.id) {
                self.known.insert(lease.id);
            } else {
                self.granted(now, lease.id, lease.ttl_s);
            }
        }
        gone.into_iter().for_each(|id| self.lessor.revoked(id));
    }

    pub(super) fn expired(&mut self, now: Duration, count_max: usize) -> Vec<LeaseId> {
        self.lessor.expired(now, count_max)
    }

    pub(super) fn revocation_ended(&mut self, id: LeaseId, gone: bool) {
        if gone {
            self.revoked(id);
        } else {
            self.lessor.retry(id);
        }
    }

    /// A renewal, and whether the state knows the lease at all.
    pub(super) fn renew(
        &mut self,
        now: Duration,
        reader: &dyn ReadAccess,
        id: LeaseId,
    ) -> Result<(Renewal, bool), ReadError> {
        if !self.lessor.is_leading() {
            return Ok((Renewal::NotLeading, false));
        }
        let lease = reader.view().lease(id)?;
        Ok(match (self.lessor.renew(now, id), lease) {
            (Renewal::NotFound, Some(lease)) => {
                self.granted(now, id, lease.ttl_s);
                (Renewal::Renewed { ttl_s: lease.ttl_s }, true)
            }
            (Renewal::Renewed { .. } | Renewal::Expiring, None) => {
                self.revoked(id);
                (Renewal::NotFound, false)
            }
            (renewal, lease) => (renewal, lease.is_some()),
        })
    }

    pub(super) fn remaining(&self, now: Duration, id: LeaseId) -> Option<Duration> {
        self.lessor.remaining(now, id)
    }

    /// Time left of a lease the state knows; `None` while this member does not lead.
    pub(super) fn remaining_of(&mut self, now: Duration, lease: &Lease) -> Option<Duration> {
        if self.lessor.is_leading() && self.lessor.remaining(now, lease.id).is_none() {
            self.granted(now, lease.id, lease.ttl_s);
        }
        self.lessor.remaining(now, lease.id)
    }

    fn granted(&mut self, now: Duration, id: LeaseId, ttl_s: i64) {
        self.lessor.granted(now, id, ttl_s);
        if self.lessor.is_leading() {
            self.known.insert(id);
        }
    }

    fn revoked(&mut self, id: LeaseId) {
        self.lessor.revoked(id);
        self.known.remove(&id);
    }
}
