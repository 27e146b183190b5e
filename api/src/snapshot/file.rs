//! A snapshot as it stands on disk: a database file, mostly with the SHA-256 of all that precedes at its end.
//!
//! Owns: the end of the file. Called by: status, import and restore. Invariant: nothing of a file is believed before
//! its digest was compared, unless the caller asked to go without.
//! Source: etcd `etcdutl/snapshot/v3_snapshot.go` (a file with a digest is 32 bytes longer than a multiple of 512).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::database::{Database, DatabaseError};

const DIGEST_BYTES: u64 = 32;
/// Every database is a multiple of this long.
const SECTOR_BYTES: u64 = 512;

/// Why a file is not taken as a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its digest is another one.
    #[error("{path} is damaged: the SHA-256 at its end is not that of what precedes it")]
    WrongDigest {
        /// The file.
        path: PathBuf,
    },
    /// It has none.
    #[error("{path} has no SHA-256 at its end, as a database taken from a data folder has none")]
    NoDigest {
        /// The file.
        path: PathBuf,
    },
    /// It is no database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A snapshot file.
#[derive(Debug)]
pub struct SnapshotFile {
    /// What it holds.
    pub database: Database,
    /// The SHA-256 of the database.
    pub digest: [u8; 32],
    /// The file carries the digest, so it was compared.
    pub has_digest: bool,
}

impl SnapshotFile {
    /// Opens a file and reads it once for its digest.
    ///
    /// `skip_hash_check`: take it without a digest, or with a wrong one.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(path: &Path, skip_hash_check: bool) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let has_digest = bytes % SECTOR_BYTES == DIGEST_BYTES;
        let content = if has_digest { bytes - DIGEST_BYTES } else { bytes };
        let digest = digest(&mut file, content).map_err(io)?;
        if has_digest {
            let mut expected = [0; DIGEST_BYTES as usize];
            file.read_exact(&mut expected).map_err(io)?;
            if expected != digest && !skip_hash_check {
                return Err(FileError::WrongDigest { path: path.to_owned() });
            }
        }
        // Whether it is a database at all is the better complaint.
        let database = Database::open(path, Some(content))?;
        if !has_digest && !skip_hash_check {
            return Err(FileError::NoDigest { path: path.to_owned() });
        }
        Ok(SnapshotFile { database, digest, has_digest })
    }
}

fn digest(file: &mut File, bytes: u64) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let piece = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..piece])?;
        digest.update(&buffer[..piece]);
        left -= piece as u64;
    }
    Ok(digest.finalize().into())
}
