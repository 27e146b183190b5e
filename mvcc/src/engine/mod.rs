//! The port to an ordered store of bytes, with one implementation on RocksDB and one in memory.
//!
//! Owns: the traits and what an implementation must guarantee. Called by: everything of this crate that reads or
//! writes rows. Source: the shape of RocksDB (column families, atomic flush, compaction filter), kept small enough
//! that the memory engine can behave the same, crashes included.
//!
//! # To ensure correctness
//! An engine guarantees:
//! 1. [`KvEngine::write`] applies the whole batch or nothing, over all families, and is visible to every snapshot
//!    taken afterwards and to none taken before.
//! 2. A crash takes the engine back to some earlier point *between* two writes, never before the last completed
//!    [`KvEngine::flush`], and to the same point in every family.
//! 3. Rows vanish by themselves only in two ways, both bounded by the mark last given to
//!    [`KvEngine::release_history`]: `hist` rows that ended at or before the mark, and `log` rows of
//!    revisions below the mark. They may vanish from existing snapshots too.
//! 4. After an error of `write` or `flush` the caller stops using the engine; nothing is retried.

pub mod memory;
#[cfg(feature = "rocks")]
pub mod rocks;

use bytes::Bytes;

/// The families of rows. The numbers are part of the format of exported snapshots: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Key to its newest version.
    Latest = 0,
    /// Versions that were overwritten or deleted.
    Hist = 1,
    /// What happened, in order of revision.
    Log = 2,
    /// Leases and the keys attached to them.
    Lease = 3,
    /// Applied position, membership, alarms and other single facts.
    Meta = 4,
}

impl Family {
    /// All of them, in order of their numbers.
    pub const ALL: [Family; 5] = [Family::Latest, Family::Hist, Family::Log, Family::Lease, Family::Meta];

    /// Name of the column family on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Latest => "latest",
            Family::Hist => "hist",
            Family::Log => "log",
            Family::Lease => "lease",
            Family::Meta => "meta",
        }
    }
}

/// Why the engine failed. Always final: the process stops and recovers from what is durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action}: {message}")]
pub struct EngineError {
    /// What was being done.
    pub action: &'static str,
    /// What the engine said.
    pub message: String,
}

impl EngineError {
    /// An error met while doing `action`.
    pub fn new(action: &'static str, message: impl ToString) -> Self {
        EngineError { action, message: message.to_string() }
    }
}

/// Bytes the engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSizes {
    /// Everything, garbage included: files and what is not yet in files.
    pub total_bytes: u64,
    /// An estimate of the part that is not garbage; at most `total_bytes`.
    pub in_use_bytes: u64,
}

/// How a cursor walks.
#[derive(Clone, Copy, Debug, Default)]
pub struct CursorOptions<'a> {
    /// First key past the end, `None` = no end. Going backwards, a hint only.
    pub upper: Option<&'a [u8]>,
    /// Set for scans of everything, so that they do not push the hot rows out of the cache.
    pub bulk: bool,
}

/// Changes that are written together.
pub trait EngineBatch: Send {
    /// Sets a row.
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]);
    /// Removes a row, present or not.
    fn delete(&mut self, family: Family, key: &[u8]);
    /// Bytes gathered so far.
    fn len_bytes(&self) -> usize;
}

/// A position among the rows of a snapshot, in order of their keys.
///
/// After a failed read the position is invalid and [`EngineCursor::check`] tells why; so a loop that ends because
/// there is no item must call it.
pub trait EngineCursor {
    /// Moves to the first key at or after `key`.
    fn seek(&mut self, key: &[u8]);
    /// Moves to the last key strictly before `key`, or with `None` to the last of all.
    fn seek_before(&mut self, key: Option<&[u8]>);
    /// Moves on. Only at a valid position.
    fn next(&mut self);
    /// Moves back. Only at a valid position.
    fn prev(&mut self);
    /// The row here, unless the position is invalid.
    fn item(&self) -> Option<(&[u8], &[u8])>;
    /// The error that made the position invalid, if one did.
    ///
    /// # Errors
    /// A failed read.
    fn check(&self) -> Result<(), EngineError>;
}

/// An immutable state of the whole engine. Owned: it may outlive the engine's handle.
pub trait EngineSnapshot: Send + Sync + 'static {
    /// See [`EngineCursor`].
    type Cursor<'a>: EngineCursor
    where
        Self: 'a;

    /// Hands the row's bytes to `read`, without a copy where possible.
    ///
    /// # Errors
    /// A failed read.
    fn get<R>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, EngineError>;

    /// A cursor at no position.
    fn cursor(&self, family: Family, options: CursorOptions<'_>) -> Self::Cursor<'_>;
}

/// An ordered store of bytes in five families. See the module for what it must guarantee.
///
/// Clones share the same store.
pub trait KvEngine: Clone + Send + Sync + 'static {
    /// See [`EngineBatch`].
    type Batch: EngineBatch;
    /// See [`EngineSnapshot`].
    type Snapshot: EngineSnapshot;

    /// An empty batch for this engine.
    fn batch(&self) -> Self::Batch;

    /// Applies a batch. Not durable before the next flush.
    ///
    /// # Errors
    /// Final.
    fn write(&self, batch: Self::Batch) -> Result<(), EngineError>;

    /// Reads the newest state.
    ///
    /// # Errors
    /// Final.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The state as of now.
    fn snapshot(&self) -> Self::Snapshot;

    /// Makes everything written before the call durable, all families at one point. Blocks.
    ///
    /// # Errors
    /// Final.
    fn flush(&self) -> Result<(), EngineError>;

    /// History at and below `mark` is no longer needed, see guarantee 3. `mark` was written *and flushed* before.
    /// Returns at once; never goes back.
    fn release_history(&self, mark: i64);

    /// Drops what [`KvEngine::release_history`] allows to drop from `log`. Cheap.
    ///
    /// # Errors
    /// Final.
    fn drop_log(&self) -> Result<(), EngineError>;

    /// Drops dead rows of `hist` from `from` on, looking at about `bytes_max` bytes; gives the place to continue at,
    /// `None` at the end. Blocks, meant for a thread of its own.
    ///
    /// # Errors
    /// Final.
    fn drop_hist_slice(&self, from: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, EngineError>;

    /// Current sizes. May take microseconds.
    fn sizes(&self) -> EngineSizes;

    /// A new, empty engine beside this one, to be filled from a received snapshot.
    ///
    /// # Errors
    /// Final for the new engine, not for this one.
    fn fresh(&self) -> Result<Self, EngineError>;

    /// Makes `replacement`, which came from [`KvEngine::fresh`] and is flushed, the durable content in one step.
    /// Snapshots of the old content stay readable; its space is given back with the last of them.
    ///
    /// # Errors
    /// Final.
    fn replace(&mut self, replacement: Self) -> Result<(), EngineError>;

    /// Fails once a background thread of the engine has met an error.
    ///
    /// # Errors
    /// Final.
    fn check_background(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
