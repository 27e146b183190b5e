//! TLS of the client and the peer port, from etcd's settings.
//!
//! Owns: loading of certificates, keys, CAs and revocation lists; their reload while running; the check of who is at
//! the other end; self-signed certificates; the connector for outgoing connections.
//! Invariants: a half-written or broken file never replaces material that works; established connections are never
//! touched by a reload; every rule about the peer (CA, allowed names, revocation) is checked inside the handshake, so
//! no listener can forget it.
//! Called by: [`crate::edge::listener`] for incoming, the peer network for outgoing connections.
//! Source: etcd client/pkg/transport (TLSInfo, listener), client/pkg/tlsutil.

pub mod client;
pub mod connector;
pub mod error;
pub mod identity;
pub mod material;
pub mod reload;
pub mod san;
pub mod self_signed;
pub mod server;
pub mod settings;
pub(crate) mod suites;
pub mod verify;

pub use client::ClientTls;
pub use connector::{ConnectError, PeerConnector, PeerStream};
pub use error::TlsError;
pub use identity::PeerIdentity;
pub use server::{ServerTls, TlsStatus};
pub use settings::{AutoTls, TlsRole, TlsSettings, TlsVersion};
