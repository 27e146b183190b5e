//! The client API: etcd's gRPC services over a replicated log and a view of the state.
//!
//! Owns: the one place that knows protobuf ([`convert`], [`validate`], [`services`]), the error texts ([`errors`]),
//! lease timing on the leader ([`lease`]), and the edge that listens. Called by: the binary's wiring. Invariants: no
//! service decides anything that must be the same on every member; that is done by commands at apply.
//! Source: etcd 3.7 `server/etcdserver/api/v3rpc`.
//!
//! A Put, seen from here: the edge counts it → `services::router` picks the service → tonic decodes into slices of the
//! request buffer → `services::kv` admits (`call`), checks quota (`quota`) and rules (`validate`) → `convert` moves the slices into a
//! command → `backend::Consensus::propose` encodes it (the one copy) → the reply's revision goes into the header.

pub mod alarms;
pub mod auth;
pub mod backend;
pub mod call;
pub mod clock;
pub mod convert;
pub mod divergence;
pub mod edge;
pub mod errors;
pub mod gateway;
pub mod lease;
pub mod members;
pub mod options;
pub mod services;
pub mod snapshot;
pub mod state;
pub mod validate;

mod quota;
mod transport;

pub use options::ApiOptions;
pub use state::{AppState, Parts};
