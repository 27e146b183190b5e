//! Crash tests: clients work, processes die or freeze, and the recorded history must still keep every promise.
//!
//! Owns: the load ([`load`]), the watchers ([`watchers`]), the disturbances ([`nemesis`]) and the verdict ([`verify`]).
//! Called by: `tests/crash.rs`, and by hand for long runs (see there).
//! Invariants: clocks of all clients are one clock; every value is unique; a run in which little was acknowledged, or in
//! which no disturbance took place, fails: it proves nothing.

pub mod convert;
pub mod load;
pub mod nemesis;
pub mod recorder;
pub mod verify;
pub mod watchers;
