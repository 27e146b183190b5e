//! What a run is like: sizes, times and which faults happen, all from its seed.
//!
//! Owns: the choices. Called by: [`crate::run`]. Invariant: each kind of fault is switched on for some runs and off for
//! others ("swarm"): a run in which everything fails at once seldom gets far enough to show what one fault does.

use std::time::Duration;

use keelson_raftstore::options::Keeping;
use keelson_raftstore::state_machine::{Blocking, GroupOptions};
use keelson_raftstore::{MemberId, NodeOptions};

use crate::random::Random;

/// Kinds of faults and disturbances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process is killed or a machine loses power; it comes back.
    Crash,
    /// Power goes in the middle of a write or a sync.
    TornWrite,
    /// A write, sync or change of a name fails, or the engine does: the member must end without acknowledging.
    DiskError,
    /// Syncs take long.
    Stall,
    /// Links are cut in one direction or both.
    Partition,
    /// Messages and answers get lost.
    Loss,
    /// Messages take long, so that those of different connections overtake each other.
    Delay,
    /// Leadership is handed over.
    Transfer,
    /// Members are added, promoted and removed.
    Membership,
    /// Members stop in good order and come back.
    Stop,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::Crash,
        Kind::TornWrite,
        Kind::DiskError,
        Kind::Stall,
        Kind::Partition,
        Kind::Loss,
        Kind::Delay,
        Kind::Transfer,
        Kind::Membership,
        Kind::Stop,
    ];
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// First members.
    pub members: u64,
    /// Clients that read and write.
    pub clients: u32,
    /// Watchers besides those that audit each member.
    pub watchers: u32,
    /// Different keys.
    pub keys: u64,
    /// What may happen. A kind may be listed twice and then happens twice as often.
    pub kinds: Vec<Kind>,
    /// Disturbances before everything heals.
    pub steps: u64,
    /// Longest pause between two of them.
    pub step_max: Duration,
    /// Revisions the hub remembers.
    pub hub_revisions: usize,
    /// The engine flushes and drops by itself once in so many writes, 0 = never.
    pub engine_moods: u32,
    keeping: Keeping,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let members = [3, 3, 3, 4, 5][random.below(5) as usize];
        let mut kinds: Vec<_> = Kind::ALL.into_iter().filter(|_| random.below(2) == 0).collect();
        // Restarts are what most promises are about.
        kinds.push(Kind::Crash);
        Plan {
            seed,
            members,
            clients: 3 + random.below(3) as u32,
            watchers: 2 + random.below(2) as u32,
            keys: 4 + random.below(8),
            kinds,
            steps: 10 + random.below(10),
            step_max: Duration::from_millis(60 + random.below(140)),
            hub_revisions: 4 << random.below(6),
            engine_moods: [0, 0, 30][random.below(3) as usize],
            keeping: Keeping {
                flush_bytes: 1 << (9 + random.below(5)),
                flush_idle_ms: 60,
                log_bytes_kept: [0, 0, 2 << 10][random.below(3) as usize],
                log_bytes_max: 8 << 10,
                follower_live_ms: 60,
            },
        }
    }

    /// The options of a member: production code in shorter times and smaller sizes.
    pub fn node_options(&self, id: MemberId) -> NodeOptions {
        let mut options = NodeOptions::new(crate::CLUSTER, id);
        options.blocking = Blocking::Inline;
        options.timing.heartbeat_ms = 20;
        options.timing.election_ms = 300;
        options.timing.forward_ms = 150;
        options.timing.keeper_ms = 10;
        options.timing.sweep_ms = 10;
        options.timing.stall_ms = 100;
        options.timing.stall_transfer_ms = 150;
        options.timing.stall_fatal_ms = 1000;
        options.group = GroupOptions { bytes_max: 1 << 10, entries_max: 8 };
        options.keeping = self.keeping.clone();
        options
    }
}
