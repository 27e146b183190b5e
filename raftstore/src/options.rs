//! Everything about a member that can be set.
//!
//! Owns: the options, their defaults with reasons, and the translation into openraft's configuration. Called by: `node`.
//! Invariant: a restarted leader never resumes its old term (`enable_leader_restore` is off, rule 1): it may have
//! replicated entries that its own disk never got, and would then propose others at the same log ids.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::proposer::ProposerOptions;
use crate::state_machine::{Blocking, GroupOptions};
use crate::types::MemberId;

/// See the module.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Which cluster; peers of another one are refused.
    pub cluster: u64,
    /// Who this is.
    pub member: MemberId,
    /// Times.
    pub timing: Timing,
    /// Proposals.
    pub proposer: ProposerOptions,
    /// Groups of entries applied together.
    pub group: GroupOptions,
    /// When to flush and how much log to keep.
    pub keeping: Keeping,
    /// Membership rules.
    pub membership: MembershipOptions,
    /// Where flushes run.
    pub blocking: Blocking,
}

impl NodeOptions {
    /// Defaults for this member.
    pub fn new(cluster: u64, member: MemberId) -> Self {
        NodeOptions {
            cluster,
            member,
            timing: Timing::default(),
            proposer: ProposerOptions::default(),
            group: GroupOptions::default(),
            keeping: Keeping::default(),
            membership: MembershipOptions::default(),
            blocking: Blocking::Thread,
        }
    }
}

/// Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest time without a leader before an election (the longest is 1.4 times that), and how long a leader or a
    /// follower believes in the last acknowledgement. At least five heartbeats.
    pub election_ms: u64,
    /// How long the leader may take to answer a forwarded batch before the connection counts as lost. By default longer
    /// than any client waits.
    pub forward_ms: u64,
    /// How often deadlines of proposals are looked at.
    pub sweep_ms: u64,
    /// How often the keeper looks around.
    pub keeper_ms: u64,
    /// A write to the log older than this: the disk stalls, health fails.
    pub stall_ms: u64,
    /// One this old: leadership goes to another member.
    pub stall_transfer_ms: u64,
    /// One this old: the process ends, so that others stop waiting for it.
    pub stall_fatal_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat_ms: 100,
            election_ms: 1000,
            forward_ms: 10_000,
            sweep_ms: 50,
            keeper_ms: 100,
            stall_ms: 1000,
            stall_transfer_ms: 2000,
            stall_fatal_ms: 20_000,
        }
    }
}

impl Timing {
    /// [`Timing::forward_ms`].
    pub fn forward_timeout(&self) -> Duration {
        Duration::from_millis(self.forward_ms)
    }

    /// How long an append may stay unanswered: a follower's disk may take its time, an election timeout at most.
    pub fn append_idle(&self) -> Duration {
        self.election()
    }

    /// [`Timing::election_ms`].
    pub fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms)
    }
}

/// When to flush the engine, and how much of the log to keep.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Flush after so many payload bytes applied: bounds what is replayed after a kill.
    pub flush_bytes: u64,
    /// Flush after so long without anything applied.
    pub flush_idle_ms: u64,
    /// Log kept behind the flushed position and behind the slowest live follower.
    pub log_bytes_kept: u64,
    /// Log kept at most, whoever needs more gets a snapshot.
    pub log_bytes_max: u64,
    /// A follower that has not acknowledged anything for so long does not hold the log back.
    pub follower_live_ms: u64,
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping {
            flush_bytes: 8 << 20,
            flush_idle_ms: 5000,
            log_bytes_kept: 32 << 20,
            log_bytes_max: 512 << 20,
            follower_live_ms: 30_000,
        }
    }
}

/// Rules for changes of the membership.
#[derive(Clone, Debug)]
pub struct MembershipOptions {
    /// Learners at most; etcd's default.
    pub learners_max: usize,
    /// Refuse changes that would leave the members that are up without a quorum.
    pub strict: bool,
}

impl Default for MembershipOptions {
    fn default() -> Self {
        MembershipOptions { learners_max: 1, strict: true }
    }
}

pub(crate) fn raft_config(options: &NodeOptions) -> Result<Arc<Config>, openraft::ConfigError> {
    let timing = &options.timing;
    let config = Config {
        cluster_name: format!("{:x}", options.cluster),
        heartbeat_interval: timing.heartbeat_ms,
        // openraft waits for the end of the leader's lease, whose length is the maximum here, and then for a time drawn
        // between the two: together 1 to 1.4 times what was asked for.
        election_timeout_min: timing.election_ms * 3 / 10,
        election_timeout_max: timing.election_ms * 7 / 10,
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // The keeper decides when to flush and what to purge.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // The limit that counts is the log store's, in bytes.
        max_payload_entries: 4096,
        install_snapshot_timeout: 60_000,
        removed_leader_step_down: StepDownPolicy::After(150),
        backoff: "50ms 100ms 200ms ..500ms".to_string(),
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 1, first half: the configuration. The second half is the election at start, see `tests/cluster.rs`.
    #[test]
    fn rule_1_a_restarted_leader_does_not_resume_its_term() {
        let config = raft_config(&NodeOptions::new(1, 1)).expect("valid");
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
    }
}
