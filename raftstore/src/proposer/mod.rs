//! Proposals on their way: gathered, sent, answered, timed out.
//!
//! Owns: the batch being filled, the batches under way with who waits for them, and the decision what to do next. A
//! pure core behind one lock: it knows nothing of Raft, the network or the runtime. Called by: `api` threads
//! ([`Proposals::propose`]), [`task`] (what to send, what came back, the time), `state_machine` ([`Proposals::applied`]).
//!
//! # Invariants
//! - A command is encoded once, into the batch that becomes the log entry.
//! - A batch is sent again only after proof that it was not appended (rule 2); everything else waits for its apply or
//!   its deadline. There is no deduplication of proposals, so a second sending without proof could apply twice.
//! - Replies are found by (proposer, incarnation, sequence), so it does not matter who led.
//! - What waits is bounded in bytes and in commands; beyond it proposals are refused, not queued.
//!
//! Cost per command: one encoding under the lock, one oneshot; per batch: one wake of the task, one map entry, one
//! pass over the waiters. Source: the window and the natural batching follow etcd-io/raft's pipelining; measured
//! alone in `bench`.

pub(crate) mod task;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keelson_mvcc::codec;
use keelson_mvcc::types::{Command, Reply};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::batch::{BatchBuilder, BatchId};
use crate::clock::{Clock, ms};
use crate::consensus::{Proposal, ProposeError, TimeoutCause};
use crate::lane::{Delivery, Lane, ReplySender, hand_out};
use crate::types::{Batch, MemberId};

/// Bounds of the proposals of one member.
#[derive(Clone, Debug)]
pub struct ProposerOptions {
    /// A batch is closed before it exceeds this; one command may not be larger either. One append and one engine
    /// write stay well below what delays a heartbeat.
    pub batch_bytes_max: usize,
    /// With [`ProposerOptions::window_min`] batches under way, the next one waits for a completion or for this size.
    pub batch_bytes_target: usize,
    /// Batches sent without waiting. Enough that an fsync in progress never keeps the next batch from being queued
    /// behind it.
    pub window_min: usize,
    /// Batches under way at most.
    pub window_max: usize,
    /// Encoded bytes of all commands without a reply.
    pub bytes_max: usize,
    /// Commands without a reply.
    pub commands_max: usize,
    /// Committed entries not applied here yet; etcd's limit.
    pub apply_lag_max: u64,
}

impl Default for ProposerOptions {
    fn default() -> Self {
        ProposerOptions {
            batch_bytes_max: 1 << 20,
            batch_bytes_target: 64 << 10,
            window_min: 16,
            window_max: 64,
            bytes_max: 64 << 20,
            commands_max: 100_000,
            apply_lag_max: 5000,
        }
    }
}

struct Waiter {
    reply: ReplySender,
    lane: Option<Lane>,
    started_ms: u64,
    deadline_ms: u64,
}

type Waiters = Vec<Option<Waiter>>;

/// A batch that is not sent yet.
struct Filling {
    builder: BatchBuilder,
    waiters: Waiters,
}

/// A batch that was sent at least once.
struct Flight {
    batch: Batch,
    waiters: Waiters,
    /// Set while it is certain that the batch is in no log: when to send it again.
    parked_until_ms: Option<u64>,
    attempts: u32,
    connection_lost: bool,
    /// The leader has applied it at this index.
    applied_there: Option<u64>,
}

struct State {
    full: VecDeque<Filling>,
    open: Option<Filling>,
    flights: BTreeMap<u64, Flight>,
    parked: usize,
    sequence: u64,
    bytes: usize,
    commands: usize,
    /// Entries below this index came with a snapshot, without their replies.
    installed_next: u64,
    /// When this member last knew of no leader.
    leaderless_at_ms: Option<u64>,
    stopped: bool,
}

/// See the module.
pub struct Proposals {
    member: MemberId,
    incarnation: u64,
    options: ProposerOptions,
    clock: Clock,
    state: Mutex<State>,
    wake: Notify,
    /// Proposals that got an error, for metrics.
    failed: AtomicU64,
}

