//! Accept loops: from a listening socket to a running HTTP connection.
//!
//! Owns: listen addresses and sockets, the bounded stage before the first request (TLS handshake, protocol and wrong
//! scheme detection), HTTP/1.1 and HTTP/2 on one port, abuse limits of HTTP/2, the runtimes connections live on, and
//! shutdown. Invariants: an accept loop ends only by shutdown; between accept and the first request every wait has a
//! deadline and the number of connections in that stage is bounded (the oldest gives way); a connection belongs to
//! one runtime for life; after shutdown returned no connection is served.
//! Called by: the binary's wiring, once for the client port, the peer port and the metrics port each.
//! Source: etcd server/embed/{etcd,serve}.go, client/pkg/transport; grpc-go's keepalive enforcement.
//!
//! ```text
//! accept ── pick runtime ──> classify first bytes ── TLS handshake ──> HTTP/1.1 or HTTP/2 ──> service of the runtime
//!            (fewest         (bounded in number and time)               (frame limits)
//!             connections)
//! ```

pub mod address;
pub(crate) mod advice;
mod authority;
pub mod bind;
mod connection;
mod gather;
mod guard;
pub mod options;
mod pending;
pub mod server;
mod sniff;
pub mod stats;
mod stream;

pub use address::{ListenUrl, Scheme};
pub use bind::{BindOptions, ListenError, Listener};
pub use connection::{BoxError, ConnectionInfo, RemoteAddress};
pub use options::{Keepalive, ServerOptions};
pub use server::{Server, ShutdownReport};
pub use stats::EdgeStats;

#[cfg(test)]
mod tests;
