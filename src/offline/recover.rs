//! Brings the data of a member back when the quorum it belonged to is lost: it becomes the only member of a new cluster.
//!
//! Owns: what there is to lose, and the order of files. Called by: the command `recover`, and the store with
//! `--force-new-cluster`. Invariants: nothing changes before the new log is complete and synced; whatever moment the power
//! fails at, the folder either starts as it was, or is refused and can be recovered again; the cluster's id is a new one and the
//! others' ids are removed ones, so a member of the old cluster that comes back is a stranger everywhere.
//!
//! ```text
//! new log in wal.recovering, synced | wal -> wal.of-OLD | wal.recovering -> wal | identity.json | wal.of-OLD removed
//!         starts as it was          |          refused: begin again here        |          recovered
//! ```

use std::io;
use std::path::{Path, PathBuf};

use keelson_api::members::{MemberAttributes, attributes_key};
use keelson_mvcc::types::LogPosition;
use keelson_mvcc::{RocksEngine, RocksOptions, Store, StoreOptions};
use keelson_raftstore::MemberId;
use keelson_raftstore::codec::MembershipRow;
use keelson_raftstore::offline::{Inspected, inspect, recover_log};
use keelson_wal::{Identity as WalIdentity, Options as WalOptions, RealDisk};

use super::OfflineError;
use crate::server::identity::Identity;

/// A member as the folder knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMember {
    /// Its id.
    pub id: MemberId,
    /// Its name, if it has told one.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// It counts in a quorum.
    pub voter: bool,
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Whose folder it is.
    pub member: MemberId,
    /// Everybody, by the newest membership in log or data.
    pub members: Vec<KnownMember>,
    /// Up to here the data are applied.
    pub applied: Option<LogPosition>,
    /// The store's revision there.
    pub revision: i64,
    /// The last entry of the log.
    pub last: Option<LogPosition>,
    /// Entries behind `applied`; applied at the next start.
    pub waiting: u64,
    /// Entries of which the log does not say that they are committed; they count.
    pub unconfirmed: u64,
    /// The cluster has removed this member: others went on without it.
    pub removed: bool,
}

impl Held {
    /// It is the only member already.
    pub fn is_alone(&self) -> bool {
        self.members.len() == 1 && self.members[0].id == self.member && self.members[0].voter
    }

    fn own_urls(&self) -> Option<&[String]> {
        self.members.iter().find(|member| member.id == self.member).map(|member| member.peer_urls.as_slice())
    }
}

/// What a recovery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster.
    pub cluster: u64,
    /// The member, as before.
    pub member: MemberId,
    /// The entry by which it is alone.
    pub position: LogPosition,
}

/// The folders of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Of everything.
    pub data: PathBuf,
    /// Of the log.
    pub wal: PathBuf,
}

/// Looks at the folders of a member that does not run.
///
/// # Errors
/// Folders that are missing, in use, damaged, or of something else.
pub fn held(folders: &Folders) -> Result<Held, OfflineError> {
    let identity = identity(folders)?;
    put_back(folders, &identity)?;
    let log =
        inspect(RealDisk, &folders.wal, options(&identity)).map_err(|error| log_error(folders, error))?;
    let store = open_store(folders)?;
    let view = store.view();
    let row = match view.membership() {
        None => MembershipRow::default(),
        Some((_, bytes)) => {
            MembershipRow::decode(&bytes).map_err(|error| data_error(folders).caused_by(error))?
        }
    };
    let members = members(&log, &row, |id| {
        let key = attributes_key(id);
        let known = log.facts.get(&key).cloned().or_else(|| view.meta(&key).ok().flatten());
        let attributes = known.and_then(|row| serde_json::from_slice::<MemberAttributes>(&row).ok());
        attributes.unwrap_or_default().name
    });
    let index = |position: Option<LogPosition>| position.map_or(0, |position| position.index + 1);
    let (applied, last) = (view.applied(), log.last);
    let confirmed = index(log.committed).max(index(applied));
    Ok(Held {
        cluster: identity.cluster,
        member: identity.member,
        members,
        applied,
        revision: view.revision(),
        last,
        waiting: index(last).saturating_sub(index(applied)),
        unconfirmed: index(last).saturating_sub(confirmed),
        removed: row.removed.contains(&identity.member),
    })
}

