//! Everything the member listens on.
//!
//! Owns: sockets of the client, peer and metrics ports. Called by: `server`.
//! Invariants: sockets are bound first, so that a port in use is reported before any data is touched; clients are
//! served only when the member is ready.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use keelson_api::AppState;
use keelson_api::edge::dispatch::Dispatch;
use keelson_api::edge::http::{self, AccessControl, HttpOptions};
use keelson_api::edge::listener::{BindOptions, Keepalive, ListenUrl, Listener, Server, ServerOptions};
use keelson_api::edge::metrics::edge::{Observed, register};
use keelson_api::edge::metrics::{EtcdMetrics, GrpcMetrics, Registry, process};
use keelson_api::edge::tls::san::SystemResolver;
use keelson_api::edge::tls::{PeerConnector, ServerTls};
use keelson_api::edge::tracer::CallTracer;
use keelson_api::gateway;
use keelson_mvcc::RocksEngine;
use keelson_raftstore::Handle;
use keelson_raftstore::net::grpc::{Dial, GrpcTransport, PeerGrpc, PeerIo};
use keelson_raftstore::net::{PeerService, Transport};

use super::peer_traffic::{CountedPeers, CountedTransport, PeerTraffic};
use super::{StartError, health, observe, peers, tls};
use crate::config::EffectiveConfig;
use crate::config::url::Url;

/// Bound sockets that do not serve yet.
pub(super) struct Ports {
    clients: Vec<Listener>,
    http: Vec<Listener>,
    peers: Vec<Listener>,
    metrics: Vec<Listener>,
    tls: tls::Material,
}

/// Ports that serve.
pub(super) struct Serving {
    ports: Ports,
    peers: Option<Server>,
    others: Vec<Server>,
}

impl Ports {
    /// Binds every address of the configuration.
    pub(super) fn bind(config: &EffectiveConfig, tls: tls::Material) -> Result<Self, StartError> {
        let options = BindOptions { reuse_port: config.listen.reuse_port, ..BindOptions::default() };
        let bind = |urls: &[Url], tls: &Option<Arc<ServerTls>>| {
            let urls: Vec<ListenUrl> = urls
                .iter()
                .map(|url| url.to_string().parse())
                .collect::<Result<_, _>>()
                .map_err(listen_error)?;
            Listener::bind_all(&urls, tls.as_ref(), &options).map_err(listen_error)
        };
        let mut peers = bind(&config.listen.peer_urls, &tls.peer)?;
        if !config.peer_tls.skip_san_verification {
            // Without TLS there are no certificates to compare with, and nothing is checked.
            let resolver = Arc::new(SystemResolver);
            peers = peers.into_iter().map(|one| one.check_peer_addresses(resolver.clone())).collect();
        }
        Ok(Ports {
            clients: bind(&config.listen.client_urls, &tls.client)?,
            http: bind(&config.listen.client_http_urls, &tls.client)?,
            peers,
            metrics: bind(&config.listen.metrics_urls, &tls.client)?,
            tls,
        })
    }

    /// Serves other members, on the runtime of the caller.
    pub(super) fn serve_peers(
        mut self,
        node: &Handle<RocksEngine>,
        state: &AppState,
        traffic: Arc<PeerTraffic>,
    ) -> Result<Serving, StartError> {
        let listeners = std::mem::take(&mut self.peers);
        let service: Arc<dyn PeerService> = Arc::new(CountedPeers { inner: node.peer_service(), traffic });
        let state = state.clone();
        let options = ServerOptions { runtimes: 0, ..ServerOptions::default() };
        let server = Server::start(listeners, options, move |_| {
            Dispatch::new(PeerGrpc::new(service.clone()), peers::router(state.clone()))
        })
        .map_err(listen_error)?;
        Ok(Serving { ports: self, peers: Some(server), others: Vec::new() })
    }
}

