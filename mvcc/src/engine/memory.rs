//! The engine without a disk: for simulation and tests, crashing exactly as the real one does.
//!
//! Owns: the rows in sorted maps with cheap snapshots, the state of the last flush, and seeded misbehaviour: flushes
//! nobody asked for (a full memtable) and dead rows that vanish at any moment (a background compaction).
//! Invariants: [`MemoryEngine::crash`] goes back to the last flush in all families at once; nothing is dropped that
//! [`KvEngine::release_history`] did not release. Called by: the simulation and the conformance suite.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    CursorOptions, EngineBatch, EngineCursor, EngineError, EngineSizes, EngineSnapshot, Family, KvEngine,
};
use crate::cow_map::{CowMap, Position, Weigh};
use crate::layout::{hist_is_dead, log_key};

impl Weigh for Bytes {
    /// Bytes of the row, with something for its place in the map.
    fn weight(&self, key: &[u8]) -> u64 {
        (key.len() + self.len() + 32) as u64
    }
}

type Families = [CowMap<Bytes>; Family::ALL.len()];

/// How a memory engine misbehaves. All chances are "once in so many writes", 0 = never.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryOptions {
    /// Seed of the moments below; the same seed and the same writes give the same moments.
    pub seed: u64,
    /// Flushes by themselves.
    pub flush_every: u32,
    /// Drops of some dead rows by themselves.
    pub drop_every: u32,
}

/// See the module. Clones share the same rows.
#[derive(Clone)]
pub struct MemoryEngine {
    shared: Arc<Mutex<Inner>>,
}

struct Inner {
    live: Families,
    durable: Families,
    options: MemoryOptions,
    random: u64,
    /// Mark below which history may vanish.
    released: i64,
    flushes: u64,
    fail: Option<&'static str>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new(options: MemoryOptions) -> Self {
        MemoryEngine {
            shared: Arc::new(Mutex::new(Inner {
                live: Families::default(),
                durable: Families::default(),
                options,
                random: options.seed,
                released: -1,
                flushes: 0,
                fail: None,
            })),
        }
    }

    /// Power is lost: everything after the last flush is gone. Snapshots taken before stay readable.
    pub fn crash(&self) {
        let mut inner = self.shared.lock();
        inner.live = inner.durable.clone();
        inner.released = -1;
        inner.fail = None;
    }

    /// An engine that starts from what a crash at this moment would leave, independent of this one.
    pub fn crashed_copy(&self) -> MemoryEngine {
        let inner = self.shared.lock();
        let copy = MemoryEngine::new(inner.options);
        {
            let mut target = copy.shared.lock();
            target.live = inner.durable.clone();
            target.durable = inner.durable.clone();
        }
        copy
    }

    /// Every later write and flush fails with `reason`, until a crash.
    pub fn fail(&self, reason: &'static str) {
        self.shared.lock().fail = Some(reason);
    }

    /// Flushes so far, asked for or not.
    pub fn flushes(&self) -> u64 {
        self.shared.lock().flushes
    }
}

impl Inner {
    fn check(&self, action: &'static str) -> Result<(), EngineError> {
        self.fail.map_or(Ok(()), |reason| Err(EngineError::new(action, reason)))
    }

    /// SplitMix64: enough for choosing moments.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, every: u32) -> bool {
        every > 0 && self.next_random().is_multiple_of(u64::from(every))
    }

    fn flush(&mut self) {
        self.durable = self.live.clone();
        self.flushes += 1;
    }

    /// Drops dead rows of `hist` from `from` on, looking at about `bytes_max`; with `some`, a random half of them.
    ///
    /// As with files, only what is flushed can be dropped, and a drop is durable at once: no crash brings the row
    /// back. So a drop that the durable mark does not cover loses data here too.
    fn drop_hist(&mut self, from: &[u8], bytes_max: u64, some: bool) -> Option<Vec<u8>> {
        let hist = &self.durable[Family::Hist as usize];
        let (mut dead, mut seen, mut stop) = (Vec::new(), 0, None);
        for (key, value) in hist.iter_from(hist.lower_bound(from)) {
            if seen >= bytes_max {
                stop = Some(key.to_vec());
                break;
            }
            seen += value.weight(key);
            if hist_is_dead(key, value, self.released) {
                dead.push(key.clone());
            }
        }
        for key in dead {
            if some && self.next_random().is_multiple_of(2) {
                continue;
            }
            self.durable[Family::Hist as usize].remove(&key);
            self.live[Family::Hist as usize].remove(&key);
        }
        stop
    }

    fn drop_log(&mut self) {
        let end = log_key(self.released, 0);
        for families in [&mut self.live, &mut self.durable] {
            let log = &mut families[Family::Log as usize];
            while let Some((key, _)) =
                log.entry(log.lower_bound(&[])).filter(|(key, _)| key.as_ref() < end.as_slice())
            {
                let key = key.clone();
                log.remove(&key);
            }
        }
    }
}

