//! The store: one owner that applies, many readers.
//!
//! Owns: the engine, the state as of the last group, publication of views, flushes and replacement by a snapshot.
//! Called by: the state machine of `raftstore`, from one task. Invariants: the engine write of a group comes first,
//! then the row cache, then the view, then the replies; after an error nothing more is done (latched).

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::apply::{ApplyEntry, Group, GroupResult};
use crate::auth::Login;
use crate::compaction::CompactionJob;
use crate::count_index::CountIndex;
use crate::engine::{EngineBatch, EngineError, EngineSnapshot, Family, KvEngine};
use crate::error::StoreError;
use crate::export::{Export, Installer};
use crate::history::log_rows_since;
use crate::layout::{Fields, local_key, malformed, put_signed};
use crate::lessor::LeaseChange;
use crate::state::State;
use crate::types::{EventKind, LogPosition, Reply, Revision, RevisionEvents};
use crate::view::{Common, ReadView, Reader};

/// The counted index as of some flush, behind the revision it counts.
const COUNTS_NAME: &[u8] = b"counts";
/// The highest mark whose dead rows are gone.
pub(crate) const PHYSICAL_NAME: &[u8] = b"physical";
/// Sizes are asked of the engine after so many bytes, and added up in between.
const SIZES_REFRESH_BYTES: u64 = 1 << 20;
/// A stored index is brought up to date by reading the log, unless it is further behind than this.
const COUNTS_REPLAY_MAX: Revision = 200_000;

/// Sizes of things in memory.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bound of the row cache in bytes; grows only with use. 0 turns it off.
    pub row_cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { row_cache_bytes: 64 << 20 }
    }
}

/// What a group gave.
pub struct Applied<E: KvEngine> {
    /// Per entry, per command.
    pub replies: Vec<Vec<Reply>>,
    /// Every revision of the group, oldest first.
    pub events: Vec<Arc<RevisionEvents>>,
    /// Leases granted and revoked, in order.
    pub leases: Vec<LeaseChange>,
    /// Logins, in order.
    pub logins: Vec<Login>,
    /// The view after the group, already published.
    pub view: Arc<ReadView<E>>,
}

/// A flush that can run on another thread; see [`Store::begin_flush`].
pub struct FlushTicket<E: KvEngine> {
    engine: E,
    flushed: Flushed,
}

/// What a completed flush made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// At least everything up to here.
    pub applied: Option<LogPosition>,
    mark: Revision,
    /// Which data was flushed; a snapshot install in between starts a new one.
    incarnation: u64,
}

impl<E: KvEngine> FlushTicket<E> {
    /// Flushes. Blocks for the disk.
    ///
    /// # Errors
    /// Final.
    pub fn run(self) -> Result<Flushed, StoreError> {
        self.engine.flush()?;
        self.engine.check_background()?;
        Ok(self.flushed)
    }
}

/// See the module.
pub struct Store<E: KvEngine> {
    engine: E,
    options: StoreOptions,
    reader: Reader<E>,
    view: Arc<ReadView<E>>,
    unsized_bytes: u64,
    incarnation: u64,
    latched: bool,
}

