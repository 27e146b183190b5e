//! Two servers side by side: every operation goes to both, and the answers are compared field by field.
//!
//! Owns: the operations ([`op`]), their random generation ([`generate`]), one server's session ([`session`]), masking and
//! comparison ([`answer`], [`ties`], [`accepted`]), the lockstep run ([`run`]) and the reduction of a failing run
//! ([`shrink`]). Called by: `tests/differential.rs` and the named trap tests.
//! Invariants: both servers start empty and get the same operations in the same order, one at a time, so every revision is
//! the same on both; operations name revisions and leases relative to the run, so a shortened run is still a run.

pub mod accepted;
pub mod answer;
pub mod generate;
pub mod op;
pub mod run;
pub mod session;
pub mod shrink;
pub mod ties;
pub mod watching;
