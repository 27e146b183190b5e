//! Looks after a member: readiness, stalls, flushes, the length of the log, joining members.
//!
//! Owns: three small tasks. Called by: `node`. Invariants: the log is purged only below what a completed flush made
//! durable, and only as far as [`Keeping`] allows; leadership is given up when the disk stalls, and the process is told
//! to end when it stays stalled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_mvcc::KvEngine;
use openraft::async_runtime::{AsyncRuntime, WatchReceiver};
use openraft::{Instant, ServerState};

use crate::compactor;
use crate::membership::{self, Plan};
use crate::node::{Core, FatalCause};
use crate::options::Keeping;
use crate::types::MemberId;

/// How long between attempts to find out why no leader speaks to this member.
const LOST_ASK_MS: u64 = 2000;
/// So many times the usual amount may wait for a flush while the log is replayed at the start.
const REPLAY_FLUSH_FACTOR: u64 = 4;

struct Keeper {
    applied_seen: u64,
    applied_at_ms: u64,
    transferred_at_ms: u64,
    asked_at_ms: u64,
    asked: usize,
    finishing: Arc<AtomicBool>,
    last_status: Option<(Option<MemberId>, bool, bool)>,
    /// Compaction mark for which a flush was asked.
    mark_flushed: i64,
}

/// Looks around again and again.
pub(crate) async fn run<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    let mut keeper = Keeper {
        applied_seen: core.applied.next(),
        applied_at_ms: core.clock.now_ms(),
        transferred_at_ms: 0,
        asked_at_ms: core.clock.now_ms(),
        asked: 0,
        finishing: Arc::default(),
        last_status: None,
        mark_flushed: i64::MIN,
    };
    // A walk that the last stop interrupted.
    drop(RT::spawn(compactor::run(core.clone())));
    let pause = Duration::from_millis(core.options.timing.keeper_ms);
    while !core.facts.is_stopped() {
        if core.raft.metrics().borrow_watched().running_state.is_err() {
            core.stop_now();
            return;
        }
        core.hub.tick(Duration::from_millis(core.clock.now_ms()));
        keeper.disk(&core).await;
        keeper.flush(&core).await;
        purge(&core).await;
        join(&core).await;
        keeper.lost(&core).await;
        keeper.tell_changes(&core);
        RT::sleep(pause).await;
    }
}

impl Keeper {
    async fn disk<RT: AsyncRuntime, E: KvEngine>(&mut self, core: &Arc<Core<RT, E>>) {
        let timing = &core.options.timing;
        let stalled_ms = core.log.stalled_ms();
        if core.facts.set(&core.facts.disk_stalled, stalled_ms >= timing.stall_ms) {
            tracing::warn!(
                member = core.member(),
                stalled_ms,
                "the oldest write to the log is late, or no longer"
            );
        }
        if stalled_ms >= timing.stall_fatal_ms {
            core.fatal(FatalCause::DiskStalled(stalled_ms));
        }
        let now_ms = core.clock.now_ms();
        let again =
            self.transferred_at_ms == 0 || now_ms - self.transferred_at_ms >= timing.stall_transfer_ms;
        if stalled_ms < timing.stall_transfer_ms || !again {
            return;
        }
        if let Some(Some(successor)) = core.with_scene(|scene, _| membership::successor(scene)) {
            self.transferred_at_ms = now_ms;
            tracing::warn!(
                member = core.member(),
                stalled_ms,
                successor,
                "the disk stalls: hand leadership over"
            );
            let _ = core.raft.trigger().transfer_leader(successor).await;
        }
    }

