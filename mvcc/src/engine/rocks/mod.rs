//! The engine on RocksDB.
//!
//! Owns: a directory with `current`, a file naming the database directory in use, and that directory `db-N`.
//! Called by: the store of a real node. Invariants: RocksDB's own WAL is off, so a crash goes back to the last
//! atomic flush; the database named by `current` is complete and flushed when the name is written; a database no
//! longer named is removed with its last reader. Errors of background threads surface at [`KvEngine::check_background`].

mod db;
mod dir;
mod options;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocksdb::{BottommostLevelCompaction, CompactOptions, WriteBatch, WriteOptions};

use self::db::Db;
use super::{EngineBatch, EngineError, EngineSizes, Family, KvEngine};
use crate::layout::log_key;

pub use options::RocksOptions;
pub use snapshot::{RocksCursor, RocksSnapshot};

/// See the module. Clones share the database.
#[derive(Clone)]
pub struct RocksEngine {
    db: Arc<Db>,
    root: PathBuf,
    shared: options::Shared,
}

pub(crate) fn failed(action: &'static str) -> impl FnOnce(rocksdb::Error) -> EngineError {
    move |error| EngineError::new(action, error)
}

impl RocksEngine {
    /// Opens the database under `root`, or creates one. Leftovers of interrupted snapshot installs are removed.
    ///
    /// # Errors
    /// The disk, or a database that does not open.
    pub fn open(root: &Path, options: RocksOptions) -> Result<Self, EngineError> {
        let shared = options::Shared::new(options);
        let current = dir::current(root)?;
        let db = Db::open(root.join(&current), &shared)?;
        if !dir::is_named(root) {
            dir::name_current(root, &current)?;
        }
        dir::remove_others(root, &current)?;
        Ok(RocksEngine { db: Arc::new(db), root: root.to_owned(), shared })
    }

    /// A figure RocksDB keeps, summed over the families; for metrics and tests.
    pub fn property(&self, name: &str) -> u64 {
        self.db.property(name)
    }
}

/// Changes gathered for [`RocksEngine`].
pub struct RocksBatch {
    batch: WriteBatch,
    db: Arc<Db>,
}

impl EngineBatch for RocksBatch {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.db.family(family), key, value);
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.db.family(family), key);
    }

    fn len_bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }
}

impl KvEngine for RocksEngine {
    type Batch = RocksBatch;
    type Snapshot = RocksSnapshot;

    fn batch(&self) -> RocksBatch {
        RocksBatch { batch: WriteBatch::default(), db: self.db.clone() }
    }

    fn write(&self, batch: RocksBatch) -> Result<(), EngineError> {
        assert!(Arc::ptr_eq(&batch.db, &self.db), "a batch is written to the database it was made for");
        self.db.raw().write_opt(batch.batch, &without_wal()).map_err(failed("write a batch"))
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.db.get(family, key)
    }

    fn snapshot(&self) -> RocksSnapshot {
        RocksSnapshot::new(self.db.clone())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.db.flush()
    }

    fn release_history(&self, mark: i64) {
        self.db.released.fetch_max(mark, Ordering::SeqCst);
    }

    fn drop_log(&self) -> Result<(), EngineError> {
        let mark = self.db.released.load(Ordering::SeqCst);
        if mark <= 0 || self.db.log_dropped.fetch_max(mark, Ordering::SeqCst) >= mark {
            return Ok(());
        }
        // Whole files first, that costs nothing; the end is inclusive. Then the rest by a range tombstone.
        let (first, last, end) = (log_key(0, 0), log_key(mark - 1, u32::MAX), log_key(mark, 0));
        let log = self.db.family(Family::Log);
        self.db.raw().delete_file_in_range_cf(log, first, last).map_err(failed("drop log files"))?;
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(log, first, end);
        self.db.raw().write_opt(batch, &without_wal()).map_err(failed("drop log rows"))
    }

    fn drop_hist_slice(&self, from: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, EngineError> {
        let end = self.db.slice_end(Family::Hist, from, bytes_max)?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let hist = self.db.family(Family::Hist);
        self.db.raw().compact_range_cf_opt(hist, Some(from), end.as_deref(), &options);
        // The binding swallows the result of a manual compaction; what went wrong shows here.
        self.check_background()?;
        Ok(end)
    }

    fn sizes(&self) -> EngineSizes {
        let memory = self.db.property("rocksdb.cur-size-all-mem-tables");
        let total_bytes = memory + self.db.property("rocksdb.total-sst-files-size");
        let live = memory + self.db.property("rocksdb.estimate-live-data-size");
        EngineSizes { total_bytes, in_use_bytes: live.min(total_bytes) }
    }

    fn fresh(&self) -> Result<Self, EngineError> {
        let name = dir::unused(&self.root)?;
        let db = Db::open(self.root.join(name), &self.shared)?;
        // Until it replaces this one it is a leftover.
        db.obsolete.store(true, Ordering::SeqCst);
        Ok(RocksEngine { db: Arc::new(db), root: self.root.clone(), shared: self.shared.clone() })
    }

    fn replace(&mut self, replacement: Self) -> Result<(), EngineError> {
        assert_eq!(self.root, replacement.root, "a replacement comes from fresh()");
        let name = replacement.db.dir.file_name().and_then(|name| name.to_str());
        let name = name.expect("database directories have plain names");
        replacement.db.obsolete.store(false, Ordering::SeqCst);
        dir::name_current(&self.root, name)?;
        self.db.obsolete.store(true, Ordering::SeqCst);
        self.db = replacement.db;
        Ok(())
    }

    fn check_background(&self) -> Result<(), EngineError> {
        match self.db.property("rocksdb.background-errors") {
            0 => Ok(()),
            count => Err(EngineError::new(
                "work in the background",
                format_args!("{count} errors, see RocksDB's LOG"),
            )),
        }
    }
}

fn without_wal() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}
