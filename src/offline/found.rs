//! Fills an empty data folder from an etcd database: the store, the log behind it, the identity.
//!
//! Invariants: every member made from the same file with the same `--initial-cluster` and token has the same content, the same
//! cluster id and a member id of its own; the ids are others than those of the cluster the file is from, because the
//! file's digest is part of them: a member of the old one that comes back is a stranger.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keelson_api::members::{MemberAttributes, attributes_key};
use keelson_api::snapshot::database::Database;
use keelson_api::snapshot::etcd_log::EtcdEntry;
use keelson_api::snapshot::import::{self, Bump, Imported};
use keelson_mvcc::types::{Command, LogPosition};
use keelson_mvcc::{ApplyEntry, RocksEngine, RocksOptions, StoreOptions};
use keelson_raftstore::offline::{begin_log, first_membership};
use keelson_wal::{Identity as WalIdentity, Options as WalOptions, RealDisk};

use super::OfflineError;
use crate::config::EffectiveConfig;
use crate::server::identity::{Identity, cluster_id, first_members};

/// Where the content comes from.
pub struct Source<'s> {
    /// The database.
    pub database: &'s Database,
    /// The SHA-256 of it, and of the entries.
    pub digest: [u8; 32],
    /// Entries of etcd's log behind it.
    pub tail: &'s [EtcdEntry],
    /// How far the revision is raised.
    pub bump: Option<Bump>,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The folder.
    pub data_dir: PathBuf,
    /// The new cluster.
    pub cluster: u64,
    /// This member.
    pub member: u64,
    /// The name of this member.
    pub name: String,
    /// Of the store.
    pub revision: i64,
    /// Of the store; -1 for nothing.
    pub compacted: i64,
    /// Keys alive.
    pub keys: u64,
    /// Changes taken over.
    pub changes: u64,
    /// Rows that could not be: see `Imported`.
    pub without_key: u64,
}

/// Fills the folder.
///
/// # Errors
/// A folder that is not empty, a database that is damaged, or the disk. The folder is of no use then, and the store says so.
pub fn found(config: &EffectiveConfig, source: &Source<'_>) -> Result<Made, OfflineError> {
    let data_dir = &config.member.data_dir;
    let wal_dir = config.member.wal_dir.clone().unwrap_or_else(|| data_dir.join("wal"));
    for folder in [data_dir, &wal_dir] {
        check_empty(folder)?;
    }
    let mut config = config.clone();
    let digest: String = source.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    config.cluster.token = format!("{}/{digest}", config.cluster.token);
    let first = first_members(&config);
    let name = &config.member.name;
    let own = first.iter().find(|member| member.name == *name).ok_or_else(|| {
        OfflineError::new(format!("--initial-cluster does not name this member, {name:?}"), "set --name")
    })?;
    let (cluster, member) = (cluster_id(&first), own.id);
    crate::server::make_private(data_dir)?;

    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        OfflineError::new(
            format!("fill {}", data_dir.display()),
            format!("remove {} and try again once the cause is gone", data_dir.display()),
        )
        .caused_by(error)
    };
    let engine = RocksEngine::open(&data_dir.join("db"), RocksOptions::default())
        .map_err(|error| failed(Box::new(error)))?;
    // Nothing reads it twice.
    let options = StoreOptions { row_cache_bytes: 0 };
    let Imported { mut store, changes, without_key, .. } =
        import::import(source.database, engine, source.bump, source.tail, options)
            .map_err(|error| failed(Box::new(error)))?;
    let applied = store.applied().unwrap_or_default();
    let after = |steps| LogPosition { term: applied.term + 1, leader: 0, index: applied.index + steps };
    let urls: BTreeMap<u64, Vec<String>> =
        first.iter().map(|member| (member.id, member.peer_urls.clone())).collect();
    let names = first.iter().map(|member| {
        let attributes = MemberAttributes { name: member.name.clone(), client_urls: Vec::new() };
        let value = serde_json::to_vec(&attributes).expect("strings always become JSON").into();
        Command::MetaSet { key: attributes_key(member.id), value }
    });
    let entries = [
        ApplyEntry::Membership { position: after(1), bytes: first_membership(&after(1), &urls) },
        ApplyEntry::Commands { position: after(2), commands: names.collect() },
    ];
    store.apply(&entries).and_then(|_| store.flush()).map_err(|error| failed(Box::new(error)))?;
    let view = store.view().clone();
    let wal_options = WalOptions::new(WalIdentity { cluster, member }, Box::new(rand::random));
    begin_log(RealDisk, &wal_dir, wal_options, &after(2)).map_err(|error| failed(Box::new(error)))?;
    Identity::new(cluster, member).save(data_dir).map_err(|error| failed(Box::new(error)))?;
    Ok(Made {
        data_dir: data_dir.clone(),
        cluster,
        member,
        name: name.clone(),
        revision: view.revision(),
        compacted: view.compacted(),
        keys: view.key_count(),
        changes,
        without_key,
    })
}

fn check_empty(folder: &Path) -> Result<(), OfflineError> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(OfflineError::new(
            format!("{} is not empty", folder.display()),
            "give a --data-dir that does not exist yet; nothing is ever written over",
        )),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(OfflineError::new(format!("read {}", folder.display()), "check its permissions")
                .caused_by(error))
        }
    }
}
