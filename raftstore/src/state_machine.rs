//! openraft's state machine on the store: applies groups, flushes, gives and takes snapshots.
//!
//! Owns: the store, and the order of one group: own WAL durable, engine write and view (`mvcc`), hub, applied index,
//! replies. Called by: openraft's state machine task, one call at a time.
//!
//! # Invariants
//! - A group is applied only when this member's own WAL is durable through its last index (openraft applies what is
//!   committed, and that may be by others' disks alone). So whatever a flush makes durable, the log has: asserted at
//!   each flush. Without it a crash could leave an engine ahead of its log.
//! - Apply is a function of state and entry. A batch that does not decode stops the member: the others would either
//!   stop too or disagree.
//! - Everything ready is applied in one engine write, bounded by [`GroupOptions`].
//!
//! ```text
//! WAL durable | engine write + view | hub.publish | lease observer | applied index | replies of the whole group
//! ```

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keelson_mvcc::{
    ApplyEntry, CompactionJob, FlushTicket, Flushed, Installer, KvEngine, Store, StoreError,
    codec as commands,
};
use keelson_watch::Hub;
use openraft::async_runtime::AsyncRuntime;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{Instant, OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::{Mutex, RwLock};
use tracing::debug_span;

use crate::batch::{self, BatchId};
use crate::codec::MembershipRow;
use crate::consensus::ApplyObserver;
use crate::facts::Facts;
use crate::log_store::Log;
use crate::proposer::Proposals;
use crate::snapshot::SnapshotData;
use crate::types::{LogId, MemberId, Payload, SnapshotMeta, StoredMembership, Types, log_id, position};

/// Bounds of one group, that is, of one engine write.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Payload bytes. One write of this size delays a reader of the new view by a few milliseconds at most.
    pub bytes_max: usize,
    /// Entries.
    pub entries_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { bytes_max: 4 << 20, entries_max: 4096 }
    }
}

/// Where flushes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// On a thread of their own.
    Thread,
    /// Where they are asked for: simulation has no threads, and the memory engine does not block.
    Inline,
}

/// How far the engine is, for the keeper.
#[derive(Default)]
pub(crate) struct FlushState {
    /// Payload bytes applied since the last flush began.
    pub(crate) unflushed_bytes: AtomicU64,
    /// Index plus one up to which the engine is durable.
    pub(crate) flushed_next: AtomicU64,
    /// The compaction mark that was applied last; history below it may go once it is flushed.
    pub(crate) mark: AtomicI64,
    /// A walk through compacted history runs.
    pub(crate) compacting: AtomicBool,
    /// Snapshots installed.
    pub(crate) installed: AtomicU64,
    done: Mutex<Option<Flushed>>,
}

impl FlushState {
    /// A flush has completed and waits for its owner to take note.
    pub(crate) fn has_finished(&self) -> bool {
        self.done.lock().is_some()
    }

    /// No completed flush is waiting. (Two at once are prevented by openraft, which builds one snapshot at a time.)
    pub(crate) fn may_begin(&self) -> bool {
        self.done.lock().is_none()
    }
}

/// Who is told of leases, once somebody wants to know.
pub(crate) type SharedApplyObserver = Arc<RwLock<Option<Arc<dyn ApplyObserver>>>>;

/// What the state machine shares with the rest of the member.
pub(crate) struct Surroundings {
    pub(crate) member: MemberId,
    pub(crate) log: Arc<Log>,
    pub(crate) applied: crate::progress::Progress,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) links: Arc<crate::net::client::Links>,
    pub(crate) hub: Hub,
    pub(crate) apply_observer: SharedApplyObserver,
    pub(crate) flush: Arc<FlushState>,
    pub(crate) group: GroupOptions,
    pub(crate) blocking: Blocking,
    /// Set once Raft runs: until then a snapshot is a position only.
    pub(crate) running: AtomicBool,
    /// Advances when the state machine is gone: nothing touches the store after that.
    pub(crate) machine_gone: crate::progress::Progress,
}

