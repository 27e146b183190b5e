//! The memory engine with the planted bugs of an engine.
//!
//! Owns: the wrapper; without a bug it only passes calls on. Called by: [`crate::machine`], and `keelson_mvcc` as its
//! engine. Invariant: everything is done through the port, so what a bug does here an engine could do.

use std::sync::Arc;

use bytes::Bytes;
use keelson_mvcc::engine::memory::{MemoryBatch, MemoryOptions, MemorySnapshot};
use keelson_mvcc::engine::{
    CursorOptions, EngineBatch, EngineCursor, EngineSizes, EngineSnapshot, Family, KvEngine,
};
use keelson_mvcc::{EngineError, MemoryEngine};
use parking_lot::Mutex;

use crate::planted::Bug;

/// See the module. Clones share the same rows.
#[derive(Clone)]
pub(crate) struct SimEngine {
    inner: MemoryEngine,
    bug: Option<Bug>,
    /// For [`Bug::AppliedTwice`]: the rows of the meta family as of the last flush.
    meta_flushed: Arc<Mutex<Vec<(Bytes, Bytes)>>>,
}

impl SimEngine {
    /// An empty engine.
    pub(crate) fn new(options: MemoryOptions, bug: Option<Bug>) -> Self {
        SimEngine { inner: MemoryEngine::new(options), bug, meta_flushed: Arc::default() }
    }

    /// What a crash at this moment leaves, as an engine of its own.
    pub(crate) fn crashed_copy(&self) -> Self {
        if self.bug == Some(Bug::AppliedTwice) {
            return self.copy_with_old_position();
        }
        SimEngine { inner: self.inner.crashed_copy(), bug: self.bug, meta_flushed: Arc::default() }
    }

    /// Every later write and flush fails.
    pub(crate) fn fail(&self) {
        self.inner.fail("the simulated engine has failed");
    }

    /// All rows of the moment, but the applied position of the last flush.
    fn copy_with_old_position(&self) -> Self {
        let copy = SimEngine::new(MemoryOptions::default(), self.bug);
        let mut batch = copy.batch();
        for family in Family::ALL.into_iter().filter(|family| *family != Family::Meta) {
            rows(&self.inner.snapshot(), family, |key, value| batch.put(family, key, value));
        }
        for (key, value) in self.meta_flushed.lock().iter() {
            batch.put(Family::Meta, key, value);
        }
        copy.inner.write(batch).expect("a new engine writes");
        copy.flush().expect("a new engine flushes");
        copy
    }

    /// Takes the newest revision out of a received snapshot: its events, and the keys it wrote.
    fn without_newest_revision(replacement: &MemoryEngine) {
        let snapshot = replacement.snapshot();
        let mut newest = Vec::new();
        rows(&snapshot, Family::Log, |key, value| {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            newest.retain(|(other, _): &(Bytes, Bytes)| other[..8] == key[..8]);
            newest.push((key, value));
        });
        let mut batch = replacement.batch();
        newest.iter().for_each(|(key, _)| batch.delete(Family::Log, key));
        rows(&snapshot, Family::Latest, |key, _| {
            // A row of the log ends with the key that changed.
            if newest.iter().any(|(_, change)| change.ends_with(key)) {
                batch.delete(Family::Latest, key);
            }
        });
        replacement.write(batch).expect("a received snapshot takes writes");
        replacement.flush().expect("a received snapshot is flushed");
    }
}

fn rows(snapshot: &MemorySnapshot, family: Family, mut row: impl FnMut(&[u8], &[u8])) {
    let mut cursor = snapshot.cursor(family, CursorOptions::default());
    cursor.seek(&[]);
    while let Some((key, value)) = cursor.item() {
        row(key, value);
        cursor.next();
    }
}

impl KvEngine for SimEngine {
    type Batch = MemoryBatch;
    type Snapshot = MemorySnapshot;

    fn batch(&self) -> MemoryBatch {
        self.inner.batch()
    }

    fn write(&self, batch: MemoryBatch) -> Result<(), EngineError> {
        self.inner.write(batch)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.inner.get(family, key)
    }

    fn snapshot(&self) -> MemorySnapshot {
        self.inner.snapshot()
    }

    fn flush(&self) -> Result<(), EngineError> {
        match self.bug {
            Some(Bug::PurgeBeyondFlushed) => return Ok(()),
            Some(Bug::AppliedTwice) => {
                let mut meta = Vec::new();
                rows(&self.inner.snapshot(), Family::Meta, |key, value| {
                    meta.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                });
                *self.meta_flushed.lock() = meta;
            }
            _ => {}
        }
        self.inner.flush()
    }

    fn release_history(&self, mark: i64) {
        self.inner.release_history(mark);
    }

    fn drop_log(&self) -> Result<(), EngineError> {
        self.inner.drop_log()
    }

    fn drop_hist_slice(&self, from: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.drop_hist_slice(from, bytes_max)
    }

    fn sizes(&self) -> EngineSizes {
        self.inner.sizes()
    }

    fn fresh(&self) -> Result<Self, EngineError> {
        Ok(SimEngine { inner: self.inner.fresh()?, bug: self.bug, meta_flushed: Arc::default() })
    }

    fn replace(&mut self, replacement: Self) -> Result<(), EngineError> {
        match self.bug {
            Some(Bug::SnapshotWithoutLastGroup) => Self::without_newest_revision(&replacement.inner),
            Some(Bug::AppliedTwice) => *self.meta_flushed.lock() = replacement.meta_flushed.lock().clone(),
            _ => {}
        }
        self.inner.replace(replacement.inner)
    }
}