impl Proposals {
    /// `incarnation` is drawn at random for each start of the member.
    pub fn new(member: MemberId, incarnation: u64, options: ProposerOptions, clock: Clock) -> Arc<Self> {
        let state = State {
            full: VecDeque::new(),
            open: None,
            flights: BTreeMap::new(),
            parked: 0,
            sequence: 0,
            bytes: 0,
            commands: 0,
            installed_next: 0,
            leaderless_at_ms: None,
            stopped: false,
        };
        let (state, wake) = (Mutex::new(state), Notify::new());
        Arc::new(Proposals { member, incarnation, options, clock, state, wake, failed: AtomicU64::new(0) })
    }

    /// Queues a command. `apply_lag`: committed entries this member has not applied.
    pub fn propose(
        &self,
        command: &Command,
        timeout: Duration,
        lane: Option<&Lane>,
        apply_lag: u64,
    ) -> Proposal {
        let bound = codec::encoded_len_bound(command);
        if bound > self.options.batch_bytes_max {
            return self.refuse(ProposeError::TooLarge);
        }
        if apply_lag > self.options.apply_lag_max {
            return self.refuse(ProposeError::Overloaded);
        }
        let started_ms = self.clock.now_ms();
        let deadline_ms = started_ms.saturating_add(ms(timeout));
        let (reply, proposal) = oneshot::channel();
        let waiter = Some(Waiter { reply, lane: lane.cloned(), started_ms, deadline_ms });
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.stopped {
            return self.refuse(ProposeError::Stopped);
        }
        if state.bytes + bound > self.options.bytes_max || state.commands >= self.options.commands_max {
            return self.refuse(ProposeError::Overloaded);
        }
        let mut wake = false;
        if state
            .open
            .as_ref()
            .is_some_and(|open| open.builder.len_bytes() + bound > self.options.batch_bytes_max)
        {
            state.full.extend(state.open.take());
            wake = true;
        }
        let open = state.open.get_or_insert_with(|| {
            wake = true;
            let builder = BatchBuilder::new(self.member, self.incarnation, bound);
            Filling { builder, waiters: Vec::new() }
        });
        let before = open.builder.len_bytes();
        open.builder.push(bound, |out| codec::encode(command, out));
        open.waiters.push(waiter);
        let after = open.builder.len_bytes();
        // Reaching the target opens the window for a batch that was waiting for company.
        let target = self.options.batch_bytes_target;
        wake |= before < target && after >= target;
        state.bytes += after - before;
        state.commands += 1;
        drop(guard);
        if wake {
            self.wake.notify_one();
        }
        Proposal::waiting(proposal)
    }

    /// Delivers the replies of a batch that was applied here, if it is ours and somebody still waits.
    ///
    /// To be called after the view and the events of its group are published.
    pub fn applied(&self, groups: impl IntoIterator<Item = (BatchId, Vec<Reply>)>) {
        let mut direct = Delivery::new();
        let mut lanes: Vec<(Lane, Delivery)> = Vec::new();
        let mut more = false;
        {
            let mut state = self.state.lock();
            for (id, replies) in groups {
                if id.proposer != self.member || id.incarnation != self.incarnation {
                    continue;
                }
                let Some(flight) = state.remove(id.sequence) else { continue };
                assert_eq!(flight.waiters.len(), replies.len(), "a reply per command of a batch");
                for (waiter, reply) in flight.waiters.into_iter().zip(replies) {
                    let Some(waiter) = waiter else { continue };
                    push(&mut direct, &mut lanes, waiter, Ok(reply));
                }
            }
            more |= state.open.is_some() || !state.full.is_empty();
        }
        deliver(direct, lanes);
        if more {
            self.wake.notify_one();
        }
    }

    /// The next batch to send, or to send again, if the window allows one.
    pub(crate) fn take(&self) -> Option<(u64, Batch)> {
        let now_ms = self.clock.now_ms();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.parked > 0 {
            let due = state
                .flights
                .iter_mut()
                .find(|(_, flight)| flight.parked_until_ms.is_some_and(|at| at <= now_ms));
            if let Some((sequence, flight)) = due {
                flight.parked_until_ms = None;
                flight.attempts += 1;
                state.parked -= 1;
                return Some((*sequence, flight.batch.clone()));
            }
        }
        let under_way = state.flights.len();
        if under_way >= self.options.window_max {
            return None;
        }
        let filling = match state.full.pop_front() {
            Some(full) => full,
            None => {
                let open = state.open.as_ref()?;
                let alone = under_way < self.options.window_min;
                if !alone && open.builder.len_bytes() < self.options.batch_bytes_target {
                    return None;
                }
                state.open.take()?
            }
        };
        state.sequence += 1;
        let sequence = state.sequence;
        let batch = filling.builder.finish(sequence);
        let flight = Flight {
            batch: batch.clone(),
            waiters: filling.waiters,
            parked_until_ms: None,
            attempts: 1,
            connection_lost: false,
            applied_there: None,
        };
        state.flights.insert(sequence, flight);
        Some((sequence, batch))
    }

