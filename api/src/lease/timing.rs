//! The lessor's clock, kept in line with this member's role and with the replicated state.
//!
//! Owns: [`Timing`]. Called by: [`super::LeaseManager`], under its lock. Invariants: the clock runs exactly while
//! this member leads, and starts anew with each term it leads; a lease that is in the clock but not in the state is
//! never renewed.

use std::time::Duration;

use keelson_mvcc::{
    lessor::{LeaseChange, Lessor, Renewal},
    types::{Lease, LeaseId, ReadError},
};

use keelson_raftstore::consensus::Status;

use crate::backend::ReadAccess;

pub(super) struct Timing {
    lessor: Lessor,
    /// The term this member leads, while it does.
    term: u64,
    /// What a new leader adds to each lease, for renewals its predecessor may have granted last.
    extension: Duration,
}

impl Timing {
    pub(super) fn new(extension: Duration) -> Self {
        Timing { lessor: Lessor::default(), term: 0, extension }
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// True if [`Timing::promote`] or [`Timing::demote`] is due.
    pub(super) fn is_outdated(&self, status: &Status) -> bool {
        status.is_leader != self.lessor.is_leading() || (status.is_leader && self.term != status.term)
    }

    pub(super) fn promote(&mut self, now: Duration, term: u64, leases: &[Lease]) {
        self.lessor.promote(now, leases, self.extension);
        self.term = term;
    }

    pub(super) fn demote(&mut self) {
        self.lessor.demote();
    }

    /// A change was applied at `now`.
    pub(super) fn applied(&mut self, now: Duration, change: LeaseChange) {
        self.lessor.applied(now, change);
    }

    /// As [`Lessor::checkpoints`].
    pub(super) fn checkpoints(
        &mut self,
        now: Duration,
        interval: Duration,
        look_max: usize,
    ) -> Vec<(LeaseId, i64)> {
        self.lessor.checkpoints(now, interval, look_max)
    }

    /// The remaining time of a lease was set back in `term`; of an earlier term it means nothing to this clock.
    pub(super) fn checkpoint_reset(&mut self, id: LeaseId, term: u64) {
        if self.term == term {
            self.lessor.checkpoint_reset(id);
        }
    }

    pub(super) fn expired(&mut self, now: Duration, count_max: usize) -> Vec<LeaseId> {
        self.lessor.expired(now, count_max)
    }

    /// A revocation came to its end. Where it succeeded, [`Timing::applied`] has taken the lease out; perhaps one was
    /// granted under the same id since. Otherwise it is decided anew.
    pub(super) fn revocation_ended(&mut self, id: LeaseId) {
        self.lessor.retry(id);
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
            // The state is ahead of what this clock was told, by moments.
            (Renewal::NotFound, Some(lease)) => {
                self.lessor.granted(now, id, lease.ttl_s);
                (Renewal::Renewed { ttl_s: lease.ttl_s }, true)
            }
            (Renewal::Renewed { .. } | Renewal::Expiring | Renewal::Checkpointed, None) => {
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
            self.lessor.granted(now, lease.id, lease.ttl_s);
        }
        self.lessor.remaining(now, lease.id)
    }
}
