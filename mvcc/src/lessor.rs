//! The timing of leases, kept in the leader's memory.
//!
//! Owns: when each lease would expire. Whether a lease exists is decided by the replicated state; this is only the
//! clock beside it. Called by: the lease manager in `api`.
//! Invariants: a lease is never reported expired before its time to live has passed since the last grant, renewal
//! or promotion; while demoted nothing expires; time is monotonic and handed in as the duration since some start; a
//! lease whose remaining time is written down is not renewed before that has been taken back, or the next leader
//! would end it early.
//! Source: etcd `server/lease/lessor.go` for behaviour (promotion extends every lease, expiry is a proposal).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::types::{Lease, LeaseId};

/// A change of the set of leases, as applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A new lease, perhaps under an id that an earlier one had.
    Granted {
        /// Its name.
        id: LeaseId,
        /// Time to live in seconds.
        ttl_s: i64,
    },
    /// The lease is gone, and its keys with it.
    Revoked {
        /// Its name.
        id: LeaseId,
    },
}

/// Expiry of one lease.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ttl: Duration,
    expires_at: Duration,
    /// A revoke by expiry was handed out and is not yet applied; keep-alives are refused until then.
    revoking: bool,
    /// The last grant, renewal or checkpoint.
    noted_at: Duration,
    /// The replicated state has, or may come to have, a remaining time that is less than a renewal gives.
    checkpointed: bool,
}

/// Expiry times of all leases, active only while this member leads.
#[derive(Debug, Default)]
pub struct Lessor {
    leading: bool,
    leases: BTreeMap<LeaseId, Entry>,
    /// The same leases ordered by expiry; those with `revoking` are not in it.
    by_expiry: BTreeSet<(Duration, LeaseId)>,
    /// The last lease looked at for a checkpoint; the next look goes on behind it.
    looked_at: Option<LeaseId>,
}

/// What a keep-alive found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for its whole time to live again, given in seconds.
    Renewed {
        /// Seconds.
        ttl_s: i64,
    },
    /// No such lease, or it has expired.
    NotFound,
    /// The lease has run out and its revocation is under way: wait for it, then report it as not found.
    Expiring,
    /// Its remaining time is written down: have that set back to 0 first, see [`Lessor::checkpoint_reset`].
    Checkpointed,
    /// This member does not lead.
    NotLeading,
}

impl Lessor {
    /// Starts timing: every lease gets its remaining time (or its whole time to live, where it was never
    /// checkpointed) plus `extension`, because this member cannot know of renewals its predecessor granted.
    pub fn promote(&mut self, now: Duration, leases: &[Lease], extension: Duration) {
        self.demote();
        self.leading = true;
        for lease in leases {
            let checkpointed = lease.remaining_s > 0;
            let remaining_s = if checkpointed { lease.remaining_s } else { lease.ttl_s };
            self.insert(now, lease.id, lease.ttl_s, now + seconds(remaining_s) + extension);
            if let Some(entry) = self.leases.get_mut(&lease.id) {
                entry.checkpointed = checkpointed;
            }
        }
    }

    /// Stops timing: another member may lead now.
    pub fn demote(&mut self) {
        self.leading = false;
        self.leases.clear();
        self.by_expiry.clear();
        self.looked_at = None;
    }

    /// True between [`Lessor::promote`] and [`Lessor::demote`].
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// A change was applied at `now`. Does nothing while demoted.
    pub fn applied(&mut self, now: Duration, change: LeaseChange) {
        match change {
            LeaseChange::Granted { id, ttl_s } => self.granted(now, id, ttl_s),
            LeaseChange::Revoked { id } => self.revoked(id),
        }
    }

    /// A grant was applied. Does nothing while demoted.
    pub fn granted(&mut self, now: Duration, id: LeaseId, ttl_s: i64) {
        if self.leading {
            self.insert(now, id, ttl_s, now + seconds(ttl_s));
        }
    }

