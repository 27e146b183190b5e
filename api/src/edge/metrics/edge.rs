//! Families about the edge itself: connections and certificates.
//!
//! Owns: the `keelson_edge_*` families, which etcd has no counterpart of. Invariants: label values come from a fixed
//! set, never from clients. Called by: the wiring, once all servers run.

use std::sync::Arc;

use super::registry::{Family, Registry};
use super::text::{FamilyWriter, Kind, Label, to_f64};
use crate::edge::listener::EdgeStats;
use crate::edge::listener::stats::Refusal;
use crate::edge::tls::ServerTls;

/// A server to report on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `client`, `peer` or `metrics`.
    pub port: &'static str,
    /// Its counts.
    pub stats: Arc<EdgeStats>,
    /// Its certificates, if it speaks TLS.
    pub tls: Option<Arc<ServerTls>>,
}

type Visit = fn(&Observed, &mut dyn FnMut(&[Label<'_>], f64));

struct PerServer {
    kind: Kind,
    servers: Arc<[Observed]>,
    visit: Visit,
}

impl Family for PerServer {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn write(&self, out: &mut FamilyWriter<'_>) {
        for server in self.servers.iter() {
            (self.visit)(server, &mut |labels, value| out.sample(labels, value));
        }
    }
}

/// Adds the families. `servers` should be sorted by port.
///
/// # Panics
/// If called twice for one registry.
pub fn register(registry: &Registry, servers: Vec<Observed>) {
    let servers: Arc<[Observed]> = servers.into();
    let add = |name, help, kind, visit| {
        registry.register(name, help, PerServer { kind, servers: Arc::clone(&servers), visit });
    };
    add("keelson_edge_connections", "Open connections.", Kind::Gauge, |server, sample| {
        for (runtime, open) in server.stats.active_by_runtime().into_iter().enumerate() {
            sample(&[("port", server.port), ("runtime", &runtime.to_string())], to_f64(open as u64));
        }
    });
    add(
        "keelson_edge_connections_accepted_total",
        "Connections accepted.",
        Kind::Counter,
        |server, sample| {
            sample(&[("port", server.port)], to_f64(server.stats.accepted()));
        },
    );
    add(
        "keelson_edge_connections_pending",
        "Connections before their first request.",
        Kind::Gauge,
        |server, sample| {
            sample(&[("port", server.port)], to_f64(server.stats.pending() as u64));
        },
    );
    add(
        "keelson_edge_connections_refused_total",
        "Connections closed by us, by reason.",
        Kind::Counter,
        |server, sample| {
            for why in Refusal::ALL {
                sample(&[("port", server.port), ("reason", why.label())], to_f64(server.stats.refused(why)));
            }
        },
    );
    add(
        "keelson_tls_certificate_not_after_seconds",
        "End of the server certificate's validity, seconds since the Unix epoch.",
        Kind::Gauge,
        |server, sample| {
            if let Some(tls) = &server.tls {
                let end = u64::try_from(tls.status().not_after_unix_s).unwrap_or(0);
                sample(&[("port", server.port)], to_f64(end));
            }
        },
    );
    add("keelson_tls_loads_total", "Times the TLS files were loaded.", Kind::Counter, |server, sample| {
        if let Some(tls) = &server.tls {
            sample(&[("port", server.port)], to_f64(tls.status().loads));
        }
    });
    add(
        "keelson_tls_reload_failures_total",
        "Changed TLS files that could not be used.",
        Kind::Counter,
        |server, sample| {
            if let Some(tls) = &server.tls {
                sample(&[("port", server.port)], to_f64(tls.status().reload_failures));
            }
        },
    );
}
