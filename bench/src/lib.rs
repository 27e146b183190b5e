//! Load generation for any server that speaks the etcd v3 API, and a fair comparison of several of them.
//!
//! Owns: the workloads, the load loops, the figures. Called by: `keelson bench`, `keelson-bench`, `bench/compare.sh`.
//! Invariants: requests are prepared before the clock starts; a latency is counted from the moment the request was
//! due (open loop) or issued (closed loop); a failed request ends the run with its error, it is never dropped.

pub mod cli;
pub mod options;

pub mod compare;
pub mod workload;

pub mod fill;
pub mod load;
pub mod pace;
pub mod recorder;

pub mod client;
pub mod clock;
pub mod counters;
pub mod data;
pub mod figures;
pub mod progress;
pub mod target;
pub mod transport;
mod wire;