/// Changes gathered for [`MemoryEngine`].
#[derive(Default)]
pub struct MemoryBatch {
    changes: Vec<(Family, Bytes, Option<Bytes>)>,
    bytes: usize,
}

impl EngineBatch for MemoryBatch {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.changes.push((family, Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value))));
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.bytes += key.len();
        self.changes.push((family, Bytes::copy_from_slice(key), None));
    }

    fn len_bytes(&self) -> usize {
        self.bytes
    }
}

/// A state of [`MemoryEngine`].
pub struct MemorySnapshot {
    families: Families,
}

impl EngineSnapshot for MemorySnapshot {
    type Cursor<'a> = MemoryCursor<'a>;

    fn get<R>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, EngineError> {
        Ok(self.families[family as usize].get(key).map(|value| read(value)))
    }

    fn cursor(&self, family: Family, options: CursorOptions<'_>) -> MemoryCursor<'_> {
        let map = &self.families[family as usize];
        let upper = options.upper.map_or(map.end(), |upper| map.lower_bound(upper));
        MemoryCursor { map, at: None, upper }
    }
}

/// A position in a [`MemorySnapshot`].
pub struct MemoryCursor<'a> {
    map: &'a CowMap<Bytes>,
    at: Option<Position>,
    upper: Position,
}

impl EngineCursor for MemoryCursor<'_> {
    fn seek(&mut self, key: &[u8]) {
        self.at = Some(self.map.lower_bound(key));
    }

    fn seek_before(&mut self, key: Option<&[u8]>) {
        self.at = self.map.before(key.map_or(self.map.end(), |key| self.map.lower_bound(key)));
    }

    fn next(&mut self) {
        let at = self.at.expect("next is called at a valid position");
        self.at = Some(self.map.after(at));
    }

    fn prev(&mut self) {
        self.at = self.map.before(self.at.expect("prev is called at a valid position"));
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        let at = self.at.filter(|at| *at < self.upper)?;
        self.map.entry(at).map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

impl KvEngine for MemoryEngine {
    type Batch = MemoryBatch;
    type Snapshot = MemorySnapshot;

    fn batch(&self) -> MemoryBatch {
        MemoryBatch::default()
    }

    fn write(&self, batch: MemoryBatch) -> Result<(), EngineError> {
        let mut inner = self.shared.lock();
        inner.check("write a batch")?;
        for (family, key, value) in batch.changes {
            let map = &mut inner.live[family as usize];
            match value {
                Some(value) => map.insert(key, value),
                None => drop(map.remove(&key)),
            }
        }
        let options = inner.options;
        if inner.chance(options.flush_every) {
            inner.flush();
        }
        if inner.chance(options.drop_every) {
            inner.drop_hist(&[], u64::MAX, true);
            inner.drop_log();
        }
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.shared.lock().live[family as usize].get(key).cloned())
    }

    fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot { families: self.shared.lock().live.clone() }
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut inner = self.shared.lock();
        inner.check("flush")?;
        inner.flush();
        Ok(())
    }

    fn release_history(&self, mark: i64) {
        let mut inner = self.shared.lock();
        inner.released = inner.released.max(mark);
    }

    fn drop_log(&self) -> Result<(), EngineError> {
        self.shared.lock().drop_log();
        Ok(())
    }

    fn drop_hist_slice(&self, from: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, EngineError> {
        let mut inner = self.shared.lock();
        inner.check("compact")?;
        // A manual compaction writes out what is in memory first.
        if from.is_empty() {
            inner.flush();
        }
        Ok(inner.drop_hist(from, bytes_max, false))
    }

    fn sizes(&self) -> EngineSizes {
        let total = self.shared.lock().live.iter().map(CowMap::weight).sum();
        EngineSizes { total_bytes: total, in_use_bytes: total }
    }

    fn fresh(&self) -> Result<Self, EngineError> {
        let options = self.shared.lock().options;
        Ok(MemoryEngine::new(options))
    }

    fn replace(&mut self, replacement: Self) -> Result<(), EngineError> {
        // In place, so that every clone of the handle, the one a simulation crashes for instance, sees the new rows.
        let (live, durable) = {
            let other = replacement.shared.lock();
            (other.live.clone(), other.durable.clone())
        };
        let mut inner = self.shared.lock();
        inner.check("replace the content")?;
        inner.live = live;
        inner.durable = durable;
        inner.released = -1;
        Ok(())
    }
}
