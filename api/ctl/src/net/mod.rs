//! Connections to servers: where they are, TLS, login, calls.

pub(crate) mod client;
pub(crate) mod connector;
pub(crate) mod endpoint;
pub(crate) mod settings;
pub(crate) mod tls;
