//! The services over real connections, on a member without Raft: commands are applied where they are proposed.
//!
//! One binary for all of them, because each test binary links the whole stack once more.

mod against_etcd;
mod cluster;
mod kit;
mod kv;
mod lease;
mod long_list;
mod maintenance;
mod range_stream;
mod refusals;
mod txn;
mod watch;
