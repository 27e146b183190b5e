//! The rows of etcd's database as this store understands them: keys of changes, and the small buckets.
//!
//! Owns: decoding, with what may be missing in files of older versions. Called by: `snapshot::import` and
//! `snapshot::status`. Invariants: decoding is total: a row no etcd writes is an error that shows it; unknown buckets are left
//! alone, as etcd itself does.
//! Source: etcd 3.4 to 3.7 `server/storage/schema`, `server/storage/mvcc/revision.go`.

use std::path::PathBuf;

use keelson_mvcc::auth::Permission;
use keelson_mvcc::types::{Alarm, AlarmKind, KeyRange, Lease, Revision};
use keelson_mvcc::{RowError, StoreError};
use keelson_proto::{authpb, etcdserverpb::AlarmMember};
use prost::Message;

use super::contents::LeaseRow;
use super::database::{Database, DatabaseError};
use super::replay::ReplayError;

/// Why a database is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row.
    #[error("{bucket}: the row {row} is none that etcd writes")]
    Malformed {
        /// Its bucket.
        bucket: &'static str,
        /// Its key, in hexadecimal digits.
        row: String,
    },
    /// It is no etcd's.
    #[error("{path} is a database, but not etcd's: it has no bucket {missing:?}")]
    NotEtcd {
        /// The file.
        path: PathBuf,
        /// What every etcd makes.
        missing: &'static str,
    },
    /// It comes from a version this build does not know.
    #[error("{path} was written by storage version {version}; this build knows 3.4 to 3.7")]
    Version {
        /// The file.
        path: PathBuf,
        /// As it says.
        version: String,
    },
    /// There are not as many revisions.
    #[error("revision {revision} cannot be raised by {by}")]
    Bump {
        /// What the database holds.
        revision: Revision,
        /// What was asked for.
        by: u64,
    },
    /// A row that contradicts the ones before.
    #[error("key: a change contradicts those before it")]
    Row(#[from] RowError),
    /// An entry of the log beside it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// What is being made.
    #[error("write the new store")]
    Store(#[from] StoreError),
}

/// An error about a row.
pub(super) fn malformed(bucket: &'static str, key: &[u8]) -> ImportError {
    let row = key.iter().take(40).map(|byte| format!("{byte:02x}")).collect();
    ImportError::Malformed { bucket, row }
}

/// The key of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    pub(super) main: Revision,
    pub(super) sub: u32,
    pub(super) tombstone: bool,
}

impl RowKey {
    /// `main | '_' | sub`, big endian, and a `t` behind the key of a deletion.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (place, mark) = key.split_at_checked(17)?;
        let tombstone = match mark {
            [] => false,
            [b't'] => true,
            _ => return None,
        };
        let main = Revision::from_be_bytes(place[..8].try_into().ok()?);
        let sub = u32::try_from(u64::from_be_bytes(place[9..].try_into().ok()?)).ok()?;
        (place[8] == b'_' && main >= 0).then_some(RowKey { main, sub, tombstone })
    }
}

/// A user's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserRow {
    pub(super) name: String,
    pub(super) password: bytes::Bytes,
    pub(super) no_password: bool,
    pub(super) roles: Vec<String>,
}

/// Everything but the history.
#[derive(Clone, Debug, Default)]
pub(super) struct Small {
    /// What was compacted last, whether or not that has run to its end.
    pub(super) mark: Option<Revision>,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) storage_version: String,
    pub(super) cluster_version: String,
    pub(super) downgrade: bool,
    pub(super) leases: Vec<Lease>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) auth_enabled: Option<bool>,
    pub(super) auth_revision: u64,
    pub(super) users: Vec<UserRow>,
    pub(super) roles: Vec<(String, Vec<Permission>)>,
    pub(super) members: u64,
}

/// The index of etcd's log up to which a database holds everything.
pub(super) fn position(database: &Database) -> Result<u64, ImportError> {
    Ok(small(database)?.index)
}

/// Takes key and value of a row; `None` if they are malformed.
type TakeRow<'a> = dyn FnMut(&[u8], &[u8]) -> Option<()> + 'a;

