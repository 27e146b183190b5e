//! A version of a key, and its form in `latest`.
//!
//! `latest` value: `format u8 | create varint | mod - create varint | sub varint | version varint | lease signed | value`.

use bytes::Bytes;

use super::{Fields, malformed, put_signed, put_varint};
use crate::engine::EngineError;
use crate::types::{KeyValue, LeaseId, Revision};

const FORMAT: u8 = 1;

/// A version of a key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) create: Revision,
    pub(crate) modified: Revision,
    /// Position among the changes of revision `modified`.
    pub(crate) sub: u32,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: Bytes,
}

/// [`Row`] with a borrowed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRef<'a> {
    pub(crate) create: Revision,
    pub(crate) modified: Revision,
    pub(crate) sub: u32,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: &'a [u8],
}

impl Row {
    pub(crate) fn borrow(&self) -> RowRef<'_> {
        RowRef {
            create: self.create,
            modified: self.modified,
            sub: self.sub,
            version: self.version,
            lease: self.lease,
            value: &self.value,
        }
    }

    /// The row as clients see it.
    pub(crate) fn to_key_value(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            value: self.value.clone(),
            create_revision: self.create,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

impl RowRef<'_> {
    pub(crate) fn with_value(&self, value: Bytes) -> Row {
        Row {
            create: self.create,
            modified: self.modified,
            sub: self.sub,
            version: self.version,
            lease: self.lease,
            value,
        }
    }

    pub(crate) fn to_row(self) -> Row {
        self.with_value(Bytes::copy_from_slice(self.value))
    }
}

/// Appends the `latest` value of a row.
pub(crate) fn latest_value(row: &Row, out: &mut Vec<u8>) {
    debug_assert!(row.create <= row.modified);
    out.push(FORMAT);
    put_varint(row.create as u64, out);
    put_varint((row.modified - row.create) as u64, out);
    put_varint(u64::from(row.sub), out);
    put_varint(row.version as u64, out);
    put_signed(row.lease, out);
    out.extend_from_slice(&row.value);
}

/// Parses a `latest` value.
pub(crate) fn parse_latest(bytes: &[u8]) -> Result<RowRef<'_>, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let create = fields.positive()?;
        let modified = create.checked_add(fields.positive()?)?;
        let sub = u32::try_from(fields.varint()?).ok()?;
        let version = fields.positive()?;
        let lease = fields.signed()?;
        Some(RowRef { create, modified, sub, version, lease, value: fields.rest() })
    };
    parse().ok_or_else(|| malformed("row of latest", bytes))
}
