//! The generator for choices that are made before a run.
//!
//! Owns: splitmix64. Called by: [`crate::plan`]. During a run choices come from the runtime ([`draw`]), so that they are
//! part of its trace.

use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use rand::Rng;

/// See the module.
pub(crate) struct Random(u64);

impl Random {
    /// One that starts from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A number below `bound` from the running runtime.
pub(crate) fn draw(bound: u64) -> u64 {
    SimRuntime::thread_rng().next_u64() % bound
}

/// True `percent` times out of a hundred.
pub(crate) fn percent(percent: u64) -> bool {
    draw(100) < percent
}