/// Makes the member the only one of a new cluster.
///
/// # Errors
/// As [`held`], a member that knows no address of its own, or the disk.
pub fn recover(folders: &Folders, held: &Held) -> Result<Recovered, OfflineError> {
    let identity = identity(folders)?;
    let urls = held.own_urls().ok_or_else(|| {
        OfflineError::new(
            format!("member {:x} does not stand in the membership that its log and data hold", held.member),
            "recover the folder of another member",
        )
    })?;
    let new = Identity::new(rand::random(), identity.member);
    let failed = |action: &str, path: &Path| {
        let text = format!("{action} {}", path.display());
        move |error: io::Error| {
            OfflineError::new(text, "run the command again once the cause is gone").caused_by(error)
        }
    };
    let recovering = beside(&folders.wal, "recovering");
    remove(&recovering).map_err(failed("remove", &recovering))?;
    let position = recover_log(
        RealDisk,
        (&folders.wal, options(&identity)),
        (&recovering, options(&new)),
        urls,
        held.applied.as_ref(),
    )
    .map_err(|error| log_error(folders, error))?;
    let old = old_log(folders, &identity);
    rename(&folders.wal, &old).map_err(failed("put aside", &folders.wal))?;
    rename(&recovering, &folders.wal).map_err(failed("put the new log in", &folders.wal))?;
    new.save(&folders.data).map_err(|error| {
        OfflineError::new("write the new identity", "run the command again once the cause is gone")
            .caused_by(error)
    })?;
    remove(&old).map_err(failed("remove", &old))?;
    Ok(Recovered { cluster: new.cluster, member: new.member, position })
}

/// What `--force-new-cluster` asks for: [`recover`], unless the folder is empty or the member alone already.
///
/// # Errors
/// As those.
pub fn force(folders: &Folders) -> Result<Option<Recovered>, OfflineError> {
    if !folders.data.join("identity.json").exists() {
        return Ok(None);
    }
    let held = held(folders)?;
    if held.is_alone() { Ok(None) } else { recover(folders, &held).map(Some) }
}

/// A recovery that was cut off between its two renames and the identity begins again from the old log.
fn put_back(folders: &Folders, identity: &Identity) -> Result<(), OfflineError> {
    let old = old_log(folders, identity);
    if !old.exists() {
        return Ok(());
    }
    remove(&folders.wal).and_then(|()| rename(&old, &folders.wal)).map_err(|error| {
        OfflineError::new(format!("put {} back", old.display()), "check permissions and free space")
            .caused_by(error)
    })
}

fn members(log: &Inspected, row: &MembershipRow, name: impl Fn(MemberId) -> String) -> Vec<KnownMember> {
    let known =
        |id: MemberId, peer_urls: Vec<String>, voter| KnownMember { id, name: name(id), peer_urls, voter };
    match &log.membership {
        Some(nodes) => nodes
            .iter()
            .map(|(id, node)| known(*id, node.peer_urls.clone(), log.voters.contains(id)))
            .collect(),
        None => row
            .members()
            .members
            .into_iter()
            .map(|member| known(member.id, member.peer_urls, !member.is_learner && !member.joining))
            .collect(),
    }
}

fn identity(folders: &Folders) -> Result<Identity, OfflineError> {
    let path = &folders.data;
    match Identity::load(path) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(OfflineError::new(
            format!("{} is not the data folder of a member: it has no identity.json", path.display()),
            "give the --data-dir the member ran with",
        )),
        Err(error) => Err(OfflineError::new(
            format!("read the identity in {}", path.display()),
            "check permissions; an identity.json that is damaged is restored from a copy",
        )
        .caused_by(error)),
    }
}

fn open_store(folders: &Folders) -> Result<Store<RocksEngine>, OfflineError> {
    let path = folders.data.join("db");
    if !path.is_dir() {
        return Err(data_error(folders));
    }
    let engine = RocksEngine::open(&path, RocksOptions::default())
        .map_err(|error| data_error(folders).caused_by(error))?;
    Store::open(engine, StoreOptions { row_cache_bytes: 0 })
        .map_err(|error| data_error(folders).caused_by(error))
}

fn data_error(folders: &Folders) -> OfflineError {
    OfflineError::new(
        format!("open the store in {}", folders.data.join("db").display()),
        "stop the member if it runs; where its data are damaged, recover the folder of another one",
    )
}

fn log_error(folders: &Folders, error: keelson_raftstore::offline::OfflineError) -> OfflineError {
    OfflineError::new(
        format!("read the log in {}", folders.wal.display()),
        "stop the member if it runs; give --wal-dir if it ran with one; where its log is damaged, recover the folder of \
         another member",
    )
    .caused_by(error)
}

fn options(identity: &Identity) -> WalOptions {
    let whose = WalIdentity { cluster: identity.cluster, member: identity.member };
    WalOptions::new(whose, Box::new(rand::random))
}

/// The old log while the new one takes its place. Its cluster is part of the name: afterwards it is one of another cluster.
fn old_log(folders: &Folders, identity: &Identity) -> PathBuf {
    beside(&folders.wal, &format!("of-{:x}", identity.cluster))
}

fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames, durably.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}
