//! Compares this member's data with the others': before it serves, from time to time, and after compactions.
//!
//! Owns: when to compare, and what follows. Called by: `server`. Invariants: a check that cannot compare is neither passed
//! nor failed: it says so and comes again; only the leader checks and raises alarms while the cluster runs; a member
//! that a majority contradicts does not begin to serve; the checks take a small part of one core, however large the
//! data are.
//! Source: etcd `server/etcdserver/corrupt.go` (`InitialCheck`, `PeriodicCheck`, `CompactHashCheck`).

use std::time::Duration;

use keelson_api::AppState;
use keelson_api::divergence::{Comparison, Verdict};
use keelson_mvcc::types::{Alarm, AlarmKind, Command, Revision};

use super::StartError;
use crate::config::EffectiveConfig;

/// How long another member may take to read all its data.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// A check that took so long is followed by a pause of so many times that.
const PAUSE_PER_CHECK: u32 = 50;
/// Pause before others are asked again that were not there yet.
const START_PAUSE: Duration = Duration::from_millis(100);

/// Begins the checks of a running member, as far as they are wanted.
pub(super) fn spawn(config: &EffectiveConfig, state: &AppState) {
    let period = config.checks.corrupt_check_time;
    if !period.is_zero() {
        tokio::spawn(check_periodically(period, state.clone()));
    }
    if config.feature_gates.is_enabled("CompactHashCheck") {
        tokio::spawn(check_compactions(config.checks.compact_hash_check_time, state.clone()));
    }
}

/// Compares with the others before clients are served.
///
/// # Errors
/// The data differ from those of others, and no majority has what this member has.
pub(super) async fn check_at_start(state: &AppState) -> Result<(), StartError> {
    let revision = state.view().revision();
    let deadline = state.clock.now() + state.options.election_timeout;
    // A store that was never written to has nothing to compare.
    while is_one_of_several(state) && revision > 1 {
        let compared = state.compare_history(revision, state.options.request_timeout(), false).await;
        let Comparison { own, verdict } = match compared {
            Ok(comparison) => comparison,
            Err(status) => {
                tracing::warn!(error = status.message(), "the data are not compared with the other members'");
                return Ok(());
            }
        };
        match verdict {
            Verdict::Equal { compared, by_majority } => {
                if by_majority || state.clock.now() >= deadline {
                    tracing::info!(compared, revision, "the data are those of the other members");
                    return Ok(());
                }
            }
            Verdict::NotCompared => {
                if state.clock.now() >= deadline {
                    tracing::warn!("no other member answers; the data are not compared with theirs");
                    return Ok(());
                }
            }
            Verdict::Outvoted(others) if !others.contains(&state.options.member_id) => {
                tracing::error!(members = %hex(&others), revision, "other members have damaged data");
                return Ok(());
            }
            verdict @ (Verdict::Outvoted(_) | Verdict::Undecided) => {
                let id = format!("{:x}", state.options.member_id);
                tracing::error!(
                    revision,
                    compacted = own.compacted,
                    hash = own.hash,
                    ?verdict,
                    "data differ"
                );
                return Err(StartError::new(
                    format!("member {id} has data that differ from the other members'"),
                    format!(
                        "compare `etcdctl endpoint hashkv` of all members; replace the damaged one: etcdctl member \
                         remove {id}, empty its data folder, etcdctl member add, start it with \
                         --initial-cluster-state=existing"
                    ),
                ));
            }
        }
        state.clock.sleep(START_PAUSE).await;
    }
    Ok(())
}

async fn check_periodically(period: Duration, state: AppState) {
    let mut pause = period;
    loop {
        state.clock.sleep(pause).await;
        let began = state.clock.now();
        check(&state, 0).await;
        pause = period.max((state.clock.now() - began) * PAUSE_PER_CHECK);
    }
}

/// What a compaction has left is the same on all members, whatever was written since.
async fn check_compactions(period: Duration, state: AppState) {
    let mut checked: Revision = 0;
    let mut pause = period;
    loop {
        state.clock.sleep(pause).await;
        let (began, mark) = (state.clock.now(), state.view().compacted());
        if mark > checked && check(&state, mark).await {
            checked = mark;
        }
        pause = period.max((state.clock.now() - began) * PAUSE_PER_CHECK);
    }
}

/// Compares at a revision (0: the newest) and raises the alarms that follow; true if that was done with everybody.
async fn check(state: &AppState, revision: Revision) -> bool {
    if !state.consensus.status().is_leader || !is_one_of_several(state) {
        return false;
    }
    let Comparison { own, verdict } = match state.compare_history(revision, ANSWER_WAIT, true).await {
        Ok(comparison) => comparison,
        Err(status) => {
            tracing::debug!(error = status.message(), "the members' data were not compared");
            return false;
        }
    };
    let named = match verdict {
        Verdict::NotCompared => {
            tracing::warn!("no other member answers; the members' data are not compared");
            return false;
        }
        Verdict::Equal { compared, .. } => {
            tracing::debug!(compared, revision = own.revision, compacted = own.compacted, "equal data");
            return compared + 1 == state.consensus.members().members.len();
        }
        Verdict::Outvoted(members) => members,
        // Nobody knows who is right: the alarm is the whole cluster's, as in etcd.
        Verdict::Undecided => vec![0],
    };
    tracing::error!(
        members = %hex(&named),
        revision = own.revision,
        compacted = own.compacted,
        hash = own.hash,
        remedy = "compare `etcdctl endpoint hashkv` of all members and replace those that differ; then etcdctl alarm disarm",
        "the members' data differ (0: no majority says whose are right); raising the alarm CORRUPT"
    );
    for member in named {
        raise(state, Alarm { member, kind: AlarmKind::Corrupt }).await;
    }
    true
}

async fn raise(state: &AppState, alarm: Alarm) {
    if state.view().has_alarm(alarm) {
        return;
    }
    let command = Command::AlarmRaise(alarm);
    if let Err(error) = state.consensus.propose(&command, state.options.request_timeout(), None).await {
        tracing::warn!(%error, "cannot raise the alarm; the next check tries again");
    }
}

fn is_one_of_several(state: &AppState) -> bool {
    state.consensus.members().members.len() > 1
}

fn hex(members: &[u64]) -> String {
    members.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(",")
}
