//! Leases as replicated facts: existence, time to live, attached keys. Their timing is [`crate::lessor`]'s.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Fail, Group};
use crate::engine::{EngineBatch, EngineError, Family, KvEngine};
use crate::layout::{lease_key, lease_value};
use crate::lessor::LeaseChange;
use crate::types::{ApplyError, Lease, LeaseId, LogPosition, Outcome};
use crate::view::{attached_keys, read_lease};

impl<E: KvEngine> Group<'_, E> {
    /// The lease as of now, if it exists.
    pub(super) fn lease(&self, id: LeaseId) -> Result<Option<Lease>, EngineError> {
        match self.leases.get(&id) {
            Some(lease) => Ok(*lease),
            None => read_lease(&self.base.snapshot, id),
        }
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl_s: i64) -> Result<Outcome, Fail> {
        if self.lease(id)?.is_some() {
            return Err(ApplyError::LeaseExists(id).into());
        }
        self.set_lease(Lease { id, ttl_s, remaining_s: 0 });
        self.lease_changes.push(LeaseChange::Granted { id, ttl_s });
        Ok(Outcome::LeaseGrant { id, ttl_s })
    }

    /// Deletes the attached keys, in order, in one revision, and the lease with them.
    pub(super) fn revoke(
        &mut self,
        id: LeaseId,
        term: Option<u64>,
        position: LogPosition,
    ) -> Result<Outcome, Fail> {
        // Decided by a leader that has been replaced since: its clock counts no more, and the new leader has just
        // given the lease its whole time again.
        if term.is_some_and(|term| term != position.term) {
            return Ok(Outcome::LeaseRevoke);
        }
        if self.lease(id)?.is_none() {
            return Err(ApplyError::LeaseNotFound(id).into());
        }
        let keys = self.attached(id)?;
        self.in_revision(|group, pending| {
            for key in keys {
                let old = group.newest(&key)?;
                let old =
                    old.filter(|row| row.lease == id).expect("an attached key exists and names its lease");
                group.delete(pending, key, old);
            }
            Ok(())
        })?;
        self.leases.insert(id, None);
        self.lease_changes.push(LeaseChange::Revoked { id });
        self.batch.delete(Family::Lease, &lease_key(id));
        self.state.digest.signed(id);
        Ok(Outcome::LeaseRevoke)
    }

    pub(super) fn checkpoint(
        &mut self,
        remaining: &[(LeaseId, i64)],
        term: Option<u64>,
        position: LogPosition,
    ) -> Result<Outcome, Fail> {
        if term.is_some_and(|term| term != position.term) {
            return Ok(Outcome::LeaseCheckpoint);
        }
        for &(id, remaining_s) in remaining {
            if let Some(lease) = self.lease(id)? {
                self.set_lease(Lease { remaining_s, ..lease });
            }
        }
        Ok(Outcome::LeaseCheckpoint)
    }

    /// A key moved from one lease to another; 0 is no lease.
    pub(super) fn move_attachment(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        let mut set = |id: LeaseId, attached: bool| {
            if id == 0 {
                return;
            }
            self.attachments.insert((id, key.clone()), attached);
            let row = crate::layout::attachment_key(id, key);
            match attached {
                true => self.batch.put(Family::Lease, &row, &[]),
                false => self.batch.delete(Family::Lease, &row),
            }
        };
        set(from, false);
        set(to, true);
    }

    pub(super) fn attached(&self, id: LeaseId) -> Result<BTreeSet<Bytes>, EngineError> {
        let mut keys: BTreeSet<Bytes> = attached_keys(&self.base.snapshot, id)?.into_iter().collect();
        let group = (id, Bytes::new())..;
        for ((_, key), attached) in self.attachments.range(group).take_while(|((lease, _), _)| *lease == id) {
            match attached {
                true => keys.insert(key.clone()),
                false => keys.remove(key),
            };
        }
        Ok(keys)
    }

    fn set_lease(&mut self, lease: Lease) {
        self.leases.insert(lease.id, Some(lease));
        self.scratch.value.clear();
        lease_value(&lease, &mut self.scratch.value);
        self.batch.put(Family::Lease, &lease_key(lease.id), &self.scratch.value);
        self.state.digest.signed(lease.id);
        self.state.digest.signed(lease.ttl_s);
        self.state.digest.signed(lease.remaining_s);
    }
}
