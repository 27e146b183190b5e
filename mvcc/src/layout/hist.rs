//! Versions that were overwritten or deleted.
//!
//! Key: `escaped key | 00 01 | !mod u64 | !sub u32`, where a zero byte of the key is written `00 ff`. So versions of
//! one key stand together, newest first, and keys stand in their own order.
//! Value: `format u8 | superseded_by - mod varint | mod - create varint | version varint | lease signed | value`.
//!
//! A version answers a read at revision R exactly if `mod <= R < superseded_by`.

use super::{Fields, Row, RowRef, malformed, put_signed, put_varint};
use crate::engine::EngineError;
use crate::types::Revision;

const FORMAT: u8 = 1;
const SUFFIX_LEN: usize = 12;

/// The parts of a `hist` key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistKey<'a> {
    /// The key, still escaped, with its terminator.
    pub(crate) prefix: &'a [u8],
    pub(crate) modified: Revision,
    pub(crate) sub: u32,
}

impl HistKey<'_> {
    /// The key itself.
    pub(crate) fn key(&self) -> Result<Vec<u8>, EngineError> {
        unescape(self.prefix).ok_or_else(|| malformed("key of hist", self.prefix))
    }
}

/// Appends the escaped key with its terminator: what all versions of the key start with.
pub(crate) fn hist_key_prefix(key: &[u8], out: &mut Vec<u8>) {
    escape(key, out);
    out.extend_from_slice(&[0, 1]);
}

/// Appends the `hist` key of a version.
pub(crate) fn hist_key(key: &[u8], modified: Revision, sub: u32, out: &mut Vec<u8>) {
    hist_key_prefix(key, out);
    out.extend_from_slice(&(!(modified as u64)).to_be_bytes());
    out.extend_from_slice(&(!sub).to_be_bytes());
}

/// The place after every version of the key whose escaped form with terminator is `prefix`.
pub(crate) fn after_key(prefix: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&prefix[..prefix.len() - 1]);
    out.push(2);
}

/// Parses a `hist` key.
pub(crate) fn parse_hist_key(bytes: &[u8]) -> Result<HistKey<'_>, EngineError> {
    let split = bytes.len().checked_sub(SUFFIX_LEN).filter(|&at| at >= 2);
    let (prefix, suffix) = bytes.split_at(split.ok_or_else(|| malformed("key of hist", bytes))?);
    let (modified, sub) = suffix.split_at(8);
    let modified = !u64::from_be_bytes(modified.try_into().expect("split at 8"));
    let sub = !u32::from_be_bytes(sub.try_into().expect("the suffix has 12 bytes"));
    let modified = Revision::try_from(modified).map_err(|_| malformed("key of hist", bytes))?;
    Ok(HistKey { prefix, modified, sub })
}

/// Appends the `hist` value of `row`, which revision `superseded_by` overwrote or deleted.
pub(crate) fn hist_value(row: &Row, superseded_by: Revision, out: &mut Vec<u8>) {
    debug_assert!(superseded_by >= row.modified && row.modified >= row.create);
    out.push(FORMAT);
    put_varint((superseded_by - row.modified) as u64, out);
    put_varint((row.modified - row.create) as u64, out);
    put_varint(row.version as u64, out);
    put_signed(row.lease, out);
    out.extend_from_slice(&row.value);
}

/// Parses a `hist` value of the given key; gives the version and what superseded it.
pub(crate) fn parse_hist_value<'a>(
    key: &HistKey<'_>,
    bytes: &'a [u8],
) -> Result<(RowRef<'a>, Revision), EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let superseded_by = key.modified.checked_add(fields.positive()?)?;
        let create = key.modified.checked_sub(fields.positive()?).filter(|&create| create >= 0)?;
        let version = fields.positive()?;
        let lease = fields.signed()?;
        let row =
            RowRef { create, modified: key.modified, sub: key.sub, version, lease, value: fields.rest() };
        Some((row, superseded_by))
    };
    parse().ok_or_else(|| malformed("row of hist", bytes))
}

/// True for a row that no read at or after compaction mark `mark` can want: the engines' filter.
///
/// A version both written and superseded at the mark itself (one transaction touched the key twice) stays, because
/// a watch from the mark still sees it. A row that cannot be parsed stays too: damage is reported by readers, never
/// cleaned away.
pub(crate) fn hist_is_dead(key: &[u8], value: &[u8], mark: Revision) -> bool {
    let Ok(key) = parse_hist_key(key) else { return false };
    let mut fields = Fields(value);
    let Some(age) = fields.version(FORMAT).and_then(|()| fields.positive()) else { return false };
    key.modified < mark && key.modified.saturating_add(age) <= mark
}

fn escape(key: &[u8], out: &mut Vec<u8>) {
    out.reserve(key.len() + 2 + SUFFIX_LEN);
    let mut rest = key;
    while let Some(at) = rest.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&rest[..=at]);
        out.push(0xff);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn unescape(prefix: &[u8]) -> Option<Vec<u8>> {
    let body = prefix.strip_suffix(&[0, 1])?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
        key.push(byte);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, b'a', 0xfe, 0xff]), 1..6)
    }

    fn encode(key: &[u8], modified: Revision, sub: u32) -> Vec<u8> {
        let mut out = Vec::new();
        hist_key(key, modified, sub, &mut out);
        out
    }

    proptest! {
        #[test]
        fn keys_sort_by_key_then_newest_first(
            a in (key_bytes(), 1i64..5, 0u32..3), b in (key_bytes(), 1i64..5, 0u32..3)
        ) {
            let order = a.0.cmp(&b.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2));
            prop_assert_eq!(encode(&a.0, a.1, a.2).cmp(&encode(&b.0, b.1, b.2)), order);
        }

        #[test]
        fn keys_round_trip(key in key_bytes(), modified in 1i64..i64::MAX, sub in any::<u32>()) {
            let bytes = encode(&key, modified, sub);
            let parsed = parse_hist_key(&bytes).unwrap();
            prop_assert_eq!(parsed.key().unwrap(), key);
            prop_assert_eq!((parsed.modified, parsed.sub), (modified, sub));
        }

        #[test]
        fn after_key_lies_between_neighbours(key in key_bytes(), other in key_bytes()) {
            let (mut prefix, mut after) = (Vec::new(), Vec::new());
            hist_key_prefix(&key, &mut prefix);
            after_key(&prefix, &mut after);
            prop_assert!(encode(&key, 1, 0) < after);
            prop_assert!(other <= key || encode(&other, i64::MAX, u32::MAX) > after);
        }
    }
}