/// Reads the small buckets.
pub(super) fn small(database: &Database) -> Result<Small, ImportError> {
    let mut small = Small::default();
    let (mut has_key, mut has_meta) = (false, false);
    for bucket in database.buckets()? {
        let rows = |bucket_name: &'static str, take: &mut TakeRow<'_>| {
            database.each(&bucket, |key, value| take(key, value).ok_or_else(|| malformed(bucket_name, key)))
        };
        match bucket.name() {
            b"key" => has_key = true,
            b"meta" => {
                has_meta = true;
                rows("meta", &mut |key, value| meta(&mut small, key, value))?;
            }
            b"cluster" => rows("cluster", &mut |key, value| cluster(&mut small, key, value))?,
            b"lease" => rows("lease", &mut |_, value| {
                small.leases.push(lease(value)?);
                Some(())
            })?,
            b"alarm" => rows("alarm", &mut |key, _| {
                small.alarms.extend(alarm(key)?);
                Some(())
            })?,
            b"auth" => rows("auth", &mut |key, value| {
                match key {
                    b"authEnabled" => small.auth_enabled = Some(value == [1]),
                    b"authRevision" => small.auth_revision = number(value)?,
                    _ => {}
                }
                Some(())
            })?,
            b"authUsers" => rows("authUsers", &mut |_, value| {
                small.users.push(user(value)?);
                Some(())
            })?,
            b"authRoles" => rows("authRoles", &mut |_, value| {
                small.roles.push(role(value)?);
                Some(())
            })?,
            b"members" => rows("members", &mut |_, _| {
                small.members += 1;
                Some(())
            })?,
            // Read all the same: damage there is damage of the file.
            _ => rows("another bucket", &mut |_, _| Some(()))?,
        }
    }
    for (there, missing) in [(has_key, "key"), (has_meta, "meta")] {
        if !there {
            return Err(ImportError::NotEtcd { path: database.path().to_owned(), missing });
        }
    }
    check_version(database, &small.storage_version)?;
    Ok(small)
}

/// A file without a version is from before 3.6.
fn check_version(database: &Database, version: &str) -> Result<(), ImportError> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (version, numbers.next(), numbers.next()) {
        ("", ..) => Ok(()),
        (_, Some(Ok(3)), Some(Ok(minor))) if minor <= 7 => Ok(()),
        _ => Err(ImportError::Version { path: database.path().to_owned(), version: version.to_owned() }),
    }
}

fn meta(small: &mut Small, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"consistent_index" => small.index = number(value)?,
        b"term" => small.term = number(value)?,
        b"finishedCompactRev" | b"scheduledCompactRev" => {
            small.mark = small.mark.max(Some(RowKey::parse(value)?.main));
        }
        b"storageVersion" => small.storage_version = String::from_utf8(value.to_vec()).ok()?,
        _ => {}
    }
    Some(())
}

fn cluster(small: &mut Small, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"clusterVersion" => small.cluster_version = String::from_utf8(value.to_vec()).ok()?,
        b"downgrade" => {
            let info: serde_json::Value = serde_json::from_slice(value).ok()?;
            small.downgrade = info["enabled"] == true;
        }
        _ => {}
    }
    Some(())
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

fn lease(value: &[u8]) -> Option<Lease> {
    let row = LeaseRow::decode(value).ok()?;
    Some(Lease { id: row.id, ttl_s: row.ttl, remaining_s: row.remaining_ttl })
}

/// `None` inside for an alarm of kind none.
fn alarm(key: &[u8]) -> Option<Option<Alarm>> {
    let row = AlarmMember::decode(key).ok()?;
    let kind = match row.alarm {
        0 => return Some(None),
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return None,
    };
    Some(Some(Alarm { member: row.member_id, kind }))
}

fn name(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|name| !name.is_empty())
}

fn user(value: &[u8]) -> Option<UserRow> {
    let row = authpb::User::decode(value).ok()?;
    let no_password = row.options.is_some_and(|options| options.no_password);
    Some(UserRow { name: name(&row.name)?, password: row.password, no_password, roles: row.roles })
}

fn role(value: &[u8]) -> Option<(String, Vec<Permission>)> {
    let row = authpb::Role::decode(value).ok()?;
    let permissions = row.key_permission.into_iter().map(|permission| Permission {
        kind: permission.perm_type,
        range: KeyRange { key: permission.key, end: permission.range_end },
    });
    Some((name(&row.name)?, permissions.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_changes_are_those_the_writer_makes() {
        let mut key = Vec::new();
        keelson_mvcc::file_key(7, 3, &mut key);
        assert_eq!(RowKey::parse(&key), Some(RowKey { main: 7, sub: 3, tombstone: false }));
        key.push(b't');
        assert_eq!(RowKey::parse(&key), Some(RowKey { main: 7, sub: 3, tombstone: true }));
        key.push(b't');
        assert_eq!(RowKey::parse(&key), None);
        assert_eq!(RowKey::parse(&[0; 17]), None, "no underscore");
        assert_eq!(RowKey::parse(&[0xff; 17]), None, "no revision is that large");
        assert_eq!(RowKey::parse(b""), None);
    }
}
