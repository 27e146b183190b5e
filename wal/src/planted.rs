//! A bug on purpose, for the proof that the simulation finds it.
//!
//! Owns: one switch per thread (a run of the simulation is one thread). Called by: `tests/sim`; asked by `scan`.

use std::cell::Cell;

thread_local! {
    static TORN_BLOCKS_ACCEPTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a block that starts well is taken as it is, however it goes on.
pub fn accept_torn_blocks(accept: bool) {
    TORN_BLOCKS_ACCEPTED.set(accept);
}

pub(crate) fn torn_blocks_accepted() -> bool {
    TORN_BLOCKS_ACCEPTED.get()
}