    /// The batch is certainly in no log: it is sent again after a pause, as long as somebody waits for it.
    pub(crate) fn not_appended(&self, sequence: u64) {
        let now_ms = self.clock.now_ms();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(flight) = state.flights.get_mut(&sequence) else { return };
        if flight.waiters.iter().all(Option::is_none) {
            state.remove(sequence);
            return;
        }
        // From 2 ms, because a fresh leader refuses only until its first heartbeat is answered, to 128 ms.
        let pause_ms = 1 << flight.attempts.clamp(1, 7);
        if flight.parked_until_ms.replace(now_ms + pause_ms).is_none() {
            state.parked += 1;
        }
        drop(guard);
        self.wake.notify_one();
    }

    /// The batch left a log, or its replies are lost; what became of it is not known here.
    pub(crate) fn discarded(&self, sequence: u64) {
        let flight = self.state.lock().remove(sequence);
        self.fail(flight.into_iter().flat_map(|flight| flight.waiters), |_| ProposeError::LeaderChanged);
        self.wake.notify_one();
    }

    /// The leader has applied the batch at `index`; its replies come with this member's own apply, unless a snapshot
    /// has taken that apply's place.
    pub(crate) fn applied_there(&self, sequence: u64, index: u64) {
        let mut state = self.state.lock();
        let lost = index < state.installed_next;
        if let Some(flight) = state.flights.get_mut(&sequence) {
            flight.applied_there = Some(index);
        }
        drop(state);
        if lost {
            self.discarded(sequence);
        }
    }

    /// A snapshot was installed that covers everything below `next`: replies of batches in it will never come.
    pub fn installed(&self, next: u64) {
        let lost: Vec<_> = {
            let mut state = self.state.lock();
            state.installed_next = next;
            let covered = |flight: &Flight| flight.applied_there.is_some_and(|index| index < next);
            state
                .flights
                .iter()
                .filter(|(_, flight)| covered(flight))
                .map(|(sequence, _)| *sequence)
                .collect()
        };
        lost.into_iter().for_each(|sequence| self.discarded(sequence));
    }

    /// The connection that carried the batch broke: it waits for its apply or its deadline.
    pub(crate) fn connection_lost(&self, sequence: u64) {
        if let Some(flight) = self.state.lock().flights.get_mut(&sequence) {
            flight.connection_lost = true;
        }
    }

    /// The member knows of no leader at this moment.
    pub(crate) fn leaderless(&self) {
        self.state.lock().leaderless_at_ms = Some(self.clock.now_ms());
    }

