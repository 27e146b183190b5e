//! Runs a store with a given configuration until it is asked to stop.
//!
//! Owns: the wiring of disk, log, engine, consensus, watches and services, and the order of start and stop. Called by:
//! `cli::store`, once. Threads: `raft` (openraft, apply, proposals, reads, peer port), `wal-writer` and `wal-prep` (log), one per
//! runtime of the client port, and this one (signals, background work of the services).
//! Invariants: nothing listens for clients before everything known to be committed is applied again; at the end the
//! leadership is handed over first, then clients are let go, then log and engine are closed.

mod auto_compaction;
mod corruption;
mod disk_space;
mod footprint;
mod health;
pub(crate) mod identity;
mod no_sync;
mod node;
mod observe;
mod peer_traffic;
mod peers;
mod ports;
mod tls;
mod traces;

pub(crate) use node::make_private;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::auth::{Jwt, TokenKeyError, TokenKind};
use keelson_api::clock::TokioClock;
use keelson_api::edge::metrics::{EtcdMetrics, Registry};
use keelson_api::{ApiOptions, AppState, Parts};
use keelson_raftstore::consensus::Stopped;
use thiserror::Error;

use crate::config::{EffectiveConfig, duration};
use crate::{lifecycle, version};

/// How long requests under way may take to finish at a graceful stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A lease that was not renewed for so long has its remaining time written down; etcd's figure.
const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Life of a token where the setting is zero.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// Why the store could not start, or why it ended by itself.
#[derive(Debug, Error)]
#[error("{problem}")]
pub struct StartError {
    /// What failed, as verb and object, with the setting and its value.
    problem: String,
    /// What to do, as one sentence without a full stop.
    remedy: String,
    /// The lower error.
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StartError {
    /// An error without a lower one.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> StartError {
        StartError { problem: problem.into(), remedy: remedy.into(), source: None }
    }

    /// The same with the error that caused it.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> StartError {
        self.source = Some(source.into());
        self
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Whether the data folder already has a member in it, so that the bootstrap settings no longer count.
pub fn is_initialised(config: &EffectiveConfig) -> bool {
    std::fs::read_dir(&config.member.data_dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// Runs the store; returns after a graceful stop asked for through `lifecycle::stop_requested`.
///
/// # Errors
/// A start that fails, with the setting and a remedy.
pub fn run(config: EffectiveConfig) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        StartError::new("start a runtime", "check the limit of open files").caused_by(error)
    })?;
    runtime.block_on(serve(config))
}

async fn serve(config: EffectiveConfig) -> Result<(), StartError> {
    let registry = Arc::new(Registry::default());
    let metrics = EtcdMetrics::new(&registry);
    let tls = tls::Material::load(&config)?;
    let token_kind = token_kind(&config)?;
    let ports = ports::Ports::bind(&config, tls.clone())?;
    let traffic = peer_traffic::PeerTraffic::new(metrics.clone());
    let node = node::start(&config, tls.connector(), metrics.clone(), traffic.clone()).await?;
    tokio::spawn(tls.reload_at_hangup());

    let state = AppState::new(Parts {
        options: ApiOptions {
            token_kind,
            ..api_options(&config, node.identity.cluster, node.identity.member)
        },
        consensus: node.handle.consensus().clone(),
        reader: Arc::new(node.handle.reader()),
        hub: node.handle.hub(),
        clock: Arc::new(TokioClock::new()),
    });
    state.consensus.serve_calls(Arc::new(state.clone()));
    let slow_apply = config.checks.warning_apply;
    state.consensus.observe_applied(Arc::new(observe::Applied::new(&metrics, &state, slow_apply)));
    observe::follow(&metrics, &state);
    observe::feature_gates(&metrics, &config.feature_gates);
    tokio::spawn(observe::count_leader_changes(metrics.clone(), state.clone()));
    tokio::spawn(state.clone().run_background());
    tokio::spawn(disk_space::watch(config.clone(), state.clone()));
    tokio::spawn(peer_traffic::probe(traffic.clone(), state.clone()));
    corruption::spawn(&config, &state);
    if let Some(what) = config.auto_compaction {
        tokio::spawn(auto_compaction::run(what, state.clone()));
    }
    let mut serving = {
        let _on_raft = node.runtime.enter();
        ports.serve_peers(&node.handle, &state, traffic)?
    };

    // Before the member is ready, a read could go back in time; a quorum that is not there yet must not keep a
    // restarted member from answering what needs no quorum, so this waits for the member's own log only.
    tokio::select! {
        biased;
        () = lifecycle::stop_requested() => {
            node.shutdown().await;
            return Ok(());
        }
        ready = ready_to_serve(&config, &state) => ready?,
    }
    tokio::spawn(keelson_api::members::publish(
        state.clone(),
        keelson_api::members::MemberAttributes {
            name: config.member.name.clone(),
            client_urls: config.cluster.advertise_client_urls.iter().map(ToString::to_string).collect(),
        },
    ));
    let traces = config.tracing.as_ref().map(traces::Traces::export).transpose()?;
    let tracer = traces.as_ref().map(traces::Traces::tracer);
    serving.serve_clients(&config, &state, &registry, &metrics, tracer)?;
    lifecycle::ready();
    tokio::spawn(footprint::give_back_start(state.clone()));

    tokio::select! {
        biased;
        () = lifecycle::stop_requested() => {}
        () = removed(&state) => {
            tracing::warn!("this member was removed from its cluster; stopping for good");
        }
    }
    lifecycle::stopping();
    // Others take over while clients still get answers here.
    node.hand_over(&state).await;
    state.stop();
    serving.shutdown(STOP_GRACE).await;
    if let Some(traces) = traces {
        traces.shutdown().await;
    }
    node.shutdown().await;
    Ok(())
}