/// See the module.
pub struct StateMachine<RT, E: KvEngine> {
    store: Store<E>,
    row: MembershipRow,
    around: Arc<Surroundings>,
    /// Position and membership as of the last completed flush.
    flushed: SnapshotMeta,
    /// The same for a flush that runs.
    flushing: Option<SnapshotMeta>,
    runtime: PhantomData<fn() -> RT>,
}

/// Runs a flush beside the applying.
pub struct Flusher<RT, E: KvEngine> {
    ticket: Option<FlushTicket<E>>,
    meta: SnapshotMeta,
    around: Arc<Surroundings>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT, E: KvEngine> Drop for StateMachine<RT, E> {
    fn drop(&mut self) {
        self.around.machine_gone.advance(1);
    }
}

impl<RT: AsyncRuntime, E: KvEngine> StateMachine<RT, E> {
    pub(crate) fn new(store: Store<E>, row: MembershipRow, around: Arc<Surroundings>) -> Self {
        let flushed = SnapshotMeta {
            last_log_id: store.applied().as_ref().map(log_id),
            last_membership: row.stored.clone(),
        };
        let next = store.applied().map_or(0, |applied| applied.index + 1);
        around.flush.flushed_next.store(next, Ordering::Release);
        around.flush.mark.store(store.view().compacted(), Ordering::Release);
        StateMachine { store, row, around, flushed, flushing: None, runtime: PhantomData }
    }

    /// The membership row kept with the data of `store`; the default one for a fresh store.
    ///
    /// # Errors
    /// A row of another format.
    pub fn membership_row(store: &Store<E>) -> io::Result<MembershipRow> {
        match store.membership() {
            None => Ok(MembershipRow::default()),
            Some((_, bytes)) => MembershipRow::decode(&bytes).map_err(io::Error::other),
        }
    }

    /// Begins to receive a snapshot beside the present data.
    pub(crate) fn begin_install(&self) -> Result<Installer<E>, StoreError> {
        self.store.begin_install()
    }

    /// What drops compacted history from the present data.
    pub(crate) fn compaction_job(&self) -> CompactionJob<E> {
        self.store.compaction_job()
    }

    /// Takes note of a flush that has completed.
    pub(crate) fn finish_flush(&mut self) -> Result<(), StoreError> {
        let Some(flushed) = self.around.flush.done.lock().take() else { return Ok(()) };
        let durable = self.store.finish_flush(flushed)?;
        if let Some(meta) = self.flushing.take() {
            debug_assert!(durable.is_none() || durable.map(|durable| log_id(&durable)) == meta.last_log_id);
            self.note_flushed(meta);
        }
        Ok(())
    }

    /// Flushes in place, at the end.
    pub(crate) fn flush_now(&mut self) -> Result<(), StoreError> {
        self.finish_flush()?;
        let meta = self.meta();
        self.check_log_is_durable();
        self.store.flush()?;
        self.note_flushed(meta);
        Ok(())
    }

    fn note_flushed(&mut self, meta: SnapshotMeta) {
        if meta.last_log_id > self.flushed.last_log_id {
            let next = meta.last_log_id.map_or(0, |last| last.index + 1);
            self.around.flush.flushed_next.fetch_max(next, Ordering::AcqRel);
            self.flushed = meta;
        }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.store.applied().as_ref().map(log_id),
            last_membership: self.row.stored.clone(),
        }
    }

    /// The first invariant, at the moment it matters.
    fn check_log_is_durable(&self) {
        let applied_next = self.store.applied().map_or(0, |applied| applied.index + 1);
        let durable_next = self.around.log.durable().next();
        assert!(
            applied_next <= durable_next,
            "applied up to {applied_next}, but the log is durable up to {durable_next}"
        );
    }

    fn begin_flush(&mut self) -> Flusher<RT, E> {
        self.check_log_is_durable();
        let meta = self.meta();
        self.around.flush.unflushed_bytes.store(0, Ordering::Release);
        // An error is met again by the ticket that is missing.
        let ticket = self.finish_flush().and_then(|()| self.store.begin_flush()).ok();
        self.flushing = Some(meta.clone());
        Flusher { ticket, meta, around: self.around.clone(), runtime: PhantomData }
    }

