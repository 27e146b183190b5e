//! Gives back the space of compacted history, slice by slice.
//!
//! Owns: when the walk runs and how it is paced. Called by: the keeper after each flush, because only what a flush made
//! durable may be dropped. Invariants: one walk at a time; between two slices the disk is left to others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keelson_mvcc::{CompactionProgress, KvEngine};
use openraft::async_runtime::AsyncRuntime;

use crate::node::{Core, FatalCause};
use crate::state_machine::Blocking;

/// Bytes of one slice: some tens of milliseconds of reading and writing.
const SLICE_BYTES: u64 = 4 << 20;
/// Pause after a slice.
const PAUSE: Duration = Duration::from_millis(10);

/// Walks until everything that may go is gone, unless a walk runs already.
pub(crate) async fn run<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    if core.flush.compacting.swap(true, Ordering::AcqRel) {
        return;
    }
    let walked = walk(&core).await;
    core.flush.compacting.store(false, Ordering::Release);
    if let Err(error) = walked {
        core.fatal(FatalCause::Raft(format!("compaction: {error}")));
    }
}

async fn walk<RT: AsyncRuntime, E: KvEngine>(core: &Core<RT, E>) -> Result<(), String> {
    let job = core.raft.with_state_machine(|machine| {
        let job = machine.compaction_job();
        Box::pin(async move { job })
    });
    // A member that stops has no state machine any more; the walk begins again at the next start.
    let Ok(mut job) = job.await else { return Ok(()) };
    loop {
        if core.facts.is_stopped() {
            return Ok(());
        }
        let progress = match core.options.blocking {
            Blocking::Inline => job.step(SLICE_BYTES),
            Blocking::Thread => {
                let stepped = RT::spawn_blocking(move || (job.step(SLICE_BYTES), job)).await;
                let (progress, back) = stepped.map_err(|error| error.to_string())?;
                job = back;
                progress
            }
        };
        match progress.map_err(|error| error.to_string())? {
            CompactionProgress::Idle => return Ok(()),
            CompactionProgress::Working => RT::sleep(PAUSE).await,
            CompactionProgress::Completed { mark } => {
                tracing::debug!(member = core.member(), mark, "compacted history is gone from the disk");
            }
        }
    }
}
