//! What is done to the data folder of a member that does not run: filled from an etcd's data, or brought back alone.
//!
//! Owns: the order in which files appear. Called by: the commands `snapshot import`, `snapshot restore` and `recover`.
//! Invariants: the identity is written last, so a folder that is half made is refused by the store; a folder with anything in it
//! is never filled.

mod found;
pub mod recover;

pub use found::{Made, Source, found};

pub use crate::server::StartError as OfflineError;