    async fn flush<RT: AsyncRuntime, E: KvEngine>(&mut self, core: &Arc<Core<RT, E>>) {
        let keeping = &core.options.keeping;
        let now_ms = core.clock.now_ms();
        let applied = core.applied.next();
        if applied != self.applied_seen {
            (self.applied_seen, self.applied_at_ms) = (applied, now_ms);
        }
        if core.flush.has_finished() && !self.finishing.swap(true, Ordering::AcqRel) {
            let (core, finishing) = (core.clone(), self.finishing.clone());
            // Not awaited: the state machine may be waiting for a stalled disk, and somebody must notice that.
            drop(RT::spawn(async move {
                let finish =
                    core.raft.with_state_machine(|machine| Box::pin(async { machine.finish_flush() })).await;
                if let Ok(Err(error)) = finish {
                    core.fatal(FatalCause::Raft(error.to_string()));
                }
                finishing.store(false, Ordering::Release);
                compactor::run(core).await;
            }));
        }
        if applied == self.applied_seen && now_ms > self.applied_at_ms {
            core.log.note_committed();
        }
        let unflushed = core.flush.unflushed_bytes.load(Ordering::Relaxed);
        let behind = core.flush.flushed_next.load(Ordering::Relaxed) < applied;
        let idle = behind && now_ms - self.applied_at_ms >= keeping.flush_idle_ms;
        // Somebody may be waiting for the space, or for the end of a physical compaction.
        let mark = core.flush.mark.load(Ordering::Acquire);
        let compacted = behind && mark > self.mark_flushed;
        // Whoever starts again wants to answer first: a flush competes with the replay of the log for the processor.
        let replaying = !core.facts.ready.load(Ordering::Relaxed);
        let enough = if replaying { keeping.flush_bytes * REPLAY_FLUSH_FACTOR } else { keeping.flush_bytes };
        if (unflushed >= enough || idle || compacted) && core.flush.may_begin() {
            self.mark_flushed = mark;
            // openraft calls a flush "building a snapshot": it is what the log may be purged up to.
            let _ = core.raft.trigger().snapshot().await;
        }
    }

    /// A member that hears of no leader asks the others: they tell it if it was removed.
    async fn lost<RT: AsyncRuntime, E: KvEngine>(&mut self, core: &Arc<Core<RT, E>>) {
        let now_ms = core.clock.now_ms();
        let heard_ms = core.facts.contact().map_or(0, |contact| contact.at_ms);
        let leads = core.raft.server_metrics().borrow_watched().state == ServerState::Leader;
        if leads || now_ms - heard_ms.max(self.asked_at_ms) < LOST_ASK_MS {
            return;
        }
        self.asked_at_ms = now_ms;
        let row = core.facts.membership();
        let others: Vec<_> =
            row.stored.nodes().map(|(id, _)| *id).filter(|id| *id != core.member()).collect();
        let Some(other) = others.get(self.asked % others.len().max(1)).copied() else { return };
        self.asked += 1;
        let core = core.clone();
        drop(RT::spawn(async move {
            let _ = core.links.read_index(other, Duration::from_millis(LOST_ASK_MS)).await;
        }));
    }

    fn tell_changes<RT: AsyncRuntime, E: KvEngine>(&mut self, core: &Arc<Core<RT, E>>) {
        let status = core.status();
        if status.leader.is_none() {
            core.proposals.leaderless();
        }
        let now = Some((status.leader, status.is_leader, status.is_learner));
        if self.last_status != now {
            self.last_status = now;
            core.facts.notify();
        }
    }
}

/// Cuts the log as far as is allowed.
async fn purge<RT: AsyncRuntime, E: KvEngine>(core: &Arc<Core<RT, E>>) {
    let live = Duration::from_millis(core.options.keeping.follower_live_ms);
    let slowest = {
        let metrics = core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.iter().flatten();
        let live = replication.filter(|(id, _)| {
            let acked =
                metrics.heartbeat.as_ref().and_then(|heartbeat| heartbeat.get(id)).and_then(Option::as_ref);
            **id != core.member() && acked.is_some_and(|acked| acked.elapsed() < live)
        });
        live.map(|(_, matched)| matched.map_or(0, |matched| matched.index + 1)).min()
    };
    let flushed = core.flush.flushed_next.load(Ordering::Acquire);
    let purged_next = core.log.purged().map_or(0, |purged| purged.index + 1);
    let behind = |index, bytes| core.log.index_behind(index, bytes);
    let mut keeping = core.options.keeping.clone();
    if core.facts.membership().stored.nodes().nth(1).is_none() {
        // Nobody could fall behind, and what is not kept is neither read at the next start nor takes disk.
        keeping.log_bytes_kept = 0;
    }
    if let Some(upto) = purge_upto(&keeping, flushed, slowest, core.log.next(), core.log.len_bytes(), behind)
        && upto > purged_next
    {
        // Inclusive there.
        let _ = core.raft.trigger().purge_log(upto - 1).await;
    }
}

