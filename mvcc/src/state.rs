//! The few numbers that describe the whole store, written with every group.
//!
//! Owns: the state row of `meta`, and its parsed form. Called by: apply, open, snapshots.
//! Invariants: it is in the same engine batch as the rows it describes; `mark <= revision`; the revision never
//! decreases.
//!
//! Value: `format u8 | flags u8 | term | leader | index | revision | mark signed | digest u64`, numbers as varints.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::Auth;
use crate::digest::Digest;
use crate::engine::{CursorOptions, EngineBatch, EngineCursor, EngineSnapshot, Family};
use crate::error::StoreError;
use crate::layout::{
    ALARM_PREFIX, AUTH_KEY, Fields, MEMBERSHIP_KEY, ROLE_ROW_PREFIX, STATE_KEY, USER_ROW_PREFIX, malformed,
    parse_alarm_key, parse_auth, parse_name, parse_role_row, parse_user_row, prefix_end, put_signed,
    put_varint,
};
use crate::types::{Alarm, LogPosition, Revision};
use crate::view::each;

/// Version of the whole layout. An unknown one refuses to open.
pub(crate) const FORMAT: u8 = 1;

/// Entries whose index is a multiple of this leave their digest behind for comparison.
pub const DIGEST_STRIDE: u64 = 256;
/// Digests kept. At 100,000 entries a second members may be this many strides, a tenth of a second, apart.
const DIGESTS_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) applied: Option<LogPosition>,
    pub(crate) revision: Revision,
    /// Compaction mark, -1 before the first compaction.
    pub(crate) mark: Revision,
    pub(crate) digest: Digest,
    pub(crate) membership: Option<(LogPosition, Bytes)>,
    /// Raised alarms, sorted.
    pub(crate) alarms: Arc<[Alarm]>,
    /// Users, roles, permissions.
    pub(crate) auth: Arc<Auth>,
    /// Digests at recent positions, in memory only.
    pub(crate) digests: Arc<[(LogPosition, u64)]>,
}

impl Default for State {
    /// A fresh store.
    fn default() -> Self {
        State {
            applied: None,
            revision: 1,
            mark: -1,
            digest: Digest(0),
            membership: None,
            alarms: Arc::new([]),
            auth: Arc::default(),
            digests: Arc::new([]),
        }
    }
}

