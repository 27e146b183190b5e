//! What happened, in order.
//!
//! Key: `revision u64 | sub u32`, big endian.
//! Value: `format u8 | flags u8 | revision - previous revision varint | previous sub varint | key`, where the two
//! numbers are there only if the key existed before. The values themselves stand in `latest` or `hist`.

use super::{Fields, malformed, put_varint};
use crate::engine::EngineError;
use crate::types::{EventKind, Revision};

const FORMAT: u8 = 1;
const DELETE: u8 = 1;
const HAD_PREVIOUS: u8 = 2;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRow<'a> {
    pub(crate) kind: EventKind,
    /// Revision and sub of the version the change replaced; `None` for the creation of the key.
    pub(crate) previous: Option<(Revision, u32)>,
    pub(crate) key: &'a [u8],
}

/// The `log` key of a change; with sub 0 also the place where a revision starts.
pub(crate) fn log_key(revision: Revision, sub: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&(revision.max(0) as u64).to_be_bytes());
    key[8..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// Parses a `log` key.
pub(crate) fn parse_log_key(bytes: &[u8]) -> Result<(Revision, u32), EngineError> {
    let parse = || {
        let (revision, sub) = bytes.split_at_checked(8)?;
        let revision = u64::from_be_bytes(revision.try_into().ok()?);
        Some((Revision::try_from(revision).ok()?, u32::from_be_bytes(sub.try_into().ok()?)))
    };
    parse().ok_or_else(|| malformed("key of log", bytes))
}

/// Appends the `log` value of a change made in `revision`.
pub(crate) fn log_value(row: &LogRow<'_>, revision: Revision, out: &mut Vec<u8>) {
    out.push(FORMAT);
    let delete = if row.kind == EventKind::Delete { DELETE } else { 0 };
    match row.previous {
        Some((modified, sub)) => {
            out.push(delete | HAD_PREVIOUS);
            put_varint((revision - modified) as u64, out);
            put_varint(u64::from(sub), out);
        }
        None => out.push(delete),
    }
    out.extend_from_slice(row.key);
}

/// Parses the `log` value of a change made in `revision`.
pub(crate) fn parse_log_value(revision: Revision, bytes: &[u8]) -> Result<LogRow<'_>, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let flags = fields.byte().filter(|flags| flags & !(DELETE | HAD_PREVIOUS) == 0)?;
        let previous = if flags & HAD_PREVIOUS != 0 {
            let modified = revision.checked_sub(fields.positive()?)?;
            Some((modified, u32::try_from(fields.varint()?).ok()?))
        } else {
            None
        };
        let kind = if flags & DELETE != 0 { EventKind::Delete } else { EventKind::Put };
        Some(LogRow { kind, previous, key: fields.rest() })
    };
    parse().ok_or_else(|| malformed("row of log", bytes))
}
