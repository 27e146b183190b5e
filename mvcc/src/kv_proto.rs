//! The protobuf bytes of a key-value, as etcd writes them.
//!
//! Owns: one message, `mvccpb.KeyValue`, and only its encoding; everything else of protobuf lives in `api`. Needed
//! here because etcd's HashKV is defined over these bytes. Source: `api/mvccpb/kv.proto` (field numbers) and the
//! proto3 rule that zero values are left out.

use crate::layout::put_varint;
use crate::types::{KeyValue, LeaseId, Revision};

const KEY: u8 = 1 << 3 | 2;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = 5 << 3 | 2;
const LEASE: u8 = 6 << 3;

/// A key-value that is borrowed from where it is stored.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "as in `KeyValue`")]
pub struct KeyValueRef<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
    pub lease: LeaseId,
}

impl KeyValueRef<'_> {
    /// Appends the encoded message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let numbers = [self.create_revision, self.mod_revision, self.version, self.lease];
        encode_parts(self.key, self.value, numbers, out);
    }

    /// Size of the encoded message in bytes.
    pub fn encoded_len(&self) -> usize {
        let bytes = |bytes: &[u8]| {
            if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
        };
        let number = |number: i64| if number == 0 { 0 } else { 1 + varint_len(number as u64) };
        bytes(self.key)
            + bytes(self.value)
            + number(self.create_revision)
            + number(self.mod_revision)
            + number(self.version)
            + number(self.lease)
    }
}

impl<'a> From<&'a KeyValue> for KeyValueRef<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        let (create_revision, mod_revision, version) = (*create_revision, *mod_revision, *version);
        KeyValueRef { key, value, create_revision, mod_revision, version, lease: *lease }
    }
}

/// Appends the encoded message.
pub fn encode_key_value(kv: &KeyValue, out: &mut Vec<u8>) {
    KeyValueRef::from(kv).encode(out);
}

/// Size of the encoded message in bytes.
pub fn key_value_len(kv: &KeyValue) -> usize {
    KeyValueRef::from(kv).encoded_len()
}

/// `numbers`: create revision, mod revision, version, lease.
pub(crate) fn encode_parts(key: &[u8], value: &[u8], numbers: [i64; 4], out: &mut Vec<u8>) {
    put_bytes(KEY, key, out);
    put_number(CREATE_REVISION, numbers[0], out);
    put_number(MOD_REVISION, numbers[1], out);
    put_number(VERSION, numbers[2], out);
    put_bytes(VALUE, value, out);
    put_number(LEASE, numbers[3], out);
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        out.push(tag);
        put_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn put_number(tag: u8, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(tag);
        put_varint(number as u64, out);
    }
}

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn bytes_are_those_of_proto3() {
        let kv = KeyValue {
            key: Bytes::from_static(b"a"),
            value: Bytes::from_static(b"xyz"),
            create_revision: 2,
            mod_revision: 300,
            version: 1,
            lease: -1,
        };
        let mut out = Vec::new();
        encode_key_value(&kv, &mut out);
        let mut expected = vec![10, 1, b'a', 16, 2, 24, 0xac, 2, 32, 1, 42, 3, b'x', b'y', b'z', 48];
        expected.extend([0xff; 9]);
        expected.push(1);
        assert_eq!(out, expected);
        assert_eq!(key_value_len(&kv), out.len());
        let mut out = Vec::new();
        encode_key_value(&KeyValue { key: Bytes::from_static(b"k"), ..KeyValue::default() }, &mut out);
        assert_eq!(out, [10, 1, b'k']);
    }
}