impl<E: KvEngine> Store<E> {
    /// Opens what the engine holds; nothing gives a fresh store at revision 1.
    ///
    /// # Errors
    /// The engine, damage, or a format of a newer version.
    pub fn open(engine: E, options: StoreOptions) -> Result<Self, StoreError> {
        let view = Arc::new(open_view(engine.clone(), options)?);
        let reader = Reader { newest: Arc::new(ArcSwap::from(view.clone())) };
        Ok(Store { engine, options, reader, view, unsized_bytes: 0, incarnation: 0, latched: false })
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> Option<LogPosition> {
        self.view.applied()
    }

    /// The membership in force, with the position of its entry.
    pub fn membership(&self) -> Option<(LogPosition, Bytes)> {
        self.view.membership()
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader<E> {
        self.reader.clone()
    }

    /// The view after the last group.
    pub fn view(&self) -> &Arc<ReadView<E>> {
        &self.view
    }

    /// Applies a group of entries in one engine write and publishes the view after it.
    ///
    /// # Errors
    /// Final: the store refuses everything afterwards.
    ///
    /// # Panics
    /// If the entries do not follow the applied position, or a broken invariant is met.
    pub fn apply(&mut self, group: &[ApplyEntry]) -> Result<Applied<E>, StoreError> {
        self.check_usable()?;
        if group.is_empty() {
            let (replies, events, leases) = (Vec::new(), Vec::new(), Vec::new());
            return Ok(Applied { replies, events, leases, logins: Vec::new(), view: self.view.clone() });
        }
        let mut work = Group::new(&self.engine, &self.view);
        // Latched until the group is through: an error, or a panic caught above, leaves no half applied store.
        self.latched = true;
        for entry in group {
            work.apply(entry)?;
        }
        let result = work.finish();
        let applied = self.publish(result)?;
        self.latched = false;
        Ok(applied)
    }

    /// Begins a flush: the ticket may run on another thread while groups are applied. Hand its result to
    /// [`Store::finish_flush`].
    ///
    /// # Errors
    /// Final.
    pub fn begin_flush(&mut self) -> Result<FlushTicket<E>, StoreError> {
        self.check_usable()?;
        let state = &self.view.state;
        // The index goes with the flush, so that opening needs no walk over the keys.
        let mut batch = self.engine.batch();
        let mut row = Vec::new();
        put_signed(state.revision, &mut row);
        self.view.counts.encode(&mut row);
        batch.put(Family::Meta, &local_key(COUNTS_NAME), &row);
        let physical = self.view.common.physical();
        batch.put(Family::Meta, &local_key(PHYSICAL_NAME), &physical.to_be_bytes());
        let flushed = Flushed { applied: state.applied, mark: state.mark, incarnation: self.incarnation };
        self.latch_on_error(|store| Ok(store.engine.write(batch)?))?;
        Ok(FlushTicket { engine: self.engine.clone(), flushed })
    }

    /// Records a completed flush: history up to its mark may go now. Gives the position that is durable.
    ///
    /// # Errors
    /// Final.
    pub fn finish_flush(&mut self, flushed: Flushed) -> Result<Option<LogPosition>, StoreError> {
        self.check_usable()?;
        if flushed.incarnation == self.incarnation {
            self.view.common.flushed(flushed.mark);
            self.latch_on_error(|store| Ok(store.engine.drop_log()?))?;
            self.view.common.refresh_sizes();
        }
        Ok(flushed.applied)
    }

    /// Makes everything applied durable, in place; gives the position. Blocks for the disk.
    ///
    /// # Errors
    /// Final.
    pub fn flush(&mut self) -> Result<Option<LogPosition>, StoreError> {
        let ticket = self.begin_flush()?;
        let flushed = self.latch_on_error(|_| ticket.run())?;
        self.finish_flush(flushed)
    }

    /// The job that takes dead rows out of the engine; runs beside the store.
    pub fn compaction_job(&self) -> CompactionJob<E> {
        CompactionJob::new(self.view.common.clone())
    }

    /// Everything replicated, for a member that lags too far behind.
    pub fn snapshot(&self) -> Export<E> {
        Export::new(self.view.clone()).expect("nothing the newest view needs can be gone")
    }

    /// Begins to receive a snapshot, beside the present data.
    ///
    /// # Errors
    /// The engine; the store itself stays usable.
    pub fn begin_install(&self) -> Result<Installer<E>, StoreError> {
        Installer::new(self.engine.fresh()?)
    }

    /// Replaces everything by the received snapshot in one step: rows, cache, counts, marks and view. Views of the
    /// old data stay readable. Gives the new view, which is already published; its data is durable.
    ///
    /// # Errors
    /// A snapshot that is incomplete, or not ahead of what is applied, leaves the store as it was; an engine error is
    /// final.
    pub fn finish_install(&mut self, installer: Installer<E>) -> Result<Arc<ReadView<E>>, StoreError> {
        self.check_usable()?;
        let received = installer.finish()?;
        if received.applied <= self.applied() {
            return Err(StoreError::SnapshotBehind { snapshot: received.applied, applied: self.applied() });
        }
        assert!(received.revision >= self.view.revision(), "a newer snapshot never has an older revision");
        self.latch_on_error(|store| {
            store.engine.replace(received.engine)?;
            store.view = Arc::new(open_view(store.engine.clone(), store.options)?);
            Ok(())
        })?;
        self.incarnation += 1;
        self.unsized_bytes = 0;
        self.reader.newest.store(self.view.clone());
        Ok(self.view.clone())
    }

    /// [`Store::begin_install`] to [`Store::finish_install`] for chunks that are all at hand.
    ///
    /// # Errors
    /// As those.
    pub fn install(
        &mut self,
        chunks: impl IntoIterator<Item = Bytes>,
    ) -> Result<Arc<ReadView<E>>, StoreError> {
        let mut installer = self.begin_install()?;
        for chunk in chunks {
            installer.chunk(&chunk)?;
        }
        self.finish_install(installer)
    }

    fn publish(&mut self, result: GroupResult<E>) -> Result<Applied<E>, StoreError> {
        let GroupResult { state, mut counts, oversize, overlay, batch, replies, events, leases, logins } =
            result;
        assert!(state.applied > self.view.state.applied, "the applied position only rises");
        assert!(state.revision >= self.view.state.revision, "the revision never decreases");
        assert!(state.mark >= self.view.state.mark && state.mark <= state.revision);
        let written = batch.len_bytes() as u64;
        self.engine.write(batch)?;
        let snapshot = self.engine.snapshot();
        counts.split(oversize, &snapshot)?;
        let common = self.view.common.clone();
        for (key, row) in overlay.into_newest() {
            match row {
                Some(row) => common.cache.insert(&key, &row),
                None => common.cache.remove(&key),
            }
        }
        common.set_mark(state.mark);
        common.add_to_sizes(written);
        self.unsized_bytes += written;
        if self.unsized_bytes >= SIZES_REFRESH_BYTES {
            self.unsized_bytes = 0;
            common.refresh_sizes();
            self.engine.check_background()?;
        }
        self.view = Arc::new(ReadView { common, snapshot, counts, state });
        self.reader.newest.store(self.view.clone());
        Ok(Applied { replies, events, leases, logins, view: self.view.clone() })
    }

    fn check_usable(&self) -> Result<(), StoreError> {
        if self.latched { Err(StoreError::Latched) } else { Ok(()) }
    }

    fn latch_on_error<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = work(self);
        self.latched |= result.is_err();
        result
    }
}

/// Everything derived from what the engine holds, as one value.
fn open_view<E: KvEngine>(engine: E, options: StoreOptions) -> Result<ReadView<E>, StoreError> {
    let snapshot = engine.snapshot();
    let state = State::load(&snapshot)?;
    let counts = open_counts(&snapshot, state.revision)?;
    let physical = snapshot.get(Family::Meta, &local_key(PHYSICAL_NAME), |bytes| {
        bytes.try_into().map(Revision::from_be_bytes).map_err(|_| malformed("physical mark", bytes))
    })?;
    let physical = physical.transpose()?.unwrap_or(-1).min(state.mark);
    let common = Common::new(engine, options.row_cache_bytes, state.mark, physical);
    Ok(ReadView { common, snapshot, counts, state })
}

/// The stored index brought up to date, or a new one.
fn open_counts<S: EngineSnapshot>(snapshot: &S, revision: Revision) -> Result<CountIndex, EngineError> {
    let stored = snapshot.get(Family::Meta, &local_key(COUNTS_NAME), |bytes| {
        let mut fields = Fields(bytes);
        let at = fields.signed().ok_or_else(|| malformed("counted index", bytes))?;
        Ok::<_, EngineError>((at, CountIndex::decode(fields.rest())?))
    })?;
    let Some((at, mut counts)) = stored.transpose()? else { return CountIndex::rebuild(snapshot) };
    if at > revision || revision - at > COUNTS_REPLAY_MAX {
        return CountIndex::rebuild(snapshot);
    }
    // The engine may have flushed by itself later than the index was written: the log tells what changed since,
    // unless it no longer reaches back that far.
    let (mut changes, mut next) = (Vec::new(), at + 1);
    log_rows_since(snapshot, at, revision, |found, _, row| {
        if found == next {
            next += 1;
        } else if found != next - 1 {
            next = Revision::MAX - 1;
        }
        match (row.kind, row.previous) {
            (EventKind::Put, None) => changes.push((row.key.to_vec(), true)),
            (EventKind::Put, Some(_)) => {}
            (EventKind::Delete, _) => changes.push((row.key.to_vec(), false)),
        }
    })?;
    if next != revision + 1 {
        return CountIndex::rebuild(snapshot);
    }
    let mut oversize = Vec::new();
    for (key, created) in changes {
        if created { counts.created(&key, &mut oversize) } else { counts.deleted(&key) }
    }
    counts.split(oversize, snapshot)?;
    Ok(counts)
}
