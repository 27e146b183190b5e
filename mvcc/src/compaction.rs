//! Takes dead rows out of the engine, a slice at a time.
//!
//! Owns: the walk over `hist` that RocksDB would not do by itself: its filter runs only where it compacts anyway, so
//! an idle store would never shrink. Called by: a background task that paces the slices, and by tests.
//! Invariants: works by marks that a flush made durable and that nobody holds; a slice is bounded; a walk that is
//! interrupted, by a restart for instance, starts again and does no harm.

use std::sync::Arc;

use crate::engine::{EngineError, KvEngine};
use crate::types::Revision;
use crate::view::Common;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionProgress {
    /// Everything allowed to go is gone.
    Idle,
    /// A slice was done; there is more.
    Working,
    /// The walk for this mark is complete.
    Completed {
        /// Everything dead at this mark is physically gone.
        mark: Revision,
    },
}

/// See the module. Owns what it needs, so it may live on a thread of its own; after a snapshot install take a new
/// one from the store.
pub struct CompactionJob<E: KvEngine> {
    common: Arc<Common<E>>,
    /// Mark and place of the walk under way.
    walk: Option<(Revision, Vec<u8>)>,
}

impl<E: KvEngine> CompactionJob<E> {
    pub(crate) fn new(common: Arc<Common<E>>) -> Self {
        CompactionJob { common, walk: None }
    }

    /// Does the next slice, looking at about `bytes_max` bytes. Blocks for the disk; the caller waits between slices
    /// to leave the disk to others.
    ///
    /// # Errors
    /// Final.
    pub fn step(&mut self, bytes_max: u64) -> Result<CompactionProgress, EngineError> {
        let released = self.common.release();
        let (mark, from) = match self.walk.take() {
            Some(walk) => walk,
            None if released <= self.common.physical() => return Ok(CompactionProgress::Idle),
            None => (released, Vec::new()),
        };
        match self.common.engine.drop_hist_slice(&from, bytes_max)? {
            Some(next) => {
                self.walk = Some((mark, next));
                Ok(CompactionProgress::Working)
            }
            None => {
                self.common.set_physical(mark);
                self.common.refresh_sizes();
                Ok(CompactionProgress::Completed { mark })
            }
        }
    }

    /// Steps until everything allowed to go is gone.
    ///
    /// # Errors
    /// Final.
    pub fn run(&mut self) -> Result<(), EngineError> {
        while self.step(u64::MAX)? != CompactionProgress::Idle {}
        Ok(())
    }
}
