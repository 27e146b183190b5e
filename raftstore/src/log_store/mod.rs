//! openraft's log on the WAL: the newest entries in memory, everything on disk, nothing waited for but votes.
//!
//! Owns: the order of operations towards the WAL, and what of the log is in memory. Called by: openraft (core,
//! replication tasks, apply). Submodules: [`tail`] (entries in memory), [`in_flight`] (what is not durable yet),
//! [`sizes`] (bytes of the log by index), [`device`] (the port to the WAL and its two drivers).
//!
//! # Invariants
//! - One queue for entries, votes, cuts and purges, in the order openraft gives them.
//! - `append` returns when the entries can be read; its callback comes when they are durable, in order of submission.
//! - `save_vote` returns when the vote is durable, and only then does a reader see it.
//! - `truncate_after`, `purge` and `save_committed` never wait.
//! - purged <= durable <= last; an entry leaves memory only when it is durable.
//!
//! Cost of an append of N entries: N pointer copies, one queue operation, one lock. Source: openraft's contract in
//! `storage/v2/raft_log_storage.rs`, and its `docs/protocol/io_ordering.md` for votes and entries in one order.

pub mod device;
mod in_flight;
mod open;
mod sizes;
mod tail;

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::Stream;
use keelson_wal::{EntryRecord, Op};
use openraft::async_runtime::AsyncRuntime;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::codec;
use crate::progress::Progress;
use crate::types::{Entry, LogId, Payload, Types, Vote};
use device::LogDevice;
use in_flight::InFlight;
use sizes::Sizes;
use tail::Tail;

/// Bounds of the log in memory and of one read.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Entries in memory, in payload bytes: enough that a follower that was away for seconds is fed from memory.
    pub tail_bytes_max: usize,
    /// One append request, in payload bytes: large enough to amortise a round trip, small enough not to hold up
    /// acknowledgements.
    pub read_bytes_max: usize,
    /// The length of the log is known to this many bytes: 1/64 of what is kept for slow followers. So is where it may
    /// be cut.
    pub mark_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { tail_bytes_max: 16 << 20, read_bytes_max: 2 << 20, mark_bytes: 1 << 20 }
    }
}

/// What all handles of one log share.
pub struct Log {
    device: Arc<dyn LogDevice>,
    options: LogOptions,
    clock: Clock,
    state: Mutex<State>,
    durable: Progress,
    committed_next: AtomicU64,
    /// See [`Log::is_sole_voter`].
    sole_voter: AtomicBool,
    /// First index that was not in the log when it was opened, lowered where the log is cut: see `ready`.
    recovered_next: AtomicU64,
}

struct State {
    tail: Tail,
    /// Index of the first entry that is not purged.
    first: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    /// The newest vote this member was asked to save: it may not be durable yet, but nobody has an answer before it is.
    promised: Option<Vote>,
    committed_at_open: Option<LogId>,
    committed_unnoted: Option<LogId>,
    in_flight: InFlight,
    sizes: Sizes,
    /// Index of the newest entry that may be a membership, plus one: the last one when the log was opened, until another
    /// is appended.
    membership_next: u64,
}

/// openraft's handle of the log; also its reader.
pub struct LogStore<RT> {
    log: Arc<Log>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT> Clone for LogStore<RT> {
    fn clone(&self) -> Self {
        LogStore { log: self.log.clone(), runtime: PhantomData }
    }
}

impl<RT> LogStore<RT> {
    /// A handle of `log`.
    pub fn new(log: Arc<Log>) -> Self {
        LogStore { log, runtime: PhantomData }
    }
}

impl Log {
    /// Index up to which entries are durable, plus one.
    pub fn durable(&self) -> &Progress {
        &self.durable
    }

    /// Index up to which entries are known to be committed, plus one.
    pub fn committed_next(&self) -> u64 {
        self.committed_next.load(Ordering::Relaxed)
    }

    /// Index of the last entry, plus one.
    pub fn next(&self) -> u64 {
        self.state.lock().next()
    }

    /// Nothing was ever written to it.
    pub fn is_fresh(&self) -> bool {
        let state = self.state.lock();
        state.last.is_none() && state.vote.is_none()
    }

    /// The term of the last vote.
    pub fn vote_term(&self) -> u64 {
        self.state.lock().vote.map_or(0, |vote| vote.leader_id.term)
    }

    /// The newest vote given, or about to be given.
    pub fn promised(&self) -> Option<Vote> {
        self.state.lock().promised
    }

    /// This member is the only voter, and was at the last membership in its log: nobody else can have acknowledged
    /// anything that is not applied here.
    ///
    /// Unset before a newer membership can leave this member, so whoever reads it set knows that no other leader exists.
    pub fn is_sole_voter(&self) -> bool {
        self.sole_voter.load(Ordering::Acquire)
    }

