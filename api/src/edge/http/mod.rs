//! The HTTP endpoints of etcd that are not part of its API: version, health, metrics, variables.
//!
//! Owns: [`router`] and [`metrics_router`], the trait they ask ([`HealthSource`]), and the access rules around all
//! HTTP requests ([`access`]). Invariants: texts, status codes and headers are etcd 3.7's; a health answer is bounded
//! in time. Called by: the wiring, which puts the router behind [`crate::edge::dispatch`].
//! Source: etcd server/etcdserver/api/etcdhttp, checked against a running etcd 3.7.3.

pub mod access;
pub mod checks;
pub mod reply;
pub mod routes;
pub mod source;

pub use access::AccessControl;
pub use routes::{HttpOptions, metrics_router, nothing, router};
pub use source::{AlarmKind, HealthError, HealthSource, Versions};

#[cfg(test)]
mod tests;
