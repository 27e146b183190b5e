//! Takes an etcd database over: every revision it holds, leases, users, roles, alarms.
//!
//! Owns: the order of steps, and what was found on the way. Called by: the command line (`snapshot import`, `snapshot
//! restore`). Invariants: rows are read once, in order, in bounded memory; what cannot be taken over is counted and told, or
//! refused, never dropped in silence.
//! Source: etcd `server/storage/mvcc/kvstore.go` (`restore`), `etcdutl/snapshot/v3_snapshot.go` (bumping the revision).

use keelson_mvcc::types::{LogPosition, Revision};
use keelson_mvcc::{Import, ImportedPut, ImportedRow, KvEngine, Store, StoreOptions};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use super::database::{Bucket, Database};
use super::etcd_log::EtcdEntry;
use super::replay::replay;
use super::rows::{ImportError, RowKey, Small, malformed, small};

/// How much of a history a restored store pretends to have had since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump {
    /// Revisions that are skipped.
    pub revisions: u64,
    /// Everything up to there is compacted, so that no watcher goes on as if nothing had happened.
    pub mark_compacted: bool,
}

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of the last change.
    pub revision: Revision,
    /// What was compacted last, -1 for nothing.
    pub compacted: Revision,
    /// Position in etcd's log up to which it holds everything.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// As the file says; empty before 3.6.
    pub storage_version: String,
    /// As the members had agreed on; empty if the file says none.
    pub cluster_version: String,
    /// A downgrade was under way.
    pub downgrade: bool,
    /// Members of the cluster it is from.
    pub members: u64,
    /// Leases granted.
    pub leases: u64,
    /// Users and roles.
    pub users: u64,
    /// See there.
    pub roles: u64,
    /// Whether requests need a user.
    pub auth_enabled: bool,
    /// Alarms raised.
    pub alarms: u64,
}

/// What was made of it.
pub struct Imported<E: KvEngine> {
    /// The store, durable, without a membership.
    pub store: Store<E>,
    /// What was found.
    pub found: Found,
    /// Changes taken over, deletions included.
    pub changes: u64,
    /// Rows without a key, as `etcdutl` leaves one when it bumps a revision: nobody can read them, and a store that
    /// has none of them hashes otherwise.
    pub without_key: u64,
}

/// Looks at everything but the history.
///
/// # Errors
/// A damaged file, one of another program, or of an unknown version.
pub fn look(database: &Database) -> Result<Found, ImportError> {
    found(database, &small(database)?, &key_bucket(database)?)
}

/// Reads everything into an empty engine, and applies the entries of etcd's log behind it.
///
/// # Errors
/// As [`look`], a row that contradicts the ones before, or the engine. The engine is of no use then.
pub fn import<E: KvEngine>(
    database: &Database,
    engine: E,
    bump: Option<Bump>,
    tail: &[EtcdEntry],
    options: StoreOptions,
) -> Result<Imported<E>, ImportError> {
    let small = small(database)?;
    let bucket = key_bucket(database)?;
    let found = found(database, &small, &bucket)?;
    let revision = match bump {
        None => found.revision,
        Some(bump) => i64::try_from(bump.revisions)
            .ok()
            .and_then(|revisions| found.revision.checked_add(revisions))
            .filter(|revision| *revision < Revision::MAX)
            .ok_or(ImportError::Bump { revision: found.revision, by: bump.revisions })?,
    };
    let mark = if bump.is_some_and(|bump| bump.mark_compacted) { revision } else { found.compacted };
    let mut import = Import::new(engine, mark);
    small.leases.iter().for_each(|lease| import.lease(lease));
    small.alarms.iter().for_each(|alarm| import.alarm(alarm));
    import.auth(found.auth_enabled, small.auth_revision, small.auth_enabled.is_some());
    small.roles.into_iter().for_each(|(name, permissions)| import.role(&name, permissions));
    small
        .users
        .into_iter()
        .for_each(|user| import.user(&user.name, user.password, user.no_password, user.roles));
    let (mut changes, mut without_key) = (0, 0);
    database.each(&bucket, |key, value| {
        let place = RowKey::parse(key).ok_or_else(|| malformed("key", key))?;
        let row = KeyValue::decode(value).map_err(|_| malformed("key", key))?;
        if place.main == 0 {
            return Ok(());
        }
        if row.key.is_empty() {
            without_key += 1;
            return Ok(());
        }
        if !place.tombstone && row.mod_revision != place.main {
            return Err(malformed("key", key));
        }
        let put = (!place.tombstone).then_some(ImportedPut {
            value: &row.value,
            create: row.create_revision,
            version: row.version,
            lease: row.lease,
        });
        changes += 1;
        Ok(import.row(&ImportedRow { main: place.main, sub: place.sub, key: &row.key, put })?)
    })?;
    let applied = LogPosition { term: found.term.max(1), leader: 0, index: found.index.max(1) };
    let mut store = import.finish(applied, revision, options)?;
    replay(&mut store, tail)?;
    Ok(Imported { store, found, changes, without_key })
}

fn key_bucket(database: &Database) -> Result<Bucket, ImportError> {
    let bucket = database.buckets()?.into_iter().find(|bucket| bucket.name() == b"key");
    bucket.ok_or_else(|| ImportError::NotEtcd { path: database.path().to_owned(), missing: "key" })
}

fn found(database: &Database, small: &Small, bucket: &Bucket) -> Result<Found, ImportError> {
    let last = match database.last_key(bucket)? {
        None => 0,
        Some(key) => RowKey::parse(&key).ok_or_else(|| malformed("key", &key))?.main,
    };
    let mark = small.mark.unwrap_or(-1);
    Ok(Found {
        revision: last.max(mark).max(1),
        compacted: mark,
        index: small.index,
        term: small.term,
        storage_version: small.storage_version.clone(),
        cluster_version: small.cluster_version.clone(),
        downgrade: small.downgrade,
        members: small.members,
        leases: small.leases.len() as u64,
        users: small.users.len() as u64,
        roles: small.roles.len() as u64,
        auth_enabled: small.auth_enabled == Some(true),
        alarms: small.alarms.len() as u64,
    })
}