impl State {
    /// An entry was applied: the state now covers `position`.
    pub(crate) fn advance(&mut self, position: LogPosition) {
        self.applied = Some(position);
        if position.index.is_multiple_of(DIGEST_STRIDE) {
            let skipped = (self.digests.len() + 1).saturating_sub(DIGESTS_MAX);
            let kept = self.digests[skipped..].iter().copied();
            self.digests = kept.chain([(position, self.digest.0)]).collect();
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.push(self.applied.is_some() as u8);
        put_position(self.applied.unwrap_or_default(), out);
        put_varint(self.revision as u64, out);
        put_signed(self.mark, out);
        out.extend_from_slice(&self.digest.0.to_be_bytes());
    }

    /// Reads what a snapshot of the engine holds; a fresh state if it holds nothing.
    pub(crate) fn load<S: EngineSnapshot>(snapshot: &S) -> Result<Self, StoreError> {
        let mut state = match snapshot.get(Family::Meta, STATE_KEY, Self::decode)? {
            Some(state) => state?,
            None => return Ok(State::default()),
        };
        state.membership = match snapshot.get(Family::Meta, MEMBERSHIP_KEY, decode_membership)? {
            Some(membership) => Some(membership?),
            None => None,
        };
        let end = prefix_end(ALARM_PREFIX);
        let mut cursor = snapshot.cursor(Family::Meta, CursorOptions { upper: end.as_deref(), bulk: false });
        let mut alarms = Vec::new();
        cursor.seek(ALARM_PREFIX);
        while let Some((key, _)) = cursor.item() {
            alarms.push(parse_alarm_key(key)?);
            cursor.next();
        }
        cursor.check()?;
        alarms.sort();
        state.alarms = alarms.into();
        state.auth = Arc::new(load_auth(snapshot)?);
        Ok(state)
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        if let Some(&format) = bytes.first()
            && format != FORMAT
        {
            return Err(StoreError::UnknownFormat { found: u64::from(format), known: u64::from(FORMAT) });
        }
        let parse = || {
            let mut fields = Fields(bytes);
            fields.version(FORMAT)?;
            let has_applied = fields.byte()? != 0;
            let applied = get_position(&mut fields)?;
            let revision = fields.positive()?;
            let mark = fields.signed()?;
            let digest = u64::from_be_bytes(fields.take(8)?.try_into().ok()?);
            let valid = fields.rest().is_empty() && revision >= 1 && mark <= revision;
            valid.then_some(State {
                applied: has_applied.then_some(applied),
                revision,
                mark,
                digest: Digest(digest),
                ..State::default()
            })
        };
        Ok(parse().ok_or_else(|| malformed("state row", bytes))?)
    }

    /// Adds the rows of the state to a batch. Alarms are rows of their own, written when they change.
    pub(crate) fn write<B: EngineBatch>(&self, batch: &mut B, scratch: &mut Vec<u8>) {
        scratch.clear();
        self.encode(scratch);
        batch.put(Family::Meta, STATE_KEY, scratch);
    }

    /// Adds the membership row to a batch.
    pub(crate) fn write_membership<B: EngineBatch>(&self, batch: &mut B) {
        if let Some((position, bytes)) = &self.membership {
            let mut value = vec![FORMAT];
            put_position(*position, &mut value);
            value.extend_from_slice(bytes);
            batch.put(Family::Meta, MEMBERSHIP_KEY, &value);
        }
    }
}

pub(crate) fn put_position(position: LogPosition, out: &mut Vec<u8>) {
    put_varint(position.term, out);
    put_varint(position.leader, out);
    put_varint(position.index, out);
}

pub(crate) fn get_position(fields: &mut Fields<'_>) -> Option<LogPosition> {
    Some(LogPosition { term: fields.varint()?, leader: fields.varint()?, index: fields.varint()? })
}

fn load_auth<S: EngineSnapshot>(snapshot: &S) -> Result<Auth, StoreError> {
    let mut auth = match snapshot.get(Family::Meta, AUTH_KEY, parse_auth)? {
        Some(auth) => auth?,
        None => return Ok(Auth::default()),
    };
    each(snapshot, Family::Meta, ROLE_ROW_PREFIX, |key, value| {
        auth.set_role(parse_name(key)?, Some(parse_role_row(value)?));
        Ok(())
    })?;
    each(snapshot, Family::Meta, USER_ROW_PREFIX, |key, value| {
        auth.set_user(parse_name(key)?, Some(parse_user_row(value)?));
        Ok(())
    })?;
    Ok(auth)
}

fn decode_membership(bytes: &[u8]) -> Result<(LogPosition, Bytes), StoreError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let position = get_position(&mut fields)?;
        Some((position, Bytes::copy_from_slice(fields.rest())))
    };
    Ok(parse().ok_or_else(|| malformed("membership", bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KvEngine;
    use crate::engine::memory::MemoryEngine;

    #[test]
    fn a_format_of_a_newer_version_is_refused_and_named() {
        let engine = MemoryEngine::default();
        let mut batch = engine.batch();
        batch.put(Family::Meta, STATE_KEY, &[9, 1, 2]);
        engine.write(batch).unwrap();
        let error = State::load(&engine.snapshot()).unwrap_err();
        assert!(matches!(error, StoreError::UnknownFormat { found: 9, known: 1 }));
    }

    #[test]
    fn any_damage_to_the_state_row_is_an_error() {
        let mut state = State { revision: 300, mark: 200, digest: Digest(7), ..State::default() };
        state.advance(LogPosition { term: 3, leader: 2, index: 1000 });
        let mut row = Vec::new();
        state.encode(&mut row);
        let loaded = State::decode(&row).unwrap();
        assert_eq!((loaded.applied, loaded.revision, loaded.mark), (state.applied, 300, 200));
        for len in 0..row.len() {
            assert!(State::decode(&row[..len]).is_err());
        }
    }

    #[test]
    fn digests_are_kept_at_equal_positions_however_many_entries_pass() {
        let mut state = State::default();
        for index in 0..40_000 {
            state.digest.number(index);
            state.advance(LogPosition { term: 1, leader: 1, index });
        }
        assert_eq!(state.digests.len(), DIGESTS_MAX);
        assert!(state.digests.iter().all(|(position, _)| position.index % DIGEST_STRIDE == 0));
        assert_eq!(state.digests.last().unwrap().0.index, 39_936);
    }
}