    /// The membership at `at` is committed and names this member as the only voter.
    pub fn set_sole_voter(&self, at: LogId) {
        // Under the lock, so that it does not overtake a membership that is being appended.
        let state = self.state.lock();
        if state.membership_next <= at.index + 1 {
            self.sole_voter.store(true, Ordering::Release);
        }
    }

    /// The last membership of the log, at start, names this member as the only voter; so its log alone commits.
    pub fn begin_as_sole_voter(&self) {
        self.sole_voter.store(true, Ordering::Release);
    }

    /// Another membership is about to count.
    pub fn unset_sole_voter(&self) {
        self.sole_voter.store(false, Ordering::Release);
    }

    /// What must be applied before local reads may be served after a start, as an index plus one.
    pub fn recovered_next(&self) -> u64 {
        self.recovered_next.load(Ordering::Acquire)
    }

    /// The newest index that lies at least `bytes` of entries before `index`, if the log reaches back that far.
    pub fn index_behind(&self, index: u64, bytes: u64) -> Option<u64> {
        self.state.lock().sizes.behind(index, bytes)
    }

    /// Payload bytes of the entries that are not purged, as far as known.
    pub fn len_bytes(&self) -> u64 {
        self.state.lock().sizes.total_bytes()
    }

    /// Last purged index.
    pub fn purged(&self) -> Option<LogId> {
        self.state.lock().purged
    }

    /// How long the oldest unfinished write has been waiting, in milliseconds.
    pub fn stalled_ms(&self) -> u64 {
        let oldest = self.state.lock().in_flight.oldest_ms();
        oldest.map_or(0, |oldest| self.clock.now_ms().saturating_sub(oldest))
    }

    /// Closes the WAL after what was submitted: the last block gets its seal.
    pub async fn close(&self) -> io::Result<()> {
        self.note_committed();
        self.device.close().await
    }

    /// Waits until the WAL's queue has room for more entries. Not asked by openraft's core, which must stay responsive,
    /// but by whoever feeds it: the proposer and the append streams of a leader.
    pub async fn admitted(&self) {
        self.device.admitted().await
    }

    // The operations are submitted outside of the lock: a WAL that has ended completes them at once, here. Their order
    // is still that of `in_flight`, because openraft's core alone writes, one operation at a time.

    fn append<RT: AsyncRuntime>(
        self: &Arc<Self>,
        entries: impl IntoIterator<Item = Entry>,
        callback: IOFlushed<Types<RT>>,
    ) {
        let _appending = tracing::debug_span!("log.append").entered();
        let mut records = Vec::new();
        {
            let mut state = self.state.lock();
            for entry in entries {
                let log_id = entry.log_id;
                // A log that never held anything starts anywhere; Raft starts it at 0, openraft's suite elsewhere.
                if state.last.is_none() {
                    state.first = log_id.index;
                }
                assert!(
                    log_id.index == state.next() || state.last.is_none(),
                    "entry {log_id} would leave a hole: the log continues at {}",
                    state.next()
                );
                if matches!(entry.payload, Payload::Membership(_)) {
                    state.membership_next = log_id.index + 1;
                    self.unset_sole_voter();
                }
                let payload = codec::encode_payload(&entry.payload);
                state.last = Some(log_id);
                state.sizes.push(log_id.index, payload.len());
                state.tail.push(entry);
                records.push(EntryRecord {
                    index: log_id.index,
                    term: log_id.leader_id.term,
                    leader: 0,
                    payload,
                });
            }
            let next = state.next();
            state.in_flight.append(next, self.clock.now_ms());
        }
        self.note_committed();
        let log = self.clone();
        self.device.submit(
            Op::Append(records),
            Some(Box::new(move |result| {
                log.completed(result.is_ok());
                callback.io_completed(result.map_err(io::Error::other));
            })),
        );
    }

    /// One operation of `in_flight` is through; on an error nothing is durable and nothing more will be.
    fn completed(&self, ok: bool) {
        let _completing = tracing::debug_span!("log.durable").entered();
        let mut state = self.state.lock();
        let durable_next = state.in_flight.complete();
        if !ok {
            return;
        }
        if let Some(next) = durable_next {
            // Under the lock: a cut that follows must find this in place.
            self.durable.advance(next);
        }
        let durable_next = self.durable.next();
        state.tail.shrink(durable_next, self.options.tail_bytes_max);
    }

    fn truncate(&self, after: Option<LogId>) {
        let mut state = self.state.lock();
        let next = after.map_or(0, |log_id| log_id.index + 1);
        if next >= state.next() {
            return;
        }
        assert!(next >= state.purged.map_or(0, |purged| purged.index + 1), "purged entries are never cut");
        assert!(next >= self.committed_next(), "committed entries are never cut");
        state.tail.truncate(next);
        state.sizes.truncate(next);
        state.in_flight.truncate(next);
        state.last = after.or(state.purged);
        if self.durable.next() > next {
            self.durable.reset(next);
        }
        self.recovered_next.fetch_min(next, Ordering::AcqRel);
        drop(state);
        self.device.submit(Op::Truncate { after: after.map(|log_id| log_id.index) }, None);
    }