/// Index plus one up to which the log may be cut.
fn purge_upto(
    keeping: &Keeping,
    flushed_next: u64,
    slowest_next: Option<u64>,
    log_next: u64,
    log_bytes: u64,
    behind: impl Fn(u64, u64) -> Option<u64>,
) -> Option<u64> {
    let needed = slowest_next.map_or(flushed_next, |slowest| slowest.min(flushed_next));
    let kept = behind(needed, keeping.log_bytes_kept);
    let capped =
        if log_bytes > keeping.log_bytes_max { behind(log_next, keeping.log_bytes_max) } else { None };
    kept.max(capped).map(|upto| upto.min(flushed_next))
}

/// Makes a member that was added as a voter one, once it has caught up.
async fn join<RT: AsyncRuntime, E: KvEngine>(core: &Arc<Core<RT, E>>) {
    let next = core.with_scene(|scene, at| membership::joined(scene).map(|joined| (joined, at)));
    if let Some(Some((membership, at))) = next {
        let core = core.clone();
        drop(RT::spawn(async move {
            // Refused if another change came first; the next look tries again.
            let _ = core.propose_membership(Plan::Append(membership), at).await;
        }));
    }
}

/// Passes on changes of role, vote and membership as they come.
pub(crate) async fn watch_role<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    let mut metrics = core.raft.server_metrics();
    loop {
        let term = metrics.borrow_and_update().vote.leader_id.term;
        core.facts.set_term(term);
        core.facts.notify();
        if metrics.changed().await.is_err() || core.facts.is_stopped() {
            return;
        }
    }
}

/// Sets `ready` once everything the log held at the start is applied (rule 3), and the member belongs to a cluster.
pub(crate) async fn watch_readiness<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    let pause = Duration::from_millis(core.options.timing.keeper_ms);
    loop {
        // Lowered where a new leader cuts entries that were never committed.
        let target = core.log.recovered_next().max(1);
        if core.applied.next() >= target {
            core.facts.set(&core.facts.ready, true);
            return;
        }
        if core.facts.is_stopped() {
            return;
        }
        RT::select2(core.applied.wait(target), RT::sleep(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A log of one MiB per index.
    fn upto(flushed: u64, slowest: Option<u64>, last: u64, purged: u64) -> Option<u64> {
        let keeping = Keeping { log_bytes_kept: 64 * MIB, log_bytes_max: 512 * MIB, ..Keeping::default() };
        let behind =
            |index: u64, bytes: u64| index.checked_sub(bytes / MIB).filter(|behind| *behind >= purged);
        purge_upto(&keeping, flushed, slowest, last, (last - purged) * MIB, behind)
    }

    #[test]
    fn the_log_is_cut_below_the_flush_and_behind_the_slowest_follower() {
        assert_eq!(upto(50, None, 60, 0), None, "less than what is kept");
        assert_eq!(upto(100, None, 120, 0), Some(36));
        assert_eq!(upto(100, Some(80), 120, 0), Some(16));
        assert_eq!(upto(100, Some(10), 120, 0), None);
    }

    #[test]
    fn a_follower_that_is_too_far_behind_does_not_hold_the_log_for_ever() {
        assert_eq!(upto(990, Some(10), 1000, 0), Some(488));
        assert_eq!(upto(300, Some(10), 1000, 0), Some(300), "but never above the flush");
    }
}
