//! The port from the log to the WAL, and a driver of the WAL for runtimes without threads.
//!
//! Owns: [`LogDevice`], its implementation on the WAL's handle, and [`drive`], which is to simulation what
//! `keelson_wal::spawn_writer` is to production. Called by: `log_store`.
//! Invariant: completions run in the order of submission (promised by `keelson_wal::writer`).

use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_wal::writer::{Begin, Writer};
use keelson_wal::{Completion, Disk, EntryRecord, Op, WalReader, WriterHandle};
use openraft::async_runtime::AsyncRuntime;

/// What the log asks of the WAL.
pub trait LogDevice: Send + Sync + 'static {
    /// Queues an operation and returns at once; after the end of the WAL the completion is called here, with the error.
    fn submit(&self, op: Op, done: Option<Completion>);

    /// Waits until the queue has room.
    fn admitted(&self) -> BoxFuture<'_, ()>;

    /// Durable entries of `[start, end)`, about `bytes_max` bytes of payload, at least one if there is one.
    ///
    /// # Errors
    /// Purged or damaged entries, or a failed read.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<EntryRecord>>;

    /// Writes what is queued, seals and releases the WAL.
    fn close(&self) -> BoxFuture<'_, io::Result<()>>;
}

/// The WAL behind its writer, whoever drives that.
pub struct WalDevice<D: Disk> {
    writer: WriterHandle,
    reader: WalReader<D>,
}

impl<D: Disk> WalDevice<D> {
    /// A device on these ends of one WAL.
    pub fn new(writer: WriterHandle, reader: WalReader<D>) -> Self {
        WalDevice { writer, reader }
    }
}

impl<D: Disk> LogDevice for WalDevice<D> {
    fn submit(&self, op: Op, done: Option<Completion>) {
        self.writer.submit(op, done);
    }

    fn admitted(&self) -> BoxFuture<'_, ()> {
        self.writer.admitted().boxed()
    }

    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<EntryRecord>> {
        self.reader.read(start..end, bytes_max as u64).map_err(io::Error::other)
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        async {
            self.writer.close();
            self.writer.stopped().await;
            match self.writer.failure() {
                None => Ok(()),
                Some(error) => Err(io::Error::other(error)),
            }
        }
        .boxed()
    }
}

/// Drives a WAL's writer as a task. `sync_time` says how long the next sync takes.
pub async fn drive<RT: AsyncRuntime, D: Disk>(
    mut writer: Writer<D>,
    mut sync_time: impl FnMut() -> Duration + Send,
) {
    loop {
        match writer.begin() {
            Begin::Idle => {
                // A unique borrow: the writer can be sent to another thread, but not shared with one.
                let writer = &mut writer;
                std::future::poll_fn(move |context| writer.poll_work(context)).await;
            }
            Begin::Written => {
                let time = sync_time();
                if !time.is_zero() {
                    RT::sleep(time).await;
                }
                writer.finish();
                writer.prepare();
            }
            Begin::Noted | Begin::AwaitPrepare => {
                writer.prepare();
            }
            Begin::Failed => return,
            Begin::Closed => return writer.stop(),
        }
    }
}
