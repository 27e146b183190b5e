//! The queue between those who submit and the one who writes.
//!
//! Owns: queued operations and their bound, the durable mark and who waits for it, the end of the log.
//! Invariants: `durable` is lowered when a truncation is submitted and raised only by `publish`, which respects
//! truncations still queued. Called by: `WriterHandle` (any thread) and `Writer`.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Completion;
use crate::error::WalError;
use crate::record::Op;

pub(super) struct Queue {
    bytes_max: u64,
    state: Mutex<State>,
    /// The writer waits here.
    work: Condvar,
    /// Blocking submitters, durability waiters and `shutdown` wait here.
    change: Condvar,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    completions: Vec<Option<Completion>>,
    bytes: u64,
    closed: bool,
    stopped: bool,
    /// Something other than work wants the writer's attention.
    kicked: bool,
    failure: Option<WalError>,
    durable: Option<u64>,
    /// The lowest index kept by a truncation that is still queued.
    truncate_queued: Option<Option<u64>>,
    submitted: u64,
    completed: u64,
    work_waker: Option<Waker>,
    room_wakers: Vec<Waker>,
    durable_wakers: Vec<Waker>,
}

/// Why the writer woke up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Ready,
    TimedOut,
}

impl State {
    fn has_room(&self, bytes_max: u64) -> bool {
        self.bytes < bytes_max || self.over().is_some()
    }

    /// Why nothing can be submitted any more.
    fn over(&self) -> Option<WalError> {
        self.failure.clone().or_else(|| self.closed.then_some(WalError::Closed))
    }

    fn durable_state(&self, index: u64) -> Option<Result<(), WalError>> {
        if self.durable.is_some_and(|durable| durable >= index) {
            return Some(Ok(()));
        }
        // A closed queue is still written out; only then is it certain that the index will not come.
        self.failure.clone().or_else(|| self.stopped.then_some(WalError::Closed)).map(Err)
    }
}

/// A task that polls again while nothing happens is not listed twice.
fn register(wakers: &mut Vec<Waker>, context: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
        wakers.push(context.waker().clone());
    }
}

impl Queue {
    pub(super) fn new(bytes_max: u64, durable: Option<u64>) -> Self {
        Queue {
            bytes_max,
            state: Mutex::new(State { durable, ..State::default() }),
            work: Condvar::new(),
            change: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an operation; hands the completion back with the reason if that is not possible.
    pub(super) fn push(
        &self,
        op: Op,
        completion: Option<Completion>,
    ) -> Result<(), (WalError, Option<Completion>)> {
        let bytes = op.encoded_bytes();
        let mut state = self.state();
        if let Some(error) = state.over() {
            return Err((error, completion));
        }
        if let Op::Truncate { after } = &op {
            state.durable = state.durable.min(*after);
            state.truncate_queued = Some(state.truncate_queued.map_or(*after, |other| other.min(*after)));
        }
        state.bytes += bytes;
        state.submitted += 1;
        let first = state.ops.is_empty();
        state.ops.push(op);
        state.completions.push(completion);
        let waker = state.work_waker.take();
        drop(state);
        if first {
            self.work.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Moves everything queued into the (empty) vectors given; `false` if nothing is.
    pub(super) fn take(&self, ops: &mut Vec<Op>, completions: &mut Vec<Option<Completion>>) -> bool {
        assert!(ops.is_empty() && completions.is_empty());
        let mut state = self.state();
        if state.ops.is_empty() {
            return false;
        }
        std::mem::swap(&mut state.ops, ops);
        std::mem::swap(&mut state.completions, completions);
        state.bytes = 0;
        state.truncate_queued = None;
        let wakers = std::mem::take(&mut state.room_wakers);
        drop(state);
        self.change.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// A group is complete, and everything through `durable` is durable.
    pub(super) fn publish(&self, durable: Option<u64>, operations: u64) {
        let mut state = self.state();
        state.completed += operations;
        state.durable = match state.truncate_queued {
            Some(after) => durable.min(after),
            None => durable,
        };
        let wakers = std::mem::take(&mut state.durable_wakers);
        drop(state);
        self.change.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends the queue with an error; the first one stays. Returns what was queued, for completion.
    pub(super) fn fail(&self, error: WalError) -> (Vec<Op>, Vec<Option<Completion>>) {
        let mut state = self.state();
        state.failure.get_or_insert(error);
        state.bytes = 0;
        (std::mem::take(&mut state.ops), std::mem::take(&mut state.completions))
    }

    pub(super) fn failure(&self) -> Option<WalError> {
        self.state().failure.clone()
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake_all();
    }

    /// Ends the queue without an error; returns what was still queued.
    pub(super) fn close_and_take(&self) -> (Vec<Op>, Vec<Option<Completion>>) {
        let mut state = self.state();
        state.closed = true;
        state.bytes = 0;
        (std::mem::take(&mut state.ops), std::mem::take(&mut state.completions))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// The writer is gone and the log with it.
    pub(super) fn stopped(&self) {
        self.state().stopped = true;
        self.wake_all();
    }

    /// Makes the writer look at what else there is to do.
    pub(super) fn kick(&self) {
        self.state().kicked = true;
        self.work.notify_one();
    }

    pub(super) fn wake_all(&self) {
        let mut state = self.state();
        let mut wakers = std::mem::take(&mut state.room_wakers);
        wakers.append(&mut state.durable_wakers);
        wakers.extend(state.work_waker.take());
        drop(state);
        self.work.notify_all();
        self.change.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Blocks the writer until there is something to do.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Wait {
        let mut state = self.state();
        let idle = |state: &mut State| {
            state.ops.is_empty() && !state.closed && !state.kicked && state.failure.is_none()
        };
        let mut timed_out = false;
        match timeout {
            None => state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.work.wait_timeout_while(state, timeout, idle);
                let result;
                (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
                timed_out = result.timed_out();
            }
        }
        state.kicked = false;
        if timed_out { Wait::TimedOut } else { Wait::Ready }
    }

    pub(super) fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.ops.is_empty() || state.closed || state.failure.is_some() {
            return Poll::Ready(());
        }
        state.work_waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.has_room(self.bytes_max) {
            return Poll::Ready(());
        }
        register(&mut state.room_wakers, context);
        Poll::Pending
    }

    pub(super) fn has_room(&self) -> bool {
        self.state().has_room(self.bytes_max)
    }

    pub(super) fn wait_room(&self) {
        let full = |state: &mut State| !state.has_room(self.bytes_max);
        drop(self.change.wait_while(self.state(), full).unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn durable(&self) -> Option<u64> {
        self.state().durable
    }

    pub(super) fn poll_durable(&self, index: u64, context: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        let mut state = self.state();
        if let Some(result) = state.durable_state(index) {
            return Poll::Ready(result);
        }
        register(&mut state.durable_wakers, context);
        Poll::Pending
    }

    pub(super) fn wait_durable(&self, index: u64) -> Result<(), WalError> {
        let pending = |state: &mut State| state.durable_state(index).is_none();
        let state = self.change.wait_while(self.state(), pending).unwrap_or_else(PoisonError::into_inner);
        state.durable_state(index).expect("waited for")
    }

    pub(super) fn wait_stopped(&self) {
        let running = |state: &mut State| !state.stopped;
        drop(self.change.wait_while(self.state(), running).unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn poll_stopped(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.stopped {
            return Poll::Ready(());
        }
        register(&mut state.durable_wakers, context);
        Poll::Pending
    }

    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.submitted, state.completed, state.bytes)
    }
}
