//! The log itself: a plain value, driven by calls, without threads or clock.
//!
//! Owns: the active segment, the state accepted and the state durable, the latch. Invariants:
//! - only one block is ever not synced, and it is the last one of the chain;
//! - nothing is in the index that is not durable;
//! - after a failed write or sync every later call fails: what is on disk is unknown until it is read again.
//!
//! Called by: the writer (thread or task). Source: group commit and the latch as in etcd's WAL and redb.

use std::path::PathBuf;
use std::sync::Arc;

use crate::block::{BlockBuffer, FLAG_SEAL};
use crate::disk::Disk;
use crate::error::{ReadError, WalError};
use crate::header::BODY_OFFSET;
use crate::index::{Edit, SharedIndex, lock};
use crate::meta::Meta;
use crate::options::Options;
use crate::prepare::{PrepareDone, PrepareJob};
use crate::reader::WalReader;
use crate::record::{EntryRecord, Op};
use crate::segment::{Segment, SegmentPlan, Spare};
use crate::stage::{Pending, Staged};

/// What `Wal::stage` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The group is written but not durable: `Wal::commit` must follow before anything else.
    Written,
    /// Nothing in the group needs durability; it was taken note of and goes out with the next block.
    Noted,
    /// The next segment is being prepared by a job that is out: finish it, then stage again. Nothing changed.
    AwaitPrepare,
}

/// What one sync made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Bytes that were written for it.
    pub bytes: u64,
    /// Everything up to this index is durable or purged; `None` for a log that is empty.
    pub through: Option<u64>,
}

/// Room for the future, as an operator should see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The last attempt to make a segment found the disk full. Appends still work until the segments at hand
    /// are used up; raise the alarm now.
    pub low: bool,
    /// Bytes that can still be appended without another file.
    pub room_bytes: u64,
}

/// The write-ahead log. Open it with `Wal::open`.
pub struct Wal<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) index: SharedIndex<D::File>,
    pub(crate) active: Arc<Segment<D::File>>,
    /// Where the next block starts in the active segment.
    pub(crate) offset: u64,
    /// Number and link of the last block.
    pub(crate) number: u64,
    pub(crate) link: u32,
    /// Includes what is pending.
    pub(crate) accepted: Meta,
    pub(crate) durable: Meta,
    pub(crate) next: Option<Segment<D::File>>,
    pub(crate) spares: Vec<Spare<D::File>>,
    pub(crate) reserve: Option<Spare<D::File>>,
    pub(crate) released: Vec<Arc<Segment<D::File>>>,
    pub(crate) lanes: Lanes,
    _lock: D::Lock,
}

/// The parts of the log that start out empty.
#[derive(Default)]
pub(crate) struct Lanes {
    pub(crate) pending: Pending,
    pub(crate) staged: Option<Staged>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) buffer: BlockBuffer,
    pub(crate) latched: Option<WalError>,
    /// The last block is a seal.
    pub(crate) sealed: bool,
    /// A prepare job is out.
    pub(crate) preparing: bool,
    /// The disk was full when a file was last made.
    pub(crate) low: bool,
    /// The active segment is the reserve: appends are refused until there is another one.
    pub(crate) on_reserve: bool,
}

/// The pieces recovery has found, in the order of `Wal`'s fields.
pub(crate) struct Parts<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) index: SharedIndex<D::File>,
    pub(crate) active: Arc<Segment<D::File>>,
    pub(crate) offset: u64,
    pub(crate) number: u64,
    pub(crate) link: u32,
    pub(crate) meta: Meta,
    pub(crate) next: Option<Segment<D::File>>,
    pub(crate) spares: Vec<Spare<D::File>>,
    pub(crate) reserve: Option<Spare<D::File>>,
    /// The last block is a seal.
    pub(crate) sealed: bool,
    pub(crate) lock: D::Lock,
}

