//! Drives a log: what queues up while one sync runs becomes the next block.
//!
//! Owns: the queue with its bound, the order of completions, the report of fatal errors, the durable mark.
//! Invariants:
//! - completions run strictly in the order of submission, an append's or vote's only after its sync;
//! - after an error nothing is acknowledged any more, and `on_fatal` hears of it before any completion does;
//! - the durable mark never covers an entry that is not durable, also while a truncation is queued.
//!
//! Two drivers share all of this: `spawn_writer` (threads, production) and a task that calls `Writer` itself
//! (simulation). Called by: raftstore.

mod fatal;
mod handle;
mod queue;
mod thread;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::disk::Disk;
use crate::error::WalError;
use crate::prepare::{PrepareDone, PrepareJob};
use crate::record::Op;
use crate::wal::{Space, Stage, Wal};

pub use fatal::abort_process;
pub use handle::{Progress, WriterHandle};
pub use thread::spawn_writer;

use queue::{Queue, Wait};

/// Told once when an operation has taken effect (appends and votes: is durable), or why it never will.
pub type Completion = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// Told once of the error that ends the log, before anybody else is.
pub type OnFatal = Box<dyn FnOnce(&WalError) + Send>;

/// One sync of the log, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncSample {
    /// Duration of the sync alone.
    pub duration: Duration,
    /// Bytes written for it.
    pub bytes: u64,
    /// Operations it made durable.
    pub operations: usize,
}

/// Where the driver reports to. Called on the writer's thread: be quick.
pub trait Observer: Send + 'static {
    /// A sync returned successfully.
    fn synced(&mut self, _sample: &SyncSample) {}
    /// The room left has changed from enough to low, or back.
    fn space(&mut self, _space: Space) {}
}

/// Observes nothing.
pub struct NoObserver;

impl Observer for NoObserver {}

/// How a log is driven.
pub struct WriterOptions {
    /// New work waits (`WriterHandle::admitted`) while this much is queued. 16 MiB is what a disk of 200 MB/s
    /// takes in 80 ms, below any heartbeat interval: a longer queue would add latency and no throughput. Memory
    /// in use is at most two of it (one queued, one being written) plus one operation per submitting task.
    pub queue_bytes_max: u64,
    /// The log is sealed when nothing was submitted for this long (threads only).
    pub idle_seal: Duration,
    /// Called with the error that ends the log. The default ends the process.
    pub on_fatal: OnFatal,
    /// Metrics.
    pub observer: Box<dyn Observer>,
    /// Monotonic time since any fixed moment; measures syncs, decides nothing.
    pub clock: Box<dyn Fn() -> Duration + Send>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            queue_bytes_max: 16 << 20,
            idle_seal: Duration::from_millis(200),
            on_fatal: Box::new(abort_process),
            observer: Box::new(NoObserver),
            clock: thread::monotonic_clock(),
        }
    }
}

/// What `Writer::begin` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nothing is queued.
    Idle,
    /// A group is written: call `finish`.
    Written,
    /// A group needed no sync and is complete.
    Noted,
    /// Give the prepare job that is out back first, then call `begin` again.
    AwaitPrepare,
    /// The log has failed; everybody was told.
    Failed,
    /// Closed, and everything queued is done: call `stop`.
    Closed,
}

/// The consuming end of the queue, owning the log.
pub struct Writer<D: Disk> {
    wal: Wal<D>,
    queue: Arc<Queue>,
    ops: Vec<Op>,
    completions: Vec<Option<Completion>>,
    on_fatal: Option<OnFatal>,
    observer: Box<dyn Observer>,
    clock: Box<dyn Fn() -> Duration + Send>,
    low: bool,
    /// Last, so that it is dropped after the log has given its directory free.
    _stopped: Stopped,
}