impl Serving {
    /// Serves clients and probes.
    pub(super) fn serve_clients(
        &mut self,
        config: &EffectiveConfig,
        state: &AppState,
        registry: &Arc<Registry>,
        metrics: &Arc<EtcdMetrics>,
        tracer: Option<Arc<dyn CallTracer>>,
    ) -> Result<(), StartError> {
        let options = server_options(config);
        let runtimes = options.runtimes;
        let grpc_metrics = GrpcMetrics::new(registry, runtimes.max(1), config.metrics_extensive);
        let slow = config.checks.warning_unary_request;
        process::register(registry);
        let source = Arc::new(health::Health(state.clone()));
        let http_options = HttpOptions {
            read_timeout: state.options.request_timeout(),
            ..HttpOptions::new(source, registry.clone(), metrics.clone())
        };
        let access = AccessControl::new(
            config.security.cors.clone().unwrap_or_else(|| vec!["*".to_owned()]),
            config.security.host_whitelist.clone().unwrap_or_else(|| vec!["*".to_owned()]),
        );
        let names = state.clone();
        let access = access
            .refuse_gateway_names(move || names.options.client_cert_auth && names.view().auth().is_enabled());

        let with_gateway = config.listen.json_gateway;
        let message_bytes_max = state.options.message_bytes_max();
        let (app, endpoints, rules) = (state.clone(), http_options.clone(), access.clone());
        // As in etcd: addresses for HTTP of its own take it away from the others.
        let with_http = config.listen.client_http_urls.is_empty();
        let clients = Server::start(std::mem::take(&mut self.ports.clients), options, move |runtime| {
            let (state, replies) = app.with_lane();
            tokio::spawn(replies.run());
            let grpc = keelson_api::services::routes(state).expect("the descriptors in this binary decode");
            let layer = grpc_metrics.layer(runtime).log_slower_than(slow).trace(tracer.clone());
            let grpc = tower::Layer::layer(&layer, grpc);
            let http = match (with_http, with_gateway) {
                (false, _) => http::nothing(),
                (true, false) => http::router(&endpoints),
                (true, true) => {
                    http::router(&endpoints).merge(gateway::router(grpc.clone(), message_bytes_max))
                }
            };
            Dispatch::new(grpc, rules.clone().protect(http))
        })
        .map_err(listen_error)?;
        let mut observed = vec![Observed {
            port: "client",
            stats: clients.stats().clone(),
            tls: self.ports.tls.client.clone(),
        }];
        observe::client_bytes(metrics, clients.stats());
        self.others.push(clients);

        let (endpoints, app) = (http_options.clone(), state.clone());
        self.serve_http(
            "http",
            |ports| &mut ports.http,
            &mut observed,
            move || {
                let mut router = http::router(&endpoints);
                if with_gateway {
                    let grpc = keelson_api::services::routes(app.clone())
                        .expect("the descriptors in this binary decode");
                    router = router.merge(gateway::router(grpc, message_bytes_max));
                }
                access.clone().protect(router)
            },
        )?;
        self.serve_http(
            "metrics",
            |ports| &mut ports.metrics,
            &mut observed,
            move || http::metrics_router(&http_options),
        )?;
        if let Some(peers) = &self.peers {
            observed.push(Observed {
                port: "peer",
                stats: peers.stats().clone(),
                tls: self.ports.tls.peer.clone(),
            });
        }
        observed.sort_by_key(|server| server.port);
        register(registry, observed);
        Ok(())
    }

    fn serve_http(
        &mut self,
        port: &'static str,
        listeners: impl FnOnce(&mut Ports) -> &mut Vec<Listener>,
        observed: &mut Vec<Observed>,
        router: impl Fn() -> axum::Router + Send + Sync + 'static,
    ) -> Result<(), StartError> {
        let listeners = std::mem::take(listeners(&mut self.ports));
        if listeners.is_empty() {
            return Ok(());
        }
        let server =
            Server::start(listeners, ServerOptions::default(), move |_| router()).map_err(listen_error)?;
        observed.push(Observed { port, stats: server.stats().clone(), tls: self.ports.tls.client.clone() });
        self.others.push(server);
        Ok(())
    }

    /// Lets clients finish, then peers.
    pub(super) async fn shutdown(self, grace: Duration) {
        for server in self.others {
            let report = server.shutdown(grace).await;
            if report.forced > 0 {
                tracing::info!(connections = report.forced, "closed connections that did not finish in time");
            }
        }
        if let Some(peers) = self.peers {
            // Streams between members have no end of their own.
            peers.shutdown(Duration::ZERO).await;
        }
    }
}

/// Messages to other members over gRPC, on the runtime of the caller.
pub(super) fn transport(connector: PeerConnector, traffic: Arc<PeerTraffic>) -> Arc<dyn Transport> {
    let inner = Arc::new(GrpcTransport::new(Arc::new(PeerDial(connector))));
    Arc::new(CountedTransport { inner, traffic })
}

/// Connects to members with the peer port's TLS settings.
struct PeerDial(PeerConnector);

impl Dial for PeerDial {
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerIo>>> {
        let (connector, url) = (self.0.clone(), url.to_owned());
        Box::pin(async move {
            let uri = url
                .parse()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {error}")))?;
            let stream = connector.connect(&uri).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn PeerIo>)
        })
    }
}

fn server_options(config: &EffectiveConfig) -> ServerOptions {
    let limits = &config.limits;
    // One core is for Raft, apply and the log; on a machine with one or two there is one thread for clients.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerOptions {
        runtimes: cores.saturating_sub(1).max(1),
        streams_max: (limits.concurrent_streams_max != u32::MAX).then_some(limits.concurrent_streams_max),
        keepalive: Keepalive {
            min_time: limits.keepalive_min_time,
            // Zero switches pings off.
            interval: limits.keepalive_interval.unwrap_or(Duration::ZERO),
            timeout: limits.keepalive_timeout.unwrap_or(Duration::ZERO),
        },
        ..ServerOptions::default()
    }
}

fn listen_error(error: keelson_api::edge::listener::ListenError) -> StartError {
    StartError::new("listen", "see the cause").caused_by(error)
}
