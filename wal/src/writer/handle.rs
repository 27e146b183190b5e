//! The submitting end of the queue.
//!
//! Owns: `WriterHandle`, cheap to clone; the log is closed when the last clone goes.
//! Called by: raftstore's log store and apply task.

use std::future::poll_fn;
use std::sync::Arc;

use super::Completion;
use super::queue::Queue;
use crate::error::WalError;
use crate::record::Op;

/// How far the writer is. A caller with a clock sees a stalled disk in it: `completed` stands still while it
/// is below `submitted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Operations submitted since the start.
    pub submitted: u64,
    /// Operations completed since the start.
    pub completed: u64,
    /// Bytes waiting in the queue, those being written not counted.
    pub queued_bytes: u64,
}

/// Submits operations to a writer, in order.
#[derive(Clone)]
pub struct WriterHandle {
    queue: Arc<Queue>,
    _closer: Arc<Closer>,
}

/// Closes the queue when the last handle is dropped.
struct Closer(Arc<Queue>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl WriterHandle {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        WriterHandle { _closer: Arc::new(Closer(queue.clone())), queue }
    }

    /// Queues an operation and returns at once. Operations take effect, and complete, in the order of these
    /// calls. The bound of the queue is not enforced here: votes must get through, and who appends waits for
    /// `admitted` first.
    ///
    /// After the end of the log the completion is called at once, on this thread, with the error.
    pub fn submit(&self, op: Op, completion: Option<Completion>) {
        if let Err((error, Some(completion))) = self.queue.push(op, completion) {
            completion(Err(error));
        }
    }

    /// Waits until the queue has room (or the log has ended, which `submit` then reports).
    ///
    /// # Cancel safety
    /// Nothing is reserved; dropping the future changes nothing. With several tasks that wait, each may add one
    /// operation past the bound.
    pub async fn admitted(&self) {
        poll_fn(|context| self.queue.poll_room(context)).await;
    }

    /// Whether `admitted` would return at once.
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// `admitted` and `submit` for threads that may block.
    pub fn submit_blocking(&self, op: Op, completion: Option<Completion>) {
        self.queue.wait_room();
        self.submit(op, completion);
    }

    /// Everything up to this index is durable or purged. Lowered as soon as a truncation is submitted.
    pub fn durable_through(&self) -> Option<u64> {
        self.queue.durable()
    }

    /// Waits until the log is durable through `index`.
    ///
    /// # Errors
    /// The error that ended the log, if that comes first.
    ///
    /// # Cancel safety
    /// Only observes.
    pub async fn durable(&self, index: u64) -> Result<(), WalError> {
        poll_fn(|context| self.queue.poll_durable(index, context)).await
    }

    /// `durable` for threads that may block.
    ///
    /// # Errors
    /// As `durable`.
    pub fn wait_durable(&self, index: u64) -> Result<(), WalError> {
        self.queue.wait_durable(index)
    }

    /// How far the writer is.
    pub fn progress(&self) -> Progress {
        let (submitted, completed, queued_bytes) = self.queue.counts();
        Progress { submitted, completed, queued_bytes }
    }

    /// The error that ended the log, if one did.
    pub fn failure(&self) -> Option<WalError> {
        self.queue.failure()
    }

    /// Refuses new operations; those queued are still written, then the log is sealed and released.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits until the writer is gone and the directory is free. Call `close` first.
    pub async fn stopped(&self) {
        poll_fn(|context| self.queue.poll_stopped(context)).await;
    }

    /// `close`, then waits for the end; for threads that may block.
    pub fn shutdown(&self) {
        self.close();
        self.queue.wait_stopped();
    }
}
