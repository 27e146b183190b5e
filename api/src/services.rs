//! The gRPC services of the etcd API.
//!
//! Owns: one handler per method, and the service they are reached through. Called by: the edge, which adds its HTTP
//! endpoints and listens. Invariants: a handler admits, checks, converts, asks, and answers; everything that decides
//! lives in the modules it calls.
//! Source: etcd `server/etcdserver/api/v3rpc`.

mod router;

mod auth;
mod cluster;
mod election;
mod keep_alive;
mod kv;
mod lease;
mod lock;
mod long_list;
mod maintenance;
mod one_message;
mod range;
mod range_stream;
mod recipes;
mod watch;
mod watch_body;
mod watch_codec;

pub(crate) use maintenance::downgrade_target;
pub use router::{GrpcService, ResponseFuture, routes};
pub use watch_codec::WatchCodec;
