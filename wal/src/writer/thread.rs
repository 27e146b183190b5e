//! The production driver: one thread writes, one prepares files.
//!
//! Owns: both threads and their end. Invariants: no commit waits for a file to be zeroed unless there is no
//! other place to write to; a panic on either thread ends the process instead of leaving callers waiting.
//! Called by: `spawn_writer`.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::queue::Wait;
use super::{Begin, Writer, WriterHandle, WriterOptions, writer};
use crate::disk::Disk;
use crate::prepare::{PrepareDone, PrepareJob};
use crate::wal::Wal;

/// A full disk is asked again after this many idle periods, or this many groups.
const RETRY_IDLE: u32 = 25;
const RETRY_GROUPS: u32 = 4096;

/// Starts the writer's threads. The log ends when `WriterHandle::shutdown` is called or the last handle goes.
///
/// # Errors
/// The system refused to start a thread.
pub fn spawn_writer<D: Disk>(wal: Wal<D>, options: WriterOptions) -> io::Result<WriterHandle> {
    let idle_seal = options.idle_seal;
    let (writer, handle) = writer(wal, options);
    // One job is out at a time, so one slot is enough in each direction.
    let (job_sender, jobs) = sync_channel::<PrepareJob<D>>(1);
    let (done_sender, results) = sync_channel::<PrepareDone<D>>(1);
    let queue = writer.queue.clone();
    thread::Builder::new().name("wal-prep".into()).spawn(move || {
        let _guard = AbortOnPanic;
        while let Ok(job) = jobs.recv() {
            let done = job.run();
            if done_sender.send(done).is_err() {
                break;
            }
            queue.kick();
        }
    })?;
    thread::Builder::new().name("wal-writer".into()).spawn(move || {
        let _guard = AbortOnPanic;
        Threads { writer, jobs: job_sender, results, job_out: false, retry: 0 }.run(idle_seal);
    })?;
    Ok(handle)
}

struct Threads<D: Disk> {
    writer: Writer<D>,
    jobs: SyncSender<PrepareJob<D>>,
    results: Receiver<PrepareDone<D>>,
    job_out: bool,
    retry: u32,
}

impl<D: Disk> Threads<D> {
    fn run(mut self, idle_seal: Duration) {
        loop {
            if !self.exchange_jobs() {
                break;
            }
            match self.writer.begin() {
                Begin::Written => {
                    self.count(RETRY_GROUPS);
                    if !self.writer.finish() {
                        break;
                    }
                }
                Begin::Noted => {}
                Begin::AwaitPrepare => {
                    if !self.await_job() {
                        break;
                    }
                }
                Begin::Failed | Begin::Closed => break,
                Begin::Idle => {
                    let wal = self.writer.wal();
                    let timeout = (!wal.is_sealed() || wal.space().low).then_some(idle_seal);
                    if self.writer.wait(timeout) == Wait::TimedOut {
                        self.count(RETRY_IDLE);
                        if !self.writer.seal() {
                            break;
                        }
                    }
                }
            }
        }
        // The directory must not be given free while the other thread still works in it.
        if self.job_out {
            self.await_job();
        }
        self.writer.stop();
    }

    /// After a full disk, tries again now and then.
    fn count(&mut self, bound: u32) {
        self.retry += 1;
        if self.retry >= bound {
            self.retry = 0;
            self.writer.retry_space();
        }
    }

    /// Takes a finished job back and hands out the next one. Returns whether the log is still good.
    fn exchange_jobs(&mut self) -> bool {
        if self.job_out {
            match self.results.try_recv() {
                Ok(done) => {
                    self.job_out = false;
                    if !self.writer.finish_prepare(done) {
                        return false;
                    }
                }
                Err(_) => return true,
            }
        }
        if let Some(job) = self.writer.take_prepare_job() {
            self.jobs.send(job).expect("the helper thread lives as long as this one");
            self.job_out = true;
        }
        true
    }

    fn await_job(&mut self) -> bool {
        let done = self.results.recv().expect("the helper thread lives as long as this one");
        self.job_out = false;
        self.writer.finish_prepare(done)
    }
}

/// A panic on these threads means that nobody will complete what is queued; standing still in silence is the
/// worst of all ends.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("keelson: fatal: write-ahead log: a thread of the log panicked; the process ends now");
            std::process::abort();
        }
    }
}

/// The real clock, for measuring syncs.
pub(super) fn monotonic_clock() -> Box<dyn Fn() -> Duration + Send> {
    #[allow(clippy::disallowed_methods, reason = "the default of an injected port; it decides nothing")]
    let start = std::time::Instant::now();
    Box::new(move || start.elapsed())
}
