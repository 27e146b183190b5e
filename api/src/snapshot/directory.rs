//! The data folder of an etcd that does not run: its database, and what its log holds beyond it.
//!
//! Owns: where the files are, and that nobody has them open. Called by: the command line (`snapshot import DIR`).
//! Invariants: nothing in the folder is changed; entries behind the database count whether or not the log knows that they are
//! committed: a server acknowledges what its log may only note as committed with the next write, and what was never
//! acknowledged may have happened or not.
//! Source: etcd `server/storage/datadir`, `server/etcdserver/bootstrap.go`.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::etcd_log::{LogError, Tail, read_tail};
use super::file::{FileError, SnapshotFile};
use super::rows::{ImportError, position};

/// Why a folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not one of an etcd.
    #[error("{path} is not the data folder of an etcd: it has no member/snap/db")]
    NotEtcd {
        /// The folder.
        path: PathBuf,
    },
    /// A server runs on it.
    #[error("{path} is in use: an etcd runs on this folder")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    File(#[from] FileError),
    /// What it holds.
    #[error(transparent)]
    Content(#[from] ImportError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An etcd's data folder.
#[derive(Debug)]
pub struct Directory {
    /// The database.
    pub file: SnapshotFile,
    /// The entries it lacks.
    pub tail: Tail,
    /// Over the database and those entries.
    pub digest: [u8; 32],
    /// Kept locked, so that no etcd starts meanwhile.
    _lock: File,
}

impl Directory {
    /// Opens the folder. `wal_dir`: where the log is, if not below it.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &Path, wal_dir: Option<&Path>) -> Result<Self, DirectoryError> {
        let database = path.join("member").join("snap").join("db");
        if !database.is_file() {
            return Err(DirectoryError::NotEtcd { path: path.to_owned() });
        }
        let io = |source| DirectoryError::Io { path: database.clone(), source };
        let lock = File::open(&database).map_err(io)?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse { path: database }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let file = SnapshotFile::open(&database, true)?;
        let log = wal_dir.map_or_else(|| path.join("member").join("wal"), Path::to_owned);
        let tail = read_tail(&log, position(&file.database)?)?;
        let mut digest = Sha256::new();
        digest.update(file.digest);
        for entry in &tail.entries {
            digest.update(entry.index.to_be_bytes());
            digest.update(&entry.data);
        }
        let digest = digest.finalize().into();
        Ok(Directory { file, tail, digest, _lock: lock })
    }
}
