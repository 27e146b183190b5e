//! Raft for the store: the log on [`keelson_wal`], the state machine on [`keelson_mvcc`], peers, membership,
//! proposals and linearizable reads.
//!
//! Start a member with [`node::start`]; use it through [`Handle`], or through the object-safe [`Consensus`]. Everything
//! is generic over openraft's runtime, so that the same code runs on tokio and under the deterministic simulation.
//!
//! # One put, role by role
//! | step | on | where |
//! |---|---|---|
//! | encode into the open batch, wait for the reply | any member | [`Consensus::propose`], `proposer::Proposals::propose` |
//! | close the batch, hand it to Raft, or to the leader | any member | `proposer::task`, `net::client::Links::forward` |
//! | forwarded batch becomes a proposal | leader | `net::server::forwarded` |
//! | entry into memory, WAL queue | all | `log_store::Log::append` |
//! | replicate | leader | `net::client::Network::stream_append`, `net::server::append_stream` |
//! | durable | all | `keelson_wal::writer`, `log_store::Log::completed` |
//! | commit | leader, then all | openraft |
//! | engine write, view, events, applied index, replies | all | `state_machine::StateMachine::apply_group` |
//! | reply to who proposed it | the member that proposed | `proposer::Proposals::applied` |
//!
//! # Invariants
//! - purged <= flushed <= applied <= durable and committed <= last (flushed <= durable is asserted at each flush).
//! - A reply is given only by the member that proposed, from its own apply: its next local read sees it.
//! - Entries of another cluster, or from a removed member, are never taken.
//!
//! # Cost of a put in a group of N (sketch)
//! One encoding, one oneshot; per batch one wake of the proposer, one box, one message to openraft; per group one lock
//! of the pending proposals, one engine write, and one channel send per serving runtime. 1/N fsync.

pub mod batch;
pub mod codec;
pub mod consensus;
pub mod events;
pub mod lane;
pub mod log_store;
pub mod net;
pub mod node;
pub mod offline;
pub mod options;
pub mod proposer;
pub mod snapshot;
pub mod state_machine;
pub mod types;
pub mod wire;

mod clock;
mod compactor;
mod confirm;
mod facts;
mod handle;
mod keeper;
mod membership;
mod progress;
mod read_index;

#[cfg(test)]
mod suite_test;

pub use clock::Clock;
pub use consensus::{
    ApplyObserver, CallError, CallHandler, Consensus, Diagnostics, Member, MemberError, Members, NewMember,
    Proposal, ProposeError, ReadIndexError, Status, Stopped, TimeoutCause, TransferError,
};
pub use events::StoreEvents;
pub use handle::Handle;
pub use lane::{Lane, LaneEnd};
pub use log_store::LogOptions;
pub use log_store::device::{LogDevice, WalDevice};
pub use node::{Begin, FatalCause, NodeParts, StartError, start};
pub use options::NodeOptions;
pub use types::MemberId;
