//! States of the database that own it.

use std::sync::Arc;

use rocksdb::{DBRawIterator, ReadOptions, Snapshot};

use super::db::Db;
use super::failed;
use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};

/// Read ahead of scans over everything.
const BULK_READAHEAD_BYTES: usize = 256 << 10;

/// A state of the database, which stays open as long as this lives.
pub struct RocksSnapshot {
    // Order matters: fields drop in the order of declaration, so the snapshot is released before the database may
    // close.
    /// For single reads, made once.
    get: ReadOptions,
    snapshot: Snapshot<'static>,
    db: Arc<Db>,
}

impl RocksSnapshot {
    pub(super) fn new(db: Arc<Db>) -> Self {
        let snapshot = db.raw().snapshot();
        // SAFETY: only the lifetime changes, from that of the borrow of `db.raw()` to 'static. The borrowed `DB`
        // must stay valid and in place until the snapshot is dropped. (1) It lives inside the `Db` behind the `Arc`
        // stored beside the snapshot, on the heap, so moving `RocksSnapshot` does not move it. (2) `Db` never
        // replaces or takes the `DB` before its own drop, which needs the last `Arc` to go. (3) `snapshot` is
        // declared before `db`, so it is dropped while this `Arc` still holds the `Db`. (4) The field is private and
        // never handed out with its false lifetime: cursors borrow `self`.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        let mut get = ReadOptions::default();
        get.set_snapshot(&snapshot);
        RocksSnapshot { get, snapshot, db }
    }
}

impl EngineSnapshot for RocksSnapshot {
    type Cursor<'a> = RocksCursor<'a>;

    fn get<R>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, EngineError> {
        let found = self.db.raw().get_pinned_cf_opt(self.db.family(family), key, &self.get);
        Ok(found.map_err(failed("read a row"))?.map(|bytes| read(&bytes)))
    }

    fn cursor(&self, family: Family, options: CursorOptions<'_>) -> RocksCursor<'_> {
        let mut read = ReadOptions::default();
        read.set_snapshot(&self.snapshot);
        if let Some(upper) = options.upper {
            read.set_iterate_upper_bound(upper);
        }
        if options.bulk {
            read.fill_cache(false);
            read.set_readahead_size(BULK_READAHEAD_BYTES);
        }
        RocksCursor { iterator: self.db.raw().raw_iterator_cf_opt(self.db.family(family), read) }
    }
}

/// A position in a [`RocksSnapshot`].
pub struct RocksCursor<'a> {
    iterator: DBRawIterator<'a>,
}

impl EngineCursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) {
        self.iterator.seek(key);
    }

    fn seek_before(&mut self, key: Option<&[u8]>) {
        let Some(key) = key else { return self.iterator.seek_to_last() };
        self.iterator.seek_for_prev(key);
        if self.iterator.key() == Some(key) {
            self.iterator.prev();
        }
    }

    fn next(&mut self) {
        self.iterator.next();
    }

    fn prev(&mut self) {
        self.iterator.prev();
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn check(&self) -> Result<(), EngineError> {
        self.iterator.status().map_err(failed("walk rows"))
    }
}
