//! What outlives a member's process: its disk and its engine.
//!
//! Owns: both, how they look after a crash, and the faults of the disk. Called by: [`crate::member`] (start),
//! [`crate::nemesis`] (crashes and faults). Invariant: a process that died keeps no hold on what its successor uses:
//! every death leaves copies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_raftstore::MemberId;
use keelson_wal::SimDisk;
use keelson_wal::disk::{Crash, Fault, OpKind};

use crate::engine::SimEngine;
use crate::planted::Bug;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process is killed; what it wrote to files is in the page cache. The engine has no log of its own, so it goes
    /// back to its last flush all the same.
    Kill,
    /// The machine loses power.
    Power(Crash),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Machine {
    /// Holds the WAL.
    pub disk: SimDisk,
    /// Holds the data.
    pub engine: SimEngine,
    /// How long a sync takes, in microseconds.
    pub sync_us: Arc<AtomicU64>,
    /// A fault was injected: the member may report that it cannot go on.
    pub faulty: bool,
    /// The log was durable up to here, according to the member: it must come back at least to here.
    pub durable_index: u64,
    /// Processes that have ended on it.
    pub lives: u64,
    bug: Option<Bug>,
}

/// How long a sync takes on a healthy disk.
pub(crate) const SYNC_US: u64 = 100;

impl Machine {
    /// An empty one.
    pub(crate) fn new(id: MemberId, seed: u64, options: MemoryOptions, bug: Option<Bug>) -> Self {
        let seed = seed ^ (id << 48);
        Machine::with(SimDisk::new(seed), SimEngine::new(MemoryOptions { seed, ..options }, bug), bug)
    }

    fn with(disk: SimDisk, engine: SimEngine, bug: Option<Bug>) -> Self {
        if bug == Some(Bug::AckBeforeSync) {
            let same = disk.clone();
            disk.set_hook(move |op| {
                if op.kind == OpKind::Sync {
                    same.inject(op.number, Fault::Lost);
                }
            });
        }
        let sync_us = Arc::new(AtomicU64::new(SYNC_US));
        Machine { disk, engine, sync_us, faulty: false, durable_index: 0, lives: 0, bug }
    }

    /// What is left of it.
    pub(crate) fn after(&self, death: Death) -> Machine {
        let disk = match death {
            Death::Kill => self.disk.fork(),
            Death::Power(how) => self.disk.crash(how),
        };
        let left = Machine::with(disk, self.engine.crashed_copy(), self.bug);
        Machine { durable_index: self.durable_index, lives: self.lives + 1, ..left }
    }

    /// Lets `fault` meet one of the next operations on files.
    pub(crate) fn inject(&mut self, after_ops: u64, fault: Fault) {
        self.faulty = true;
        self.disk.inject(self.disk.ops() + after_ops, fault);
    }

    /// The engine fails from now on.
    pub(crate) fn fail_engine(&mut self) {
        self.faulty = true;
        self.engine.fail();
    }

    /// Sets how long a sync takes from now on.
    pub(crate) fn set_sync_us(&self, sync_us: u64) {
        self.sync_us.store(sync_us, Ordering::Relaxed);
    }
}
