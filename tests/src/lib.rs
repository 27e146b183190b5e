//! Tests of Keelson as real processes, beside real etcd of a pinned release.
//!
//! Owns: starting and disturbing servers ([`cluster`]), comparing two servers operation by operation ([`differential`]),
//! recording histories under kills and pauses ([`crash`]), and running foreign clients ([`tools`]).
//! Called by: the suites in `tests/tests`, one file per suite.
//! Invariant: nothing here knows Keelson's inside; a server is a command line, ports and a data directory, and every suite
//! runs against etcd as well (`KEELSON_TEST_SUBJECT=etcd`), which is how the suites themselves are tested.

pub mod certificates;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod crash;
pub mod differential;
pub mod dynamic;
pub mod environment;
pub mod http;
pub mod missing;
pub mod peers;
pub mod random;
pub mod seen;
pub mod tools;
