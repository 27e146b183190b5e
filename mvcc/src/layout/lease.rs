//! Leases and the keys attached to them.
//!
//! Lease: key `'L' | id u64 with flipped sign`, value `format u8 | ttl_s signed | remaining_s signed`.
//! Attachment: key `'A' | id | key`, value empty. So the keys of a lease stand together and in order.

use super::{Fields, malformed, put_signed};
use crate::engine::EngineError;
use crate::types::{Lease, LeaseId};

const FORMAT: u8 = 1;
const LEASE: u8 = b'L';
const ATTACHMENT: u8 = b'A';

fn tagged(tag: u8, id: LeaseId) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&((id as u64) ^ (1 << 63)).to_be_bytes());
    key
}

/// What the keys of all leases start with.
pub(crate) const fn lease_prefix() -> [u8; 1] {
    [LEASE]
}

/// The key of a lease.
pub(crate) fn lease_key(id: LeaseId) -> [u8; 9] {
    tagged(LEASE, id)
}

/// Parses the key of a lease.
pub(crate) fn parse_lease_key(bytes: &[u8]) -> Result<LeaseId, EngineError> {
    let id = bytes.strip_prefix(&[LEASE]).and_then(|id| id.try_into().ok());
    let id: [u8; 8] = id.ok_or_else(|| malformed("key of a lease", bytes))?;
    Ok((u64::from_be_bytes(id) ^ (1 << 63)) as LeaseId)
}

/// The value of a lease.
pub(crate) fn lease_value(lease: &Lease, out: &mut Vec<u8>) {
    out.push(FORMAT);
    put_signed(lease.ttl_s, out);
    put_signed(lease.remaining_s, out);
}

/// Parses the value of a lease.
pub(crate) fn parse_lease_value(id: LeaseId, bytes: &[u8]) -> Result<Lease, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let lease = Lease { id, ttl_s: fields.signed()?, remaining_s: fields.signed()? };
        fields.rest().is_empty().then_some(lease)
    };
    parse().ok_or_else(|| malformed("lease", bytes))
}

/// What the attachments of a lease start with.
pub(crate) fn attachment_prefix(id: LeaseId) -> [u8; 9] {
    tagged(ATTACHMENT, id)
}

/// The row that says that `key` is attached to the lease.
pub(crate) fn attachment_key(id: LeaseId, key: &[u8]) -> Vec<u8> {
    [&attachment_prefix(id), key].concat()
}

/// The attached key.
pub(crate) fn parse_attachment_key(bytes: &[u8]) -> Result<&[u8], EngineError> {
    bytes.get(9..).filter(|_| bytes[0] == ATTACHMENT).ok_or_else(|| malformed("attachment", bytes))
}