/// Tells everyone who waits that the writer and its log are gone.
struct Stopped(Arc<Queue>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

/// Pairs a log with a handle, for a driver of your own. Threads: `spawn_writer`.
pub fn writer<D: Disk>(wal: Wal<D>, options: WriterOptions) -> (Writer<D>, WriterHandle) {
    let queue = Arc::new(Queue::new(options.queue_bytes_max, wal.durable_through()));
    let writer = Writer {
        wal,
        queue: queue.clone(),
        ops: Vec::new(),
        completions: Vec::new(),
        on_fatal: Some(options.on_fatal),
        observer: options.observer,
        clock: options.clock,
        low: false,
        _stopped: Stopped(queue.clone()),
    };
    (writer, WriterHandle::new(queue))
}

impl<D: Disk> Writer<D> {
    /// Ready when `begin` has something to do (work, or the end).
    pub fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_work(context)
    }

    /// Waits until `begin` has something to do.
    pub async fn work(&self) {
        std::future::poll_fn(|context| self.poll_work(context)).await;
    }

    /// Takes everything queued and writes it as one group.
    pub fn begin(&mut self) -> Begin {
        if self.queue.failure().is_some() {
            return Begin::Failed;
        }
        if self.ops.is_empty() && !self.queue.take(&mut self.ops, &mut self.completions) {
            return if self.queue.is_closed() { Begin::Closed } else { Begin::Idle };
        }
        match self.wal.stage(&self.ops) {
            Ok(Stage::Written) => Begin::Written,
            Ok(Stage::Noted) => {
                self.complete();
                Begin::Noted
            }
            Ok(Stage::AwaitPrepare) => Begin::AwaitPrepare,
            Err(error) => self.fail(error),
        }
    }

    /// Syncs the group that `begin` wrote and runs its completions. Returns whether the log is still good.
    pub fn finish(&mut self) -> bool {
        let start = (self.clock)();
        match self.wal.commit() {
            Ok(synced) => {
                let duration = (self.clock)().saturating_sub(start);
                let operations = self.ops.len();
                self.observer.synced(&SyncSample { duration, bytes: synced.bytes, operations });
                self.complete();
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Seals the log, as `Wal::seal`. A full disk is no reason to end. Returns whether the log is still good.
    pub fn seal(&mut self) -> bool {
        debug_assert!(self.ops.is_empty());
        let start = (self.clock)();
        match self.wal.seal() {
            Ok(Some(synced)) => {
                let duration = (self.clock)().saturating_sub(start);
                self.observer.synced(&SyncSample { duration, bytes: synced.bytes, operations: 0 });
                true
            }
            Ok(None) | Err(WalError::NoSpace { .. }) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Work on files that should be done off this thread, if there is some.
    pub fn take_prepare_job(&mut self) -> Option<PrepareJob<D>> {
        self.wal.take_prepare_job()
    }

    /// Takes a job's result back. Returns whether the log is still good.
    pub fn finish_prepare(&mut self, done: PrepareDone<D>) -> bool {
        let result = self.wal.finish_prepare(done);
        let space = self.wal.space();
        if space.low != self.low {
            self.low = space.low;
            self.observer.space(space);
        }
        match result {
            Ok(()) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Does what files need on this thread. Returns whether the log is still good.
    pub fn prepare(&mut self) -> bool {
        match self.wal.take_prepare_job() {
            Some(job) => {
                let done = job.run();
                self.finish_prepare(done)
            }
            None => true,
        }
    }

    /// Lets the next `take_prepare_job` try again after a full disk.
    pub fn retry_space(&mut self) {
        self.wal.retry_space();
    }

    /// The log.
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }

    /// Seals the log and lets everyone who waits for the end go.
    pub fn stop(mut self) {
        if self.queue.failure().is_none() {
            self.seal();
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Wait {
        self.queue.wait(timeout)
    }

    /// The durable mark first: whoever is completed may look at it.
    fn complete(&mut self) {
        self.queue.publish(self.wal.durable_through(), self.ops.len() as u64);
        self.ops.clear();
        for completion in self.completions.drain(..).flatten() {
            completion(Ok(()));
        }
        // One huge group must not hold its memory for ever.
        self.ops.shrink_to(OPS_KEPT);
        self.completions.shrink_to(OPS_KEPT);
    }

    fn fail(&mut self, error: WalError) -> Begin {
        // From here on submissions fail by themselves.
        let (mut ops, mut completions) = self.queue.fail(error.clone());
        if let Some(on_fatal) = self.on_fatal.take() {
            on_fatal(&error);
        }
        self.ops.append(&mut ops);
        self.completions.append(&mut completions);
        self.ops.clear();
        for completion in self.completions.drain(..).flatten() {
            completion(Err(error.clone()));
        }
        self.queue.wake_all();
        Begin::Failed
    }
}

/// Slots kept between groups: what a busy proposer queues during one slow sync.
const OPS_KEPT: usize = 4096;

impl<D: Disk> Drop for Writer<D> {
    /// A driver that goes away (a dropped task) must not leave anyone waiting.
    fn drop(&mut self) {
        let (_, queued) = self.queue.close_and_take();
        let waiting = std::mem::take(&mut self.completions);
        for completion in waiting.into_iter().chain(queued).flatten() {
            completion(Err(WalError::Closed));
        }
    }
}
