//! The edge: everything between a socket and a service.
//!
//! Owns: TLS settings and their reload ([`tls`]), accept loops and connection limits ([`listener`]), the HTTP
//! endpoints that operators and probes call ([`http`]), and the numbers they scrape ([`metrics`]).
//! Invariants: no connection is half open for longer than a stated bound; a failed reload keeps the last good
//! certificates; an accept loop ends only by shutdown; nothing here knows Raft, MVCC or protobuf.
//! Called by: the binary's wiring, which binds listeners, builds one service per runtime and hands both to
//! [`listener::Server::start`].
//! Source: etcd server/embed (listeners, TLS, serve loop), server/etcdserver/api/etcdhttp (endpoints).

pub mod clock;
mod complaints;
pub mod dispatch;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod timestamp;
pub mod tls;
pub mod tracer;

#[cfg(test)]
mod testkit;
