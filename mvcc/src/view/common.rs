//! What all views of the same data share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::engine::{EngineSizes, KvEngine};
use crate::range::PageCounts;
use crate::row_cache::RowCache;
use crate::types::Revision;

/// Shared by all views of the same data; a snapshot install starts a new one.
pub(crate) struct Common<E: KvEngine> {
    pub(crate) engine: E,
    pub(crate) cache: RowCache,
    pub(crate) pages: PageCounts,
    /// Compaction mark as of the last applied group, whatever view a reader holds.
    mark: AtomicI64,
    /// Mark up to which dead rows are physically gone.
    physical: AtomicI64,
    total_bytes: AtomicU64,
    in_use_bytes: AtomicU64,
    pins: Mutex<Pins>,
}

/// Marks that must not be overtaken while somebody reads everything.
struct Pins {
    released: Revision,
    /// Mark of the last completed flush.
    flushed: Revision,
    held: BTreeMap<Revision, u32>,
}

/// While it lives, nothing that a view at its mark needs vanishes.
pub(crate) struct Pin<E: KvEngine> {
    common: Arc<Common<E>>,
    mark: Revision,
}

impl<E: KvEngine> Common<E> {
    /// `mark`: as opened, so it is flushed.
    pub(crate) fn new(engine: E, cache_bytes_max: usize, mark: Revision, physical: Revision) -> Arc<Self> {
        let common = Arc::new(Common {
            cache: RowCache::new(cache_bytes_max),
            pages: PageCounts::default(),
            mark: AtomicI64::new(mark),
            physical: AtomicI64::new(physical),
            total_bytes: AtomicU64::new(0),
            in_use_bytes: AtomicU64::new(0),
            pins: Mutex::new(Pins { released: -1, flushed: -1, held: BTreeMap::new() }),
            engine,
        });
        common.flushed(mark);
        common.refresh_sizes();
        common
    }

    pub(crate) fn mark(&self) -> Revision {
        self.mark.load(Ordering::SeqCst)
    }

    /// Apply only, before anything is dropped because of it.
    pub(crate) fn set_mark(&self, mark: Revision) {
        let before = self.mark.swap(mark, Ordering::SeqCst);
        assert!(before <= mark, "the compaction mark never goes back");
    }

    pub(crate) fn physical(&self) -> Revision {
        self.physical.load(Ordering::SeqCst)
    }

    pub(crate) fn set_physical(&self, mark: Revision) {
        self.physical.fetch_max(mark, Ordering::SeqCst);
    }

    /// A flush has made `mark` durable: what it allows may go, as far as nobody holds it.
    pub(crate) fn flushed(&self, mark: Revision) {
        assert!(mark <= self.mark(), "only an applied mark can be flushed");
        self.pins.lock().flushed = mark;
        self.release();
    }

    /// Hands the engine the newest mark it may drop by; gives that mark.
    pub(crate) fn release(&self) -> Revision {
        let mut pins = self.pins.lock();
        let held = pins.held.first_key_value().map_or(Revision::MAX, |(&mark, _)| mark);
        let allowed = pins.flushed.min(held);
        if allowed > pins.released {
            pins.released = allowed;
            // Under the lock, so that a pin taken now sees what was released.
            self.engine.release_history(allowed);
        }
        pins.released
    }

    /// Holds everything a view at `mark` needs; `None` if some of it may already be gone.
    pub(crate) fn pin(self: &Arc<Self>, mark: Revision) -> Option<Pin<E>> {
        let mut pins = self.pins.lock();
        if pins.released > mark {
            return None;
        }
        *pins.held.entry(mark).or_default() += 1;
        Some(Pin { common: self.clone(), mark })
    }

    pub(crate) fn sizes(&self) -> EngineSizes {
        EngineSizes {
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            in_use_bytes: self.in_use_bytes.load(Ordering::Relaxed),
        }
    }

    /// Between two looks at the engine: so many bytes were written.
    pub(crate) fn add_to_sizes(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.in_use_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn refresh_sizes(&self) {
        let sizes = self.engine.sizes();
        self.total_bytes.store(sizes.total_bytes, Ordering::Relaxed);
        self.in_use_bytes.store(sizes.in_use_bytes.min(sizes.total_bytes), Ordering::Relaxed);
    }
}

impl<E: KvEngine> Drop for Pin<E> {
    fn drop(&mut self) {
        {
            let mut pins = self.common.pins.lock();
            let count = pins.held.get_mut(&self.mark).expect("a pin is counted while it lives");
            *count -= 1;
            if *count == 0 {
                pins.held.remove(&self.mark);
            }
        }
        self.common.release();
    }
}
