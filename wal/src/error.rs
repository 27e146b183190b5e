//! The errors of the log, one variant per cause, each with what an operator needs to act on it.
//!
//! Owns: `WalError` (writing), `OpenError` (recovery), `ReadError` (reading back).
//! Invariant: Display says what this layer knows; the system's own error is the `source`.
//! Called by: every module of this crate; the writer's default fatal handler prints the whole chain.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::options::Identity;

/// What to do about damage; part of every message that refuses a log.
pub const REMEDY: &str = "nothing was changed; this member must not vote with a log it cannot vouch for: \
     remove it from the cluster, move this directory aside, and add it again as a learner so that it is \
     restored from the others";

/// Why a write to the log failed. Every variant but `NoSpace` and `Closed` is latched by the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The system refused or failed an operation. What is on disk is unknown until the log is reopened.
    #[error("{operation} {}", file.display())]
    Io {
        /// Verb of the failed call.
        operation: &'static str,
        /// File or directory it was made on.
        file: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// No room for another segment; the reserve is kept for votes. Nothing was written.
    #[error(
        "no space for the next log segment in {}: free some; only votes are still accepted",
        dir.display()
    )]
    NoSpace {
        /// Directory of the log.
        dir: PathBuf,
    },
    /// The caller appended an entry that does not follow the last one.
    #[error("append of index {found}, but the log continues with index {expected}")]
    OutOfOrder {
        /// The index that follows the last one.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// The caller truncated entries that are purged, hence applied on this member.
    #[error("truncate after index {after}, but the log is purged through index {purged}")]
    TruncateBelowPurge {
        /// Last index to keep.
        after: u64,
        /// Last purged index.
        purged: u64,
    },
    /// One group is larger than a block can describe.
    #[error("a group of {bytes} bytes exceeds the {bytes_max} bytes of one block")]
    TooLarge {
        /// Size asked for.
        bytes: u64,
        /// Largest block body.
        bytes_max: u64,
    },
    /// The writer was shut down before this operation.
    #[error("the log is closed")]
    Closed,
}

impl WalError {
    pub(crate) fn io(operation: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        WalError::Io { operation, file: file.into(), source: Arc::new(source) }
    }

    /// Whether the device or a quota is full.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            WalError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            WalError::NoSpace { .. } => true,
            _ => false,
        }
    }
}

/// Why a log was not opened. Opening changes nothing unless it succeeds, except that a torn tail may already
/// be zeroed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another handle of this one) holds the directory.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// Directory of the log.
        dir: PathBuf,
    },
    /// Bytes that were acknowledged are not there any more, or may not be.
    #[error("{} is damaged at offset {offset}: {reason}; {REMEDY}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Byte offset of the block (or header) that cannot be trusted.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment of the chain is gone.
    #[error("segment {sequence:#018x} is missing from {}; {REMEDY}", dir.display())]
    MissingSegment {
        /// Directory of the log.
        dir: PathBuf,
        /// Sequence number of the missing segment.
        sequence: u64,
    },
    /// The log belongs to another member or cluster.
    #[error(
        "{} belongs to member {:x} of cluster {:x}, not to member {:x} of cluster {:x}: check the data directory",
        file.display(), found.member, found.cluster, expected.member, expected.cluster
    )]
    IdentityMismatch {
        /// The segment that says so.
        file: PathBuf,
        /// Who is opening.
        expected: Identity,
        /// Whom it belongs to.
        found: Identity,
    },
    /// A newer program wrote this log.
    #[error(
        "{} has format version {found}; this program reads up to {newest}: start the newer version",
        file.display()
    )]
    UnknownVersion {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Newest version we read.
        newest: u32,
    },
    /// The options contradict each other.
    #[error("log options: {0}")]
    Options(&'static str),
    /// The system refused or failed an operation, or the new log could not be laid out.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Why entries could not be read back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The range starts below the first entry kept.
    #[error("entries below index {first_kept} are purged")]
    Purged {
        /// The first index that can be read, or would be appended next.
        first_kept: u64,
    },
    /// A sector read back does not carry what was written there.
    #[error("entry {index} in {} is damaged at offset {offset}; {REMEDY}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Byte offset of the bad sector.
        offset: u64,
        /// The entry wanted.
        index: u64,
    },
    /// The read itself failed.
    #[error("read {}", file.display())]
    Io {
        /// The segment.
        file: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
}