    async fn apply_group(&mut self, group: Group<RT>) -> io::Result<()> {
        let Group { entries, batches, memberships, responders, bytes } = group;
        let last = entries.last().expect("a group holds entries").position();
        let around = self.around.clone();
        around.log.durable().wait(last.index + 1).await;
        self.finish_flush().map_err(io::Error::other)?;

        let mark_before = self.store.view().compacted();
        let began = RT::Instant::now();
        let applied = debug_span!("mvcc.apply", index = last.index, entries = entries.len())
            .in_scope(|| self.store.apply(&entries))
            .map_err(io::Error::other)?;
        let took = RT::Instant::now().saturating_duration_since(began);
        around.flush.unflushed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        debug_span!("watch.publish", revision = applied.view.revision())
            .in_scope(|| around.hub.publish(&applied.events, applied.view.revision()));
        if let Some(observer) = &*around.apply_observer.read() {
            observer.group_written(took, entries.len(), last.index);
            if !applied.leases.is_empty() {
                observer.applied(&applied.leases);
            }
            if !applied.logins.is_empty() {
                observer.logged_in(&applied.logins);
            }
        }
        if applied.view.compacted() != mark_before {
            around.flush.mark.store(applied.view.compacted(), Ordering::Release);
            around.hub.compacted(applied.view.compacted());
        }
        if let Some(row) = memberships {
            self.around.addresses(&row);
            if row.stored.voter_ids().eq([around.member])
                && let Some(at) = row.stored.log_id()
            {
                around.log.set_sole_voter(*at);
            }
            around.facts.set_membership(row, around.member);
        }
        around.applied.advance(last.index + 1);
        let _replying = debug_span!("raft.reply", index = last.index).entered();
        let mut replies = applied.replies.into_iter();
        let mut position = 0;
        around.proposals.applied(batches.into_iter().map(|(at, id)| {
            let replies = replies.nth(at - position).expect("replies per entry");
            position = at + 1;
            (id, replies)
        }));
        for responder in responders {
            responder.send(());
        }
        Ok(())
    }
}

impl Surroundings {
    /// Where everybody is, according to the membership.
    pub(crate) fn addresses(&self, row: &MembershipRow) {
        for (id, node) in row.stored.nodes().filter(|(id, _)| **id != self.member) {
            self.links.learn(*id, node);
        }
        // Whoever was removed is still answered, and is told so when it asks; but nothing is sent to it.
        row.removed.iter().for_each(|id| self.links.forget(*id));
    }
}

/// Entries to apply in one engine write.
struct Group<RT: AsyncRuntime> {
    entries: Vec<ApplyEntry>,
    /// Which entries are batches: position in `entries`, identity.
    batches: Vec<(usize, BatchId)>,
    /// The membership after the group, if it changes.
    memberships: Option<MembershipRow>,
    responders: Vec<openraft::storage::ApplyResponder<Types<RT>>>,
    bytes: usize,
}