/// Completes when this member has applied what its log held and, added as a voter, counts for the quorum: who sees the
/// new member ready may stop an old one.
async fn ready_to_serve(config: &EffectiveConfig, state: &AppState) -> Result<(), StartError> {
    let stopped = |error: Stopped| StartError::new("start the member", "see the log above").caused_by(error);
    state.consensus.ready().await.map_err(stopped)?;
    if config.feature_gates.is_enabled("InitialCorruptCheck") {
        corruption::check_at_start(state).await?;
    }
    loop {
        let changed = state.consensus.changed();
        let (status, members) = (state.consensus.status(), state.consensus.members());
        let own = members.members.iter().find(|member| member.id == status.member);
        if status.removed || own.is_some_and(|member| !member.joining) {
            return Ok(());
        }
        changed.await;
    }
}

/// Completes when the cluster has removed this member.
async fn removed(state: &AppState) {
    loop {
        let changed = state.consensus.changed();
        if state.consensus.status().removed {
            return;
        }
        changed.await;
    }
}

/// How users show who they are, with the keys it takes.
fn token_kind(config: &EffectiveConfig) -> Result<TokenKind, StartError> {
    match config.auth.token.split_once(',').unwrap_or((&config.auth.token, "")) {
        ("jwt", options) => {
            let keys = Jwt::load(options, duration::parse);
            let error = |error: TokenKeyError| {
                StartError::new(
                    "prepare the tokens of users",
                    "give --auth-token=jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE, or 'simple'",
                )
                .caused_by(error)
            };
            Ok(TokenKind::Jwt(Arc::new(keys.map_err(error)?)))
        }
        _ => Ok(TokenKind::Simple),
    }
}

fn api_options(config: &EffectiveConfig, cluster: u64, member: u64) -> ApiOptions {
    ApiOptions {
        server_version: version::ETCD_VERSION.to_owned(),
        txn_ops_max: config.limits.txn_ops_max,
        request_bytes_max: config.limits.request_bytes_max,
        quota_bytes: config.member.quota_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        heartbeat_interval: config.cluster.heartbeat_interval,
        election_timeout: config.cluster.election_timeout,
        watch_progress_interval: config.checks.progress_notify_interval,
        lease_checkpoint_interval: Some(LEASE_CHECKPOINT_INTERVAL)
            .filter(|_| config.feature_gates.is_enabled("LeaseCheckpoint")),
        no_space_clears_itself: config.feature_gates.is_enabled("NoSpaceAutoDisarm"),
        cluster_token: config.cluster.token.clone(),
        snapshot_dir: config.member.data_dir.clone(),
        // As in etcd, no life at all means the default one.
        token_lifetime: Some(config.auth.token_ttl).filter(|ttl| !ttl.is_zero()).unwrap_or(TOKEN_LIFETIME),
        bcrypt_cost: config.auth.bcrypt_cost,
        client_cert_auth: config.client_tls.client_cert_auth,
        ..ApiOptions::new(cluster, member)
    }
}