    fn purge(&self, through: LogId) {
        let mut state = self.state.lock();
        if state.purged.is_some_and(|purged| purged.index >= through.index) {
            return;
        }
        state.tail.purge(through.index);
        state.sizes.purge(through.index);
        state.purged = Some(through);
        state.first = through.index + 1;
        if state.last.is_none_or(|last| last.index <= through.index) {
            // A snapshot took the place of the whole log, or of more than it held.
            state.last = Some(through);
            self.durable.advance(through.index + 1);
        }
        drop(state);
        self.device
            .submit(Op::Purge { through: through.index, position: codec::encode_log_id(&through) }, None);
    }

    fn committed(&self, committed: LogId) {
        self.committed_next.fetch_max(committed.index + 1, Ordering::AcqRel);
        self.state.lock().committed_unnoted = Some(committed);
    }

    /// Notes the commit mark in the WAL. It goes with the next entries; while there are none, the keeper calls this. On
    /// its own it would wake the WAL's thread for each commit, to no use: it is not synced by itself.
    pub(crate) fn note_committed(&self) {
        let unnoted = self.state.lock().committed_unnoted.take();
        if let Some(committed) = unnoted {
            self.device.submit(Op::Committed(codec::encode_log_id(&committed)), None);
        }
    }

    /// Entries of `[start, end)`, at most about `bytes_max`, but at least one if there is one. Empty only if the log
    /// holds nothing at `start`.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (start, end) = {
            let state = self.state.lock();
            let (start, end) = (start.max(state.first), end.min(state.next()));
            if start >= end {
                return Ok(Vec::new());
            }
            if start >= state.tail.first() {
                return Ok(state.tail.read(start, end, bytes_max));
            }
            (start, end.min(state.tail.first()))
        };
        let records = self.device.read(start, end, bytes_max)?;
        if records.first().is_none_or(|record| record.index != start) {
            return Err(io::Error::other(format!("the WAL gave no entry at index {start}")));
        }
        records
            .into_iter()
            .map(|record| codec::entry(record.term, record.index, &record.payload).map_err(io::Error::other))
            .collect()
    }
}

impl State {
    fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }
}

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<RT: AsyncRuntime> RaftLogReader<Types<RT>> for LogStore<RT> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (mut start, end) = bounds(range);
        let mut entries = Vec::new();
        while start < end {
            let mut piece = self.log.read(start, end, self.log.options.read_bytes_max).await?;
            let Some(last) = piece.last() else { break };
            start = last.log_id.index + 1;
            entries.append(&mut piece);
        }
        Ok(entries)
    }

    /// Never entries behind a hole: whoever asks from a purged index on would take them for the ones that follow it.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.log.read(start, end, self.log.options.read_bytes_max).await?;
        let follows = entries.first().is_none_or(|first| first.log_id.index == start);
        Ok(if follows { entries } else { Vec::new() })
    }

    /// Read as it is consumed: what waits to be applied after a long absence need not fit into memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(range);
        let state = (self.log.clone(), start, end, Vec::new().into_iter());
        Box::pin(futures::stream::try_unfold(state, |(log, mut start, end, mut piece)| async move {
            let mut entry: Option<Entry> = piece.next();
            if entry.is_none() && start < end {
                piece = log.read(start, end, log.options.read_bytes_max).await?.into_iter();
                entry = piece.next();
            }
            let Some(entry) = entry else { return Ok(None) };
            start = entry.log_id.index + 1;
            Ok(Some((entry, (log, start, end, piece))))
        }))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.state.lock().vote)
    }
}

impl<RT: AsyncRuntime> RaftLogStorage<Types<RT>> for LogStore<RT> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<RT>>> {
        let state = self.log.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, done) = oneshot::channel();
        {
            let mut state = self.log.state.lock();
            state.promised = Some(*vote);
            state.in_flight.vote(self.log.clock.now_ms());
        }
        let log = self.log.clone();
        self.log.device.submit(
            Op::Vote(codec::encode_vote(vote)),
            Some(Box::new(move |result| {
                log.completed(result.is_ok());
                let _ = sender.send(result);
            })),
        );
        done.await.map_err(|_| io::Error::other("the WAL dropped a vote"))?.map_err(io::Error::other)?;
        self.log.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.committed(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.state.lock().committed_at_open)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<RT>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log.append(entries, callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.log.truncate(last_log_id);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.log.purge(log_id);
        Ok(())
    }
}