impl<RT: AsyncRuntime> Group<RT> {
    fn new() -> Self {
        Group {
            entries: Vec::new(),
            batches: Vec::new(),
            memberships: None,
            responders: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, row: &mut MembershipRow, log_id: LogId, payload: Payload) -> io::Result<()> {
        let position = position(&log_id);
        let entry = match payload {
            Payload::Blank => ApplyEntry::Blank { position },
            Payload::Normal(batch) => {
                let (id, encoded) = batch::decode(&batch.0).map_err(|error| undecodable(&log_id, error))?;
                self.bytes += batch.0.len();
                self.batches.push((self.entries.len(), id));
                let commands = encoded.into_iter().map(decode_command).collect::<Result<_, _>>();
                ApplyEntry::Commands {
                    position,
                    commands: commands.map_err(|error| undecodable(&log_id, error))?,
                }
            }
            Payload::Membership(membership) => {
                *row = row.next(log_id, membership);
                self.memberships = Some(row.clone());
                ApplyEntry::Membership { position, bytes: row.encode() }
            }
        };
        self.entries.push(entry);
        Ok(())
    }
}

fn decode_command(bytes: Bytes) -> Result<keelson_mvcc::Command, commands::DecodeError> {
    commands::decode(bytes)
}

fn undecodable(log_id: &LogId, error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(format!("entry {log_id} cannot be applied by this version: {error}"))
}

impl<RT: AsyncRuntime, E: KvEngine> RaftStateMachine<Types<RT>> for StateMachine<RT, E> {
    type SnapshotData = SnapshotData<E>;
    type SnapshotBuilder = Flusher<RT, E>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.store.applied().as_ref().map(log_id), self.row.stored.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types<RT>>>> + Unpin + OptionalSend,
    {
        let mut more = true;
        while more {
            let mut group = Group::new();
            while group.bytes < self.around.group.bytes_max
                && group.entries.len() < self.around.group.entries_max
            {
                let Some(item) = entries.next().await else {
                    more = false;
                    break;
                };
                let (entry, responder) = item?;
                group.push(&mut self.row, entry.log_id, entry.payload)?;
                group.responders.extend(responder);
            }
            if !group.entries.is_empty() {
                self.apply_group(group).await?;
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Flusher<RT, E>> {
        Some(self.begin_flush())
    }

    async fn get_snapshot_builder(&mut self) -> Flusher<RT, E> {
        self.begin_flush()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData<E>) -> io::Result<()> {
        let SnapshotData::Received(installer) = snapshot else {
            return Err(io::Error::other("only a received snapshot can be installed"));
        };
        let view = self.store.finish_install(*installer).map_err(io::Error::other)?;
        self.row = Self::membership_row(&self.store)?;
        let last = meta.last_log_id.expect("a snapshot ends somewhere");
        assert_eq!(view.applied().as_ref().map(log_id), Some(last), "the data ends where its head said");
        self.flushing = None;
        self.note_flushed(self.meta());
        // The data is durable and takes the place of the log up to here.
        self.around.log.durable().advance(last.index + 1);
        self.around.flush.mark.store(view.compacted(), Ordering::Release);
        self.around.flush.installed.fetch_add(1, Ordering::Relaxed);
        self.around.hub.reset(view.revision(), view.compacted());
        self.around.addresses(&self.row);
        self.around.log.unset_sole_voter();
        self.around.facts.set_membership(self.row.clone(), self.around.member);
        self.around.applied.advance(last.index + 1);
        self.around.proposals.installed(last.index + 1);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<
        Option<
            Snapshot<crate::types::CommittedLeaderId, MemberId, crate::types::MemberNode, SnapshotData<E>>,
        >,
    > {
        if !self.around.running.load(Ordering::Acquire) {
            // At the start: says how far the engine is durable.
            let meta = self.flushed.clone();
            return Ok(meta
                .last_log_id
                .is_some()
                .then_some(Snapshot { meta, snapshot: SnapshotData::Flushed }));
        }
        let meta = self.meta();
        if meta.last_log_id.is_none() {
            return Ok(None);
        }
        let export = SnapshotData::Export(Box::new(self.store.snapshot()));
        Ok(Some(Snapshot { meta, snapshot: export }))
    }
}

impl<RT: AsyncRuntime, E: KvEngine> RaftSnapshotBuilder<Types<RT>> for Flusher<RT, E> {
    type SnapshotData = SnapshotData<E>;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<
        Snapshot<crate::types::CommittedLeaderId, MemberId, crate::types::MemberNode, SnapshotData<E>>,
    > {
        let ticket =
            self.ticket.take().ok_or_else(|| io::Error::other("the store does not flush any more"))?;
        let flushed = match self.around.blocking {
            Blocking::Inline => ticket.run(),
            Blocking::Thread => RT::spawn_blocking(move || ticket.run()).await?,
        };
        let flushed = flushed.map_err(io::Error::other)?;
        *self.around.flush.done.lock() = Some(flushed);
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotData::Flushed })
    }
}
