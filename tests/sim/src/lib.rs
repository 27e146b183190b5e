//! The real store in a simulated world: members of `keelson_raftstore` on simulated disks, clocks and networks, clients
//! that record every answer, and a verdict. One seed is one run.
//!
//! Owns: the simulation. Called by: `tests/campaign.rs`. See `README.md` for how to run it and what it has found.

pub mod campaign;
pub mod run;

pub mod plan;
pub mod planted;

mod nemesis;
mod verdict;
mod world;

mod client;
mod convert;
mod watcher;

mod life;
mod machine;
mod member;

mod device;
mod engine;
mod source;
mod transport;

mod random;

use keelson_raftstore::MemberId;

/// The cluster all members belong to.
const CLUSTER: u64 = 0xc1;

fn urls(id: MemberId) -> Vec<String> {
    vec![format!("http://member-{id}:2380")]
}
