//! Compacts history by itself: `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! Owns: the decision at which revision ([`Plan`], pure) and the loop around it. Called by: `server`, one task.
//! Invariants: only the leader proposes; a mark is proposed once; nothing younger than the retention is compacted.
//! Source: etcd server/etcdserver/api/v3compactor (intervals, when the first compaction comes).

use std::collections::VecDeque;
use std::time::Duration;

use keelson_api::AppState;
use keelson_mvcc::types::{ApplyError, Command, Revision};

use crate::config::compaction::AutoCompaction;

/// Mode revision looks at the store this often.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Mode periodic compacts at least this often, however long the retention is.
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// It looks at the revision so many times between two compactions.
const SAMPLES: u32 = 10;

/// Compacts until the task is dropped.
pub(super) async fn run(what: AutoCompaction, state: AppState) {
    let mut plan = Plan::new(what);
    loop {
        let due = plan.sample(state.clock.now(), state.view().revision());
        if let Some(revision) = due.filter(|_| state.consensus.status().is_leader)
            && compact(&state, revision).await
        {
            plan.compacted(state.clock.now(), revision);
        }
        state.clock.sleep(plan.interval()).await;
    }
}

/// Returns whether the mark is at this revision now, or above.
async fn compact(state: &AppState, revision: Revision) -> bool {
    let command = Command::Compact { revision };
    let reply = state.consensus.propose(&command, state.options.request_timeout(), None).await;
    match reply.map(|reply| reply.outcome) {
        Ok(Ok(_)) => {
            tracing::info!(revision, "compacted history by itself");
            true
        }
        // Somebody else was faster.
        Ok(Err(ApplyError::Compacted { .. })) => true,
        Ok(Err(error)) => {
            tracing::warn!(revision, %error, "automatic compaction was refused");
            false
        }
        Err(error) => {
            tracing::warn!(revision, %error, "automatic compaction failed; it is tried again");
            false
        }
    }
}

/// What was seen and done so far.
#[derive(Debug)]
struct Plan {
    what: AutoCompaction,
    /// Mode periodic: revisions seen, oldest first, one per interval.
    seen: VecDeque<Revision>,
    /// When the retention or the interval began to run.
    since: Option<Duration>,
    last: Revision,
}

impl Plan {
    fn new(what: AutoCompaction) -> Self {
        Plan { what, seen: VecDeque::new(), since: None, last: 0 }
    }

    /// Between two samples.
    fn interval(&self) -> Duration {
        match self.what {
            AutoCompaction::Revisions(_) => REVISION_INTERVAL,
            AutoCompaction::Periodic(retention) => {
                // A retention of some nanoseconds must not become a busy loop.
                (retention.min(PERIODIC_INTERVAL_MAX) / SAMPLES).max(Duration::from_millis(1))
            }
        }
    }

    /// Notes the newest revision; returns the one to compact at, if it is time for that.
    fn sample(&mut self, now: Duration, newest: Revision) -> Option<Revision> {
        let revision = match self.what {
            AutoCompaction::Revisions(kept) => {
                newest.checked_sub(i64::try_from(kept).ok()?).filter(|revision| *revision > 0)?
            }
            AutoCompaction::Periodic(retention) => self.oldest_in(retention, now, newest)?,
        };
        (revision != self.last).then_some(revision)
    }

    /// The revision that was the newest one retention ago.
    fn oldest_in(&mut self, retention: Duration, now: Duration, newest: Revision) -> Option<Revision> {
        let samples =
            usize::try_from(retention.as_nanos() / self.interval().as_nanos()).unwrap_or(usize::MAX);
        self.seen.push_back(newest);
        while self.seen.len() > samples.saturating_add(1) {
            self.seen.pop_front();
        }
        let since = *self.since.get_or_insert(now);
        // The first time a whole retention must have passed; the length of the row of samples says so.
        let waited = now.saturating_sub(since) >= retention.min(PERIODIC_INTERVAL_MAX);
        (waited && self.seen.len() > samples).then(|| self.seen[0])
    }

    fn compacted(&mut self, now: Duration, revision: Revision) {
        self.since = Some(now);
        self.last = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    /// Runs a plan over a store that gets one revision a minute, and returns the minutes and marks of compactions.
    fn check(what: AutoCompaction, minutes: u64, expected: &[(u64, Revision)]) {
        let mut plan = Plan::new(what);
        let mut done = Vec::new();
        let mut now = Duration::ZERO;
        while now <= Duration::from_secs(minutes * MINUTE) {
            let minute = now.as_secs() / MINUTE;
            if let Some(revision) = plan.sample(now, 100 + Revision::try_from(minute).unwrap()) {
                done.push((minute, revision));
                plan.compacted(now, revision);
            }
            now += plan.interval();
        }
        assert_eq!(done, expected, "{what:?}");
    }

    #[test]
    fn a_period_passes_before_the_first_compaction_and_between_two() {
        let minutes = |count: u64| AutoCompaction::Periodic(Duration::from_secs(count * MINUTE));
        check(minutes(10), 35, &[(10, 100), (20, 110), (30, 120)]);
        // Longer retentions are followed by hourly compactions.
        check(minutes(180), 310, &[(180, 100), (240, 160), (300, 220)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        check(AutoCompaction::Revisions(90), 12, &[(0, 10), (5, 15), (10, 20)]);
        check(AutoCompaction::Revisions(100), 6, &[(5, 5)]);
        check(AutoCompaction::Revisions(u64::MAX), 60, &[]);
    }

    #[test]
    fn a_quiet_store_is_compacted_once() {
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(10)));
        let marks = (0..100).filter_map(|second| {
            let now = Duration::from_secs(second);
            let due = plan.sample(now, 7);
            due.inspect(|revision| plan.compacted(now, *revision))
        });
        assert_eq!(marks.collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_failed_is_due_again() {
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(10)));
        let due: Vec<_> = (0..13).map(|second| plan.sample(Duration::from_secs(second), 5)).collect();
        assert_eq!(due[9..], [None, Some(5), Some(5), Some(5)]);
    }
}
