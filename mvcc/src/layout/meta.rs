//! Single facts. The first byte of the key tells the kind; retired tags stay reserved.
//!
//! `s` state row, `m` membership, `a | member u64 | kind u8` raised alarm (empty value), `u | key` replicated fact of
//! a layer above, `h`, `U | name` and `R | name` authentication (see `auth`), `l | name` fact of this member alone: left out of snapshots, hashes and digests.

use super::malformed;
use crate::engine::EngineError;
use crate::types::{Alarm, AlarmKind};

/// Applied position, revision, mark, digest: see [`crate::state`].
pub(crate) const STATE_KEY: &[u8] = b"s";
/// Membership with the position of its entry.
pub(crate) const MEMBERSHIP_KEY: &[u8] = b"m";
/// Raised alarms.
pub(crate) const ALARM_PREFIX: &[u8] = b"a";
/// Replicated facts this crate does not interpret.
pub(crate) const USER_PREFIX: &[u8] = b"u";
/// Facts of this member alone.
pub(crate) const LOCAL_PREFIX: &[u8] = b"l";

/// The key of a replicated fact.
pub(crate) fn user_key(key: &[u8]) -> Vec<u8> {
    [USER_PREFIX, key].concat()
}

/// The key of a local fact.
pub(crate) fn local_key(name: &[u8]) -> Vec<u8> {
    [LOCAL_PREFIX, name].concat()
}

/// True for rows that belong to this member alone.
pub(crate) fn is_local(key: &[u8]) -> bool {
    key.starts_with(LOCAL_PREFIX)
}

/// The key of a raised alarm.
pub(crate) fn alarm_key(alarm: &Alarm) -> [u8; 10] {
    let mut key = [ALARM_PREFIX[0]; 10];
    key[1..9].copy_from_slice(&alarm.member.to_be_bytes());
    key[9] = alarm.kind as u8;
    key
}

/// Parses the key of a raised alarm.
pub(crate) fn parse_alarm_key(bytes: &[u8]) -> Result<Alarm, EngineError> {
    let parse = || {
        let (member, kind) = bytes.strip_prefix(ALARM_PREFIX)?.split_at_checked(8)?;
        let kind = match kind {
            [1] => AlarmKind::NoSpace,
            [2] => AlarmKind::Corrupt,
            _ => return None,
        };
        Some(Alarm { member: u64::from_be_bytes(member.try_into().ok()?), kind })
    };
    parse().ok_or_else(|| malformed("alarm", bytes))
}
