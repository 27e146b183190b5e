//! Load generation for any server that speaks the etcd v3 API, and a fair comparison of two of them.
//!
//! Owns: the workloads, the load loops, the figures. Called by: `keelson bench`, `keelson-bench`, `bench/compare`.
//! Invariants: requests are encoded before the clock starts; a latency is counted from the moment the request was
//! due (open loop) or issued (closed loop); a failed request ends the run with its error, it is never dropped.

pub mod cli;
pub mod client;
pub mod clock;
pub mod compare;
pub mod idle;
pub mod load;
pub mod peer;
pub mod report;
pub mod usage;
pub mod workload;