impl<D: Disk> Wal<D> {
    pub(crate) fn from_parts(parts: Parts<D>) -> Self {
        let released = lock(&parts.index).release(parts.active.sequence);
        Wal {
            disk: parts.disk,
            dir: parts.dir,
            options: parts.options,
            index: parts.index,
            active: parts.active,
            offset: parts.offset,
            number: parts.number,
            link: parts.link,
            accepted: parts.meta.clone(),
            durable: parts.meta,
            next: parts.next,
            spares: parts.spares,
            reserve: parts.reserve,
            released,
            lanes: Lanes { sealed: parts.sealed, ..Lanes::default() },
            _lock: parts.lock,
        }
    }

    /// Writes one group: one block, one write, one sync, if anything in it needs durability.
    ///
    /// # Errors
    /// Any error but `NoSpace` is latched. On any error nothing of the group may be acknowledged.
    pub fn write(&mut self, ops: &[Op]) -> Result<(), WalError> {
        match self.stage(ops)? {
            Stage::Written => self.commit().map(|_| ()),
            Stage::Noted => Ok(()),
            Stage::AwaitPrepare => panic!("a prepare job is out: give it back before writing"),
        }
    }

    /// First half of `write`: everything but the sync.
    ///
    /// # Errors
    /// As `write`.
    pub fn stage(&mut self, ops: &[Op]) -> Result<Stage, WalError> {
        self.check_latch()?;
        assert!(self.lanes.staged.is_none(), "the previous group was staged and not committed");
        if !ops.iter().any(Op::needs_sync) {
            let noted = self.note(ops);
            return self.latch(noted).map(|()| Stage::Noted);
        }
        let staged = self.stage_block(ops, 0);
        match staged {
            // Nothing was touched; votes may still go through.
            Err(error @ WalError::NoSpace { .. }) => Err(error),
            other => self.latch(other),
        }
    }

    /// Second half of `write`: the sync. Afterwards the group is durable and can be read back.
    ///
    /// # Errors
    /// As `write`.
    ///
    /// # Panics
    /// If nothing is staged.
    pub fn commit(&mut self) -> Result<Synced, WalError> {
        self.check_latch()?;
        let staged = self.lanes.staged.take().expect("commit follows a stage that wrote");
        let synced = self.active.sync();
        self.latch(synced)?;
        self.offset = staged.next_offset;
        self.link = staged.link;
        self.lanes.sealed = staged.seal;
        self.lanes.pending = Pending::default();
        self.accepted = staged.meta;
        self.durable.clone_from(&self.accepted);
        let mut index = lock(&self.index);
        for edit in self.lanes.edits.drain(..) {
            index.apply(edit);
        }
        // Purges and truncations are durable now, so files they emptied may go.
        self.released.extend(index.release(self.active.sequence));
        debug_assert!(self.durable.is_empty() || index.next() == self.durable.next);
        drop(index);
        Ok(Synced { bytes: staged.bytes, through: self.durable.through() })
    }

    /// Whether the last block is a seal and nothing noted waits for a block.
    pub fn is_sealed(&self) -> bool {
        self.lanes.sealed && self.lanes.pending.is_empty()
    }

    /// Gives the last block a successor and makes noted operations durable; nothing if that is so already.
    /// Call it when the log has been idle for a moment, and at the end.
    ///
    /// # Errors
    /// As `write`.
    pub fn seal(&mut self) -> Result<Option<Synced>, WalError> {
        self.check_latch()?;
        if self.is_sealed() {
            return Ok(None);
        }
        let staged = match self.stage_block(&[], FLAG_SEAL) {
            Err(error @ WalError::NoSpace { .. }) => Err(error),
            other => self.latch(other),
        };
        match staged? {
            Stage::Written => self.commit().map(Some),
            // The next segment will be ready soon, and its first block is a successor as well.
            Stage::AwaitPrepare | Stage::Noted => Ok(None),
        }
    }