    /// Answers whoever's deadline has passed.
    pub(crate) fn expire(&self) {
        let now_ms = self.clock.now_ms();
        let mut expired = Vec::new();
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let leaderless_at_ms = state.leaderless_at_ms;
            let mut sweep = |waiters: &mut Waiters, connection_lost: bool| {
                for slot in waiters.iter_mut() {
                    if slot.as_ref().is_some_and(|waiter| waiter.deadline_ms <= now_ms) {
                        let waiter = slot.take().expect("looked at");
                        let cause = match leaderless_at_ms {
                            Some(at) if at >= waiter.started_ms => TimeoutCause::LeaderFailed,
                            _ if connection_lost => TimeoutCause::ConnectionLost,
                            _ => TimeoutCause::Plain,
                        };
                        expired.push((waiter, cause));
                    }
                }
                waiters.iter().all(Option::is_none)
            };
            let mut idle = Vec::new();
            for (sequence, flight) in &mut state.flights {
                let nobody = sweep(&mut flight.waiters, flight.connection_lost);
                // In no log and nobody waits: forgotten. One that may be in a log is forgotten too, so that it does not
                // fill the window for ever; its apply will find no waiter.
                if nobody {
                    idle.push(*sequence);
                }
            }
            let fillings = state.full.iter_mut().chain(state.open.as_mut());
            fillings.for_each(|filling| {
                sweep(&mut filling.waiters, false);
            });
            if state.open.as_ref().is_some_and(|open| open.waiters.iter().all(Option::is_none)) {
                let open = state.open.take().expect("looked at");
                state.forget(open.builder.len_bytes(), open.waiters.len());
            }
            for sequence in idle {
                state.remove(sequence);
            }
        }
        if expired.is_empty() {
            return;
        }
        let causes: Vec<_> = expired.iter().map(|(_, cause)| *cause).collect();
        let mut causes = causes.into_iter();
        let waiters = expired.into_iter().map(|(waiter, _)| Some(waiter));
        self.fail(waiters, |_| ProposeError::Timeout(causes.next().unwrap_or(TimeoutCause::Plain)));
    }

    /// Milliseconds until something is to be done even if nothing happens; `None` while nothing waits.
    pub(crate) fn pause_ms(&self, sweep_ms: u64) -> Option<u64> {
        let state = self.state.lock();
        if state.open.is_none() && state.full.is_empty() && state.flights.is_empty() {
            return None;
        }
        let now_ms = self.clock.now_ms();
        let due = state.flights.values().filter_map(|flight| flight.parked_until_ms).min();
        Some(due.map_or(sweep_ms, |due| due.saturating_sub(now_ms).clamp(1, sweep_ms)))
    }

    /// Refuses new proposals and answers all that wait.
    pub fn stop(&self) {
        let waiters: Vec<_> = {
            let mut state = self.state.lock();
            state.stopped = true;
            let flights = std::mem::take(&mut state.flights).into_values().map(|flight| flight.waiters);
            let open = state.open.take();
            let fillings =
                std::mem::take(&mut state.full).into_iter().chain(open).map(|filling| filling.waiters);
            let waiters = flights.chain(fillings).flatten().collect();
            (state.bytes, state.commands, state.parked) = (0, 0, 0);
            waiters
        };
        self.fail(waiters, |_| ProposeError::Stopped);
        self.wake.notify_one();
    }

    /// Commands without a reply.
    pub fn waiting(&self) -> usize {
        self.state.lock().commands
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await
    }

    /// Proposals that were refused or got an error instead of a reply, so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn refuse(&self, error: ProposeError) -> Proposal {
        self.failed.fetch_add(1, Ordering::Relaxed);
        Proposal::refused(error)
    }

    fn fail(
        &self,
        waiters: impl IntoIterator<Item = Option<Waiter>>,
        mut error: impl FnMut(&Waiter) -> ProposeError,
    ) {
        let mut direct = Delivery::new();
        let mut lanes = Vec::new();
        for waiter in waiters.into_iter().flatten() {
            let error = error(&waiter);
            self.failed.fetch_add(1, Ordering::Relaxed);
            push(&mut direct, &mut lanes, waiter, Err(error));
        }
        deliver(direct, lanes);
    }
}

impl State {
    fn remove(&mut self, sequence: u64) -> Option<Flight> {
        let flight = self.flights.remove(&sequence)?;
        if flight.parked_until_ms.is_some() {
            self.parked -= 1;
        }
        self.forget(flight.batch.0.len(), flight.waiters.len());
        Some(flight)
    }

    fn forget(&mut self, batch_bytes: usize, commands: usize) {
        // The head of a batch was not counted, so the sum could go below zero.
        self.bytes = self.bytes.saturating_sub(batch_bytes);
        self.commands -= commands;
        if self.commands == 0 {
            self.bytes = 0;
        }
    }
}

fn push(
    direct: &mut Delivery,
    lanes: &mut Vec<(Lane, Delivery)>,
    waiter: Waiter,
    result: Result<Reply, ProposeError>,
) {
    let Some(lane) = waiter.lane else {
        direct.push((waiter.reply, result));
        return;
    };
    // A handful of lanes at most: one per serving runtime.
    match lanes.iter_mut().find(|(known, _)| known.key() == lane.key()) {
        Some((_, delivery)) => delivery.push((waiter.reply, result)),
        None => lanes.push((lane, vec![(waiter.reply, result)])),
    }
}

fn deliver(direct: Delivery, lanes: Vec<(Lane, Delivery)>) {
    for (lane, delivery) in lanes {
        lane.deliver(delivery);
    }
    hand_out(direct);
}

#[cfg(test)]
mod proposer_test;