    /// A revoke was applied, by whoever.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(entry) = self.leases.remove(&id) {
            self.by_expiry.remove(&(entry.expires_at, id));
        }
    }

    /// A keep-alive. The caller makes sure of a recent quorum acknowledgement before it answers the client.
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Renewal {
        if !self.leading {
            return Renewal::NotLeading;
        }
        let Some(entry) = self.leases.get_mut(&id) else { return Renewal::NotFound };
        if entry.revoking || entry.expires_at <= now {
            return Renewal::Expiring;
        }
        if entry.checkpointed {
            return Renewal::Checkpointed;
        }
        entry.noted_at = now;
        self.by_expiry.remove(&(entry.expires_at, id));
        entry.expires_at = now + entry.ttl;
        self.by_expiry.insert((entry.expires_at, id));
        Renewal::Renewed { ttl_s: entry.ttl.as_secs() as i64 }
    }

    /// Time left, zero if it has run out; `None` for an unknown lease or while demoted.
    pub fn remaining(&self, now: Duration, id: LeaseId) -> Option<Duration> {
        self.leases.get(&id).map(|entry| entry.expires_at.saturating_sub(now))
    }

    /// Leases that have run out, earliest first, at most `count_max`. Each is handed out once; call
    /// [`Lessor::retry`] when its revocation failed.
    pub fn expired(&mut self, now: Duration, count_max: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        while expired.len() < count_max {
            let Some(&(expires_at, id)) = self.by_expiry.first() else { break };
            if expires_at > now {
                break;
            }
            self.by_expiry.pop_first();
            self.leases.get_mut(&id).expect("every lease ordered by expiry is known").revoking = true;
            expired.push(id);
        }
        expired
    }

    /// The revocation of an expired lease did not come about: hand it out again.
    pub fn retry(&mut self, id: LeaseId) {
        if let Some(entry) = self.leases.get_mut(&id).filter(|entry| entry.revoking) {
            entry.revoking = false;
            self.by_expiry.insert((entry.expires_at, id));
        }
    }

    /// Leases to write down the remaining time of, in whole seconds, rounded up: those last granted, renewed or written
    /// down at least `interval` ago. Looks at `look_max` leases at most and goes on from there the next time. A renewal
    /// of one of them finds [`Renewal::Checkpointed`] from now on, whether or not the writing succeeds.
    pub fn checkpoints(&mut self, now: Duration, interval: Duration, look_max: usize) -> Vec<(LeaseId, i64)> {
        let from = self.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
        let mut due = Vec::new();
        let (mut last, mut looked) = (None, 0);
        for (id, entry) in self.leases.range_mut((from, Bound::Unbounded)).take(look_max) {
            (last, looked) = (Some(*id), looked + 1);
            let left = entry.expires_at.saturating_sub(now);
            if !entry.revoking && !left.is_zero() && now.saturating_sub(entry.noted_at) >= interval {
                entry.noted_at = now;
                entry.checkpointed = true;
                due.push((*id, left.as_millis().div_ceil(1000) as i64));
            }
        }
        // At the end it begins again.
        self.looked_at = last.filter(|_| looked == look_max);
        due
    }

    /// The remaining time in the replicated state is 0 again: a renewal may be granted.
    pub fn checkpoint_reset(&mut self, id: LeaseId) {
        if let Some(entry) = self.leases.get_mut(&id) {
            entry.checkpointed = false;
        }
    }

    /// When the next lease runs out, if any.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.by_expiry.first().map(|&(expires_at, _)| expires_at)
    }

    fn insert(&mut self, now: Duration, id: LeaseId, ttl_s: i64, expires_at: Duration) {
        self.revoked(id);
        let ttl = seconds(ttl_s);
        let entry = Entry { ttl, expires_at, revoking: false, noted_at: now, checkpointed: false };
        self.leases.insert(id, entry);
        self.by_expiry.insert((expires_at, id));
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn at(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn lease(id: LeaseId, ttl_s: i64, remaining_s: i64) -> Lease {
        Lease { id, ttl_s, remaining_s }
    }

    #[test]
    fn nothing_expires_early_or_twice() {
        let mut lessor = Lessor::default();
        lessor.promote(ZERO, &[lease(1, 10, 0), lease(2, 5, 0)], at(1));
        assert_eq!(lessor.expired(at(5), 10), []);
        assert_eq!(lessor.expired(at(6), 10), [2]);
        assert_eq!(lessor.expired(at(20), 10), [1]);
        assert_eq!(lessor.expired(at(20), 10), []);
    }

    #[test]
    fn a_renewal_starts_the_whole_time_again() {
        let mut lessor = Lessor::default();
        lessor.promote(ZERO, &[], ZERO);
        lessor.granted(ZERO, 7, 10);
        assert_eq!(lessor.renew(at(9), 7), Renewal::Renewed { ttl_s: 10 });
        assert_eq!(lessor.expired(at(18), 10), []);
        assert_eq!(lessor.remaining(at(18), 7), Some(at(1)));
        assert_eq!(lessor.expired(at(19), 10), [7]);
    }

    #[test]
    fn an_expired_lease_is_never_renewed() {
        let mut lessor = Lessor::default();
        lessor.promote(ZERO, &[lease(1, 2, 0)], ZERO);
        assert_eq!(lessor.renew(at(2), 1), Renewal::Expiring);
        assert_eq!(lessor.expired(at(2), 1), [1]);
        assert_eq!(lessor.renew(at(2), 1), Renewal::Expiring);
        lessor.retry(1);
        assert_eq!(lessor.renew(at(2), 1), Renewal::Expiring);
        assert_eq!(lessor.expired(at(2), 1), [1]);
        lessor.revoked(1);
        assert_eq!(lessor.renew(at(2), 1), Renewal::NotFound);
    }

    #[test]
    fn a_checkpointed_lease_resumes_where_it_was() {
        let mut lessor = Lessor::default();
        lessor.promote(at(100), &[lease(1, 3600, 20)], at(1));
        assert_eq!(lessor.remaining(at(100), 1), Some(at(21)));
        assert_eq!(lessor.renew(at(101), 1), Renewal::Checkpointed);
        lessor.checkpoint_reset(1);
        assert_eq!(lessor.renew(at(101), 1), Renewal::Renewed { ttl_s: 3600 });
    }

    #[test]
    fn what_was_not_renewed_for_long_is_written_down() {
        let mut lessor = Lessor::default();
        lessor.promote(ZERO, &[lease(1, 1000, 0), lease(2, 1000, 0), lease(3, 200, 0)], ZERO);
        assert_eq!(lessor.checkpoints(at(299), at(300), 10), []);
        lessor.renew(at(299), 2);
        let later = Duration::from_millis(300_500);
        assert_eq!(
            lessor.checkpoints(later, at(300), 10),
            [(1, 700)],
            "rounded up; 2 was renewed, 3 is over"
        );
        assert_eq!(lessor.checkpoints(at(400), at(300), 10), [], "once per interval");
        assert_eq!(lessor.renew(at(400), 1), Renewal::Checkpointed);
        lessor.checkpoint_reset(1);
        assert_eq!(lessor.renew(at(400), 1), Renewal::Renewed { ttl_s: 1000 });
        lessor.demote();
        assert_eq!(lessor.checkpoints(at(9000), at(300), 10), []);
    }

    #[test]
    fn each_look_for_checkpoints_goes_on_where_the_last_ended() {
        let mut lessor = Lessor::default();
        let leases: Vec<_> = (1..=5).map(|id| lease(id, 1000, 0)).collect();
        lessor.promote(ZERO, &leases, ZERO);
        let mut looks = (0..4).map(|_| lessor.checkpoints(at(600), at(300), 2));
        let ids = |due: Vec<(LeaseId, i64)>| due.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(looks.next().map(ids), Some(vec![1, 2]));
        assert_eq!(looks.next().map(ids), Some(vec![3, 4]));
        assert_eq!(looks.next().map(ids), Some(vec![5]));
        assert_eq!(looks.next().map(ids), Some(vec![]), "from the first one again, which is not due");
    }

    #[test]
    fn a_follower_times_nothing() {
        let mut lessor = Lessor::default();
        lessor.granted(ZERO, 1, 1);
        assert_eq!(lessor.expired(at(100), 10), []);
        assert_eq!(lessor.renew(ZERO, 1), Renewal::NotLeading);
        lessor.promote(ZERO, &[lease(1, 1, 0)], ZERO);
        lessor.demote();
        assert_eq!(lessor.expired(at(100), 10), []);
    }

    #[test]
    fn the_earliest_go_first_within_the_bound() {
        let mut lessor = Lessor::default();
        let leases: Vec<_> = (1..=10).map(|id| lease(id, 11 - id, 0)).collect();
        lessor.promote(ZERO, &leases, ZERO);
        assert_eq!(lessor.expired(at(100), 3), [10, 9, 8]);
        assert_eq!(lessor.next_expiry(), Some(at(4)));
    }
}
