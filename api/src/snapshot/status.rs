//! What a snapshot file holds, in the figures `etcdutl snapshot status` gives.
//!
//! Owns: [`Status`]. Called by: the command line. Invariant: every row is read, so a damaged file gives an error.
//! Source: etcd `etcdutl/snapshot/v3_snapshot.go` (`Status`).

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use keelson_mvcc::types::Revision;
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use super::database::Database;
use super::rows::{ImportError, RowKey, malformed};

/// The figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names of the buckets and all rows.
    pub hash: u32,
    /// Of the last change.
    pub revision: Revision,
    /// Keys alive.
    pub total_key: u64,
    /// Bytes of the pages in use.
    pub total_size: u64,
    /// Of the storage; empty where the file says none, as before 3.6.
    pub version: String,
}

/// Reads everything.
///
/// # Errors
/// A damaged file, or rows no etcd writes.
pub fn status(database: &Database) -> Result<Status, ImportError> {
    let mut hash = 0;
    let mut revision = 0;
    let mut version = String::new();
    // Two hashes of a key stand for it: 16 bytes instead of the key.
    let hashers = (RandomState::new(), RandomState::new());
    let mut alive = HashSet::new();
    for bucket in database.buckets()? {
        hash = crc32c::crc32c_append(hash, bucket.name());
        let (is_key, is_meta) = (bucket.name() == b"key", bucket.name() == b"meta");
        database.each(&bucket, |key, value| {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
            if is_meta && key == b"storageVersion" {
                version = String::from_utf8_lossy(value).into_owned();
            }
            if is_key {
                let place = RowKey::parse(key).ok_or_else(|| malformed("key", key))?;
                let row = KeyValue::decode(value).map_err(|_| malformed("key", key))?;
                let name = (hashers.0.hash_one(&row.key), hashers.1.hash_one(&row.key));
                revision = place.main;
                if place.tombstone {
                    alive.remove(&name)
                } else {
                    alive.insert(name)
                };
            }
            Ok::<_, ImportError>(())
        })?;
    }
    Ok(Status { hash, revision, total_key: alive.len() as u64, total_size: database.bytes(), version })
}
