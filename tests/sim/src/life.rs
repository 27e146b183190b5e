//! One process of a member, from its start to its end.
//!
//! Owns: whether it still runs, and who waits for its end. Called by: everything that speaks to a member.
//! Invariant: once ended nothing of it is heard: the network drops its messages, clients get no answer from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::Either;
use keelson_raftstore::MemberId;
use keelson_raftstore::net::memory::MemoryNetwork;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module.
pub(crate) struct Life {
    member: MemberId,
    network: MemoryNetwork<SimRuntime>,
    ended: AtomicBool,
    end: Notify,
    /// Why it ended by itself, if it did.
    cause: Mutex<Option<String>>,
}

impl Life {
    /// A process that has just started.
    pub(crate) fn new(member: MemberId, network: MemoryNetwork<SimRuntime>) -> Arc<Self> {
        Arc::new(Life {
            member,
            network,
            ended: AtomicBool::new(false),
            end: Notify::new(),
            cause: Mutex::default(),
        })
    }

    /// Whether it has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.network.leave(self.member);
            self.end.notify_waiters();
        }
    }

    /// Ends it because it cannot go on; what it did before is not undone.
    pub(crate) fn fail(&self, cause: String) {
        if !self.ended() {
            self.cause.lock().get_or_insert(cause);
            self.end();
        }
    }

    /// Why it ended by itself.
    pub(crate) fn cause(&self) -> Option<String> {
        self.cause.lock().clone()
    }

    /// The output of `work`, unless the process ends before.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut end = std::pin::pin!(self.end.notified());
        // In the list of those to be told before the look.
        end.as_mut().enable();
        if self.ended() {
            return None;
        }
        let work = std::pin::pin!(work);
        match futures::future::select(work, end.map(|()| ())).await {
            Either::Left((output, _)) if !self.ended() => Some(output),
            _ => None,
        }
    }
}
