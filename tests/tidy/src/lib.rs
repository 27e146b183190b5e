//! Reads the repository the way its tests need it: which files there are, and which paths a document names.
//!
//! Owns: the walk and the reading of documents. Invariants: build output and data are never walked.
//! Called by: the tests of this crate; nothing else is in it. Source of the idea: rust-analyzer, xtask/src/tidy.rs.

pub mod documents;
pub mod licence;
pub mod repository;