    /// Entries of `range`, as `WalReader::read`.
    ///
    /// # Errors
    /// As `WalReader::read`.
    pub fn read(&self, range: std::ops::Range<u64>, bytes_max: u64) -> Result<Vec<EntryRecord>, ReadError> {
        self.reader().read(range, bytes_max)
    }

    /// A handle that reads entries back while the log is written elsewhere.
    pub fn reader(&self) -> WalReader<D> {
        WalReader::new(self.index.clone())
    }

    /// Everything up to this index is durable or purged; noted truncations count at once.
    pub fn durable_through(&self) -> Option<u64> {
        self.accepted.through()
    }

    /// How much room is left.
    pub fn space(&self) -> Space {
        let mut room_bytes = self.active.length().saturating_sub(self.offset);
        if self.lanes.on_reserve {
            room_bytes = 0;
        }
        room_bytes += self.next.as_ref().map_or(0, |next| next.length() - BODY_OFFSET);
        Space { low: self.lanes.low, room_bytes }
    }

    /// Retires purged segments and makes the next one ready, on this thread.
    ///
    /// # Errors
    /// As `finish_prepare`.
    pub fn prepare(&mut self) -> Result<(), WalError> {
        self.lanes.low = false;
        match self.take_prepare_job() {
            Some(job) => self.finish_prepare(job.run()),
            None => Ok(()),
        }
    }

    /// Forgets that the disk was full, so that the next `take_prepare_job` tries again.
    pub fn retry_space(&mut self) {
        self.lanes.low = false;
    }

    /// Work that should be done soon, on any thread, if there is some and none is out. After a full disk there
    /// is none until segments are purged or `retry_space` is called.
    pub fn take_prepare_job(&mut self) -> Option<PrepareJob<D>> {
        let lanes = &mut self.lanes;
        if lanes.preparing || lanes.latched.is_some() || lanes.staged.is_some() {
            return None;
        }
        let wants_next = self.next.is_none();
        let wants_reserve = self.reserve.is_none() && self.options.reserve_bytes > 0;
        let wants_files = (wants_next || wants_reserve) && !lanes.low;
        if self.released.is_empty() && !wants_files {
            return None;
        }
        lanes.preparing = true;
        let bytes = self.options.bytes_after(self.active.length());
        let next = wants_next.then(|| self.plan(self.active.sequence + 1, bytes));
        let reserve = wants_reserve.then(|| (self.options.reserve_bytes, (self.options.salt)()));
        Some(PrepareJob {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            released: std::mem::take(&mut self.released),
            spares: std::mem::take(&mut self.spares),
            spare_bytes: self.options.segment_bytes,
            next,
            reserve,
        })
    }

    /// Takes the result of a job back.
    ///
    /// # Errors
    /// Latches any error of the job but a full disk, which only lowers `space`.
    pub fn finish_prepare(&mut self, done: PrepareDone<D>) -> Result<(), WalError> {
        assert!(self.lanes.preparing, "no prepare job is out");
        self.lanes.preparing = false;
        self.lanes.low = done.full;
        self.spares = done.spares;
        if done.next.is_some() {
            assert!(self.next.is_none());
            self.next = done.next;
        }
        if done.reserve.is_some() {
            self.reserve = done.reserve;
        }
        self.latch(done.result)
    }

    pub(crate) fn plan(&mut self, sequence: u64, bytes: u64) -> SegmentPlan {
        SegmentPlan {
            identity: self.options.identity,
            sequence,
            bytes,
            segment_salt: (self.options.salt)(),
            file_salt: (self.options.salt)(),
            block_align_bytes: self.options.block_align_bytes,
        }
    }

    fn check_latch(&self) -> Result<(), WalError> {
        self.lanes.latched.clone().map_or(Ok(()), Err)
    }

    fn latch<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &result {
            // The first error is the cause; later ones follow from it.
            self.lanes.latched.get_or_insert_with(|| error.clone());
        }
        result
    }
}
