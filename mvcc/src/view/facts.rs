//! Leases, alarms and other facts that are not keys.

use bytes::Bytes;

use super::ReadView;
use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family, KvEngine};
use crate::layout::{
    USER_PREFIX, attachment_prefix, lease_key, lease_prefix, parse_attachment_key, parse_lease_key,
    parse_lease_value, prefix_end, user_key,
};
use crate::types::{Alarm, Lease, LeaseId, ReadError};

impl<E: KvEngine> ReadView<E> {
    /// A lease.
    ///
    /// # Errors
    /// The engine.
    pub fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ReadError> {
        Ok(read_lease(&self.snapshot, id)?)
    }

    /// All leases, ordered by id.
    ///
    /// # Errors
    /// The engine.
    pub fn leases(&self) -> Result<Vec<Lease>, ReadError> {
        let mut leases = Vec::new();
        each(&self.snapshot, Family::Lease, &lease_prefix(), |key, value| {
            leases.push(parse_lease_value(parse_lease_key(key)?, value)?);
            Ok(())
        })?;
        Ok(leases)
    }

    /// The keys attached to a lease, in order.
    ///
    /// # Errors
    /// The engine.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ReadError> {
        Ok(attached_keys(&self.snapshot, id)?)
    }

    /// All raised alarms, sorted.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.state.alarms.to_vec()
    }

    /// Whether this alarm is raised.
    pub fn has_alarm(&self, alarm: Alarm) -> bool {
        self.state.alarms.contains(&alarm)
    }

    /// A replicated fact of a layer above.
    ///
    /// # Errors
    /// The engine.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.snapshot.get(Family::Meta, &user_key(key), Bytes::copy_from_slice)?)
    }

    /// All replicated facts of layers above, ordered by key.
    ///
    /// # Errors
    /// The engine.
    pub fn meta_all(&self) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let mut rows = Vec::new();
        each(&self.snapshot, Family::Meta, USER_PREFIX, |key, value| {
            rows.push((Bytes::copy_from_slice(&key[USER_PREFIX.len()..]), Bytes::copy_from_slice(value)));
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Reads one lease.
pub(crate) fn read_lease<S: EngineSnapshot>(snapshot: &S, id: LeaseId) -> Result<Option<Lease>, EngineError> {
    snapshot.get(Family::Lease, &lease_key(id), |bytes| parse_lease_value(id, bytes))?.transpose()
}

/// Reads the keys attached to a lease, in order.
pub(crate) fn attached_keys<S: EngineSnapshot>(snapshot: &S, id: LeaseId) -> Result<Vec<Bytes>, EngineError> {
    let mut keys = Vec::new();
    each(snapshot, Family::Lease, &attachment_prefix(id), |key, _| {
        keys.push(Bytes::copy_from_slice(parse_attachment_key(key)?));
        Ok(())
    })?;
    Ok(keys)
}

pub(crate) fn each<S: EngineSnapshot>(
    snapshot: &S,
    family: Family,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let end = prefix_end(prefix);
    let mut cursor = snapshot.cursor(family, CursorOptions { upper: end.as_deref(), bulk: false });
    cursor.seek(prefix);
    while let Some((key, value)) = cursor.item() {
        visit(key, value)?;
        cursor.next();
    }
    cursor.check()
}
