//! One open database and its directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, FlushOptions};

use super::failed;
use super::options::Shared;
use crate::engine::{EngineError, Family};

/// An open database. Snapshots own it, so it closes with the last of them.
pub(crate) struct Db {
    /// `None` only while dropping.
    db: Option<DB>,
    pub(crate) dir: PathBuf,
    /// The directory goes when the database closes.
    pub(crate) obsolete: AtomicBool,
    /// Mark by which the compaction filter drops; see [`crate::engine::KvEngine::release_history`].
    pub(crate) released: Arc<AtomicI64>,
    /// Mark by which `log` was last dropped.
    pub(crate) log_dropped: AtomicI64,
}

impl Db {
    pub(crate) fn open(dir: PathBuf, shared: &Shared) -> Result<Self, EngineError> {
        let released = Arc::new(AtomicI64::new(-1));
        let db = DB::open_cf_descriptors(&shared.database()?, &dir, shared.families(&released)).map_err(
            |error| EngineError::new("open the database", format_args!("{}: {error}", dir.display())),
        )?;
        let obsolete = AtomicBool::new(false);
        Ok(Db { db: Some(db), dir, obsolete, released, log_dropped: AtomicI64::new(-1) })
    }

    pub(crate) fn raw(&self) -> &DB {
        self.db.as_ref().expect("open until dropped")
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.raw().cf_handle(family.name()).expect("all families are created at open")
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self.raw().get_pinned_cf(self.family(family), key).map_err(failed("read a row"))?;
        Ok(found.map(|bytes| Bytes::copy_from_slice(&bytes)))
    }

    /// Flushes all families at one point.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let families = Family::ALL.map(|family| self.family(family));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.raw().flush_cfs_opt(&families, &options).map_err(failed("flush"))
    }

    pub(crate) fn property(&self, name: &str) -> u64 {
        let of = |family| self.raw().property_int_value_cf(self.family(family), name).ok().flatten();
        if name == "rocksdb.background-errors" {
            // Kept per database, the same in every family.
            return of(Family::Meta).unwrap_or(0);
        }
        Family::ALL.into_iter().filter_map(of).sum()
    }

    /// Where a slice of about `bytes_max` bytes from `from` on ends: at the start of some file. `None` = at the end.
    pub(crate) fn slice_end(
        &self,
        family: Family,
        from: &[u8],
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let files = self.raw().live_files().map_err(failed("list the files"))?;
        let mut starts: Vec<(Vec<u8>, u64)> = files
            .into_iter()
            .filter(|file| file.column_family_name == family.name())
            .filter(|file| file.end_key.as_deref().is_some_and(|end| end >= from))
            .filter_map(|file| Some((file.start_key?, file.size as u64)))
            .collect();
        starts.sort();
        let mut bytes = 0;
        for (start, size) in starts {
            if bytes >= bytes_max && start.as_slice() > from {
                return Ok(Some(start));
            }
            bytes += size;
        }
        Ok(None)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.obsolete.load(Ordering::SeqCst) {
            // Best effort: what stays is removed at the next open.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
