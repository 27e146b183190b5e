//! The replicated part of the member: identity, log, engine and Raft, on a thread of their own.
//!
//! Owns: the folders below the data folder and the thread `raft`. Called by: `server`.
//! Invariants: the identity is durable before log or engine exist; a failure of log, engine or Raft ends the process,
//! because what was promised to clients can only be kept by starting again from what is durable.
//!
//! Folders: `identity.json`, `wal/` (or `--wal-dir`), `db/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use keelson_api::AppState;
use keelson_api::edge::metrics::EtcdMetrics;
use keelson_api::edge::tls::PeerConnector;
use keelson_api::services::WatchCodec;
use keelson_mvcc::{RocksEngine, RocksOptions, Store, StoreOptions};
use keelson_raftstore::log_store::device::WalDevice;
use keelson_raftstore::options::{MembershipOptions, NodeOptions, Timing};
use keelson_raftstore::{Begin, FatalCause, Handle, LogOptions, NodeParts, StoreEvents};
use keelson_wal::{Identity as WalIdentity, Options as WalOptions, Wal, WriterOptions, spawn_writer};
use keelson_watch::{Hub, HubOptions};
use tokio::sync::oneshot;

use super::StartError;
use super::identity::{FirstMember, Identity, IdentityError, cluster_id, first_members};
use super::no_sync::OptionalSync;
use super::observe::LogObserver;
use super::peer_traffic::PeerTraffic;
use super::peers;
use crate::config::EffectiveConfig;

/// A running member.
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) handle: Handle<RocksEngine>,
    /// The runtime of the thread `raft`. Other members are served on it too: a message then needs no switch of threads,
    /// two of which it would cost on every hop.
    pub(super) runtime: tokio::runtime::Handle,
    /// Dropped or used to end the thread `raft`.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the member with the data found, or a new one.
pub(super) async fn start(
    config: &EffectiveConfig,
    connector: PeerConnector,
    metrics: Arc<EtcdMetrics>,
    traffic: Arc<PeerTraffic>,
) -> Result<Node, StartError> {
    let data_dir = &config.member.data_dir;
    make_private(data_dir)?;
    let (identity, begin) = match Identity::load(data_dir).map_err(identity_error)? {
        Some(identity) => (identity, Begin::Join),
        None => begin_new(config, &connector).await?,
    };
    traffic.is_of(identity.member);
    let (stop, stopped) = oneshot::channel();
    let (started, handle) = oneshot::channel();
    let builder = std::thread::Builder::new().name("raft".to_owned());
    let (config, thread_identity) = (config.clone(), identity.clone());
    let thread = builder
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let problem = StartError::new("start the raft runtime", "check the limit of open files");
                    let _ = started.send(Err(problem.caused_by(error)));
                    return;
                }
            };
            runtime.block_on(async {
                let result = start_here(&config, &thread_identity, begin, connector, metrics, traffic).await;
                let result = result.map(|handle| (handle, tokio::runtime::Handle::current()));
                // Where the start was given up meanwhile, the handle goes and nobody is left to serve.
                if started.send(result).is_ok() {
                    let _ = stopped.await;
                }
            });
        })
        .map_err(|error| {
            StartError::new("start the raft thread", "check the limit of processes").caused_by(error)
        })?;
    let (handle, runtime) = handle
        .await
        .map_err(|_| StartError::new("start the member", "the raft thread ended; see the log above"))??;
    Ok(Node { identity, handle, runtime, stop, thread })
}

impl Node {
    /// Gives leadership to another member while this one still answers.
    pub(super) async fn hand_over(&self, state: &AppState) {
        let status = state.consensus.status();
        if !status.is_leader {
            return;
        }
        let members = state.consensus.members();
        let voters = members.members.iter().filter(|member| !member.is_learner && !member.joining);
        for voter in voters.filter(|voter| voter.id != status.member) {
            let moved = state.consensus.transfer_leader(voter.id, state.options.election_timeout).await;
            match moved {
                Ok(()) => return,
                Err(error) => {
                    tracing::info!(to = %format!("{:x}", voter.id), %error, "leadership was not taken")
                }
            }
        }
    }

    /// Flushes, seals and closes.
    pub(super) async fn shutdown(self) {
        self.handle.consensus().shutdown().await;
        // The thread waits for this, or has ended by itself.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the raft thread ended by a panic");
        }
    }
}

/// Decides who a member without data is, and writes it down.
async fn begin_new(
    config: &EffectiveConfig,
    connector: &PeerConnector,
) -> Result<(Identity, Begin), StartError> {
    let data_dir = &config.member.data_dir;
    if has_data(config) {
        return Err(StartError::new(
            format!("{} holds data but no identity.json", data_dir.display()),
            "restore identity.json from a copy, or replace this member: remove it from the cluster, empty the folder \
             and add it as a new member",
        ));
    }
    let first = first_members(config);
    let own = first.iter().find(|member| member.name == config.member.name).cloned().ok_or_else(|| {
        StartError::new(
            format!("--initial-cluster does not name this member, {:?}", config.member.name),
            "add name=peer-url for it",
        )
    })?;
    let (identity, begin) = if config.cluster.join_existing {
        (join(config, connector, &first, &own).await?, Begin::Join)
    } else {
        refuse_second_birth(connector, &first, &own).await?;
        let urls: BTreeMap<u64, Vec<String>> =
            first.iter().map(|member| (member.id, member.peer_urls.clone())).collect();
        (Identity::new(cluster_id(&first), own.id), Begin::Bootstrap(urls))
    };
    identity.save(data_dir).map_err(identity_error)?;
    Ok((identity, begin))
}

/// Finds this member's id in the cluster it was added to.
async fn join(
    config: &EffectiveConfig,
    connector: &PeerConnector,
    first: &[FirstMember],
    own: &FirstMember,
) -> Result<Identity, StartError> {
    let mut last_error = None;
    for url in first.iter().filter(|member| member.id != own.id).flat_map(|member| &member.peer_urls) {
        match peers::ask(connector, url).await {
            Ok(answer) => {
                let mine = |peer: &&peers::Peer| peer.peer_urls.iter().any(|url| own.peer_urls.contains(url));
                let Some(peer) = answer.members.iter().find(mine) else {
                    return Err(StartError::new(
                        format!("the cluster at {url} has no member at {}", own.peer_urls.join(",")),
                        format!("add it first: etcdctl member add {} --peer-urls=...", config.member.name),
                    ));
                };
                if !peer.name.is_empty() {
                    return Err(born_before(peer.id));
                }
                return Ok(Identity::new(answer.cluster, peer.id));
            }
            Err(error) => {
                tracing::warn!(url, error = %error, "cannot ask a member for the list of members");
                last_error = Some(error);
            }
        }
    }
    let error = StartError::new(
        "no member of the existing cluster answered",
        "check --initial-cluster and that the other members run",
    );
    Err(match last_error {
        Some(cause) => error.caused_by(cause),
        None => error,
    })
}

/// A member that was up before and comes back with an empty folder has forgotten its votes: it must not come back.
async fn refuse_second_birth(
    connector: &PeerConnector,
    first: &[FirstMember],
    own: &FirstMember,
) -> Result<(), StartError> {
    let others =
        first.iter().filter(|member| member.id != own.id).filter_map(|member| member.peer_urls.first());
    let answers = futures::future::join_all(others.map(|url| peers::ask(connector, url))).await;
    for answer in answers.into_iter().flatten() {
        // A name is published by a member that has served.
        if answer.members.iter().any(|peer| peer.id == own.id && !peer.name.is_empty()) {
            return Err(born_before(own.id));
        }
    }
    Ok(())
}

fn born_before(id: u64) -> StartError {
    StartError::new(
        format!("member {id:x} has already been bootstrapped, but its data folder is empty"),
        format!(
            "restore its data, or replace it: etcdctl member remove {id:x}, then etcdctl member add, then start with \
             --initial-cluster-state=existing"
        ),
    )
}

async fn start_here(
    config: &EffectiveConfig,
    identity: &Identity,
    begin: Begin,
    connector: PeerConnector,
    metrics: Arc<EtcdMetrics>,
    traffic: Arc<PeerTraffic>,
) -> Result<Handle<RocksEngine>, StartError> {
    let data_dir = &config.member.data_dir;
    let wal_dir = config.member.wal_dir.clone().unwrap_or_else(|| data_dir.join("wal"));
    let wal_identity = WalIdentity { cluster: identity.cluster, member: identity.member };
    let wal_options = WalOptions::new(wal_identity, Box::new(rand::random));
    let disk = OptionalSync { sync: !config.unsafe_no_fsync };
    let (wal, recovered) = Wal::open(disk, &wal_dir, wal_options).map_err(|error| {
        StartError::new(format!("open the log in {}", wal_dir.display()), "see the cause").caused_by(error)
    })?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(?cut, "cut a torn tail off the log: writes that were never acknowledged");
    }
    let reader = wal.reader();
    let writer_options =
        WriterOptions { observer: Box::new(LogObserver(metrics)), ..WriterOptions::default() };
    let writer = spawn_writer(wal, writer_options).map_err(|error| {
        StartError::new("start the log's threads", "check the limit of processes").caused_by(error)
    })?;

    let db_dir = data_dir.join("db");
    let engine_error = |error: Box<dyn std::error::Error + Send + Sync>| {
        StartError::new(
            format!("open the store in {}", db_dir.display()),
            "replace this member if its data is damaged: remove it, empty its folder, add it again",
        )
        .caused_by(error)
    };
    let engine =
        RocksEngine::open(&db_dir, RocksOptions::default()).map_err(|error| engine_error(Box::new(error)))?;
    let store =
        Store::open(engine, StoreOptions::default()).map_err(|error| engine_error(Box::new(error)))?;
    let hub_options = HubOptions {
        progress_interval: config.checks.progress_notify_interval,
        hash_seed: rand::random(),
        ..HubOptions::default()
    };
    let hub = Hub::new(hub_options, Arc::new(StoreEvents(store.reader())), Arc::new(WatchCodec));
    let parts = NodeParts {
        options: node_options(config, identity),
        device: Arc::new(WalDevice::new(writer, reader)),
        recovered,
        log: LogOptions::default(),
        store,
        hub,
        transport: super::ports::transport(connector, traffic),
        begin,
        on_fatal: Box::new(end_process),
    };
    keelson_raftstore::start::<openraft_rt_tokio::TokioRuntime, _>(parts)
        .await
        .map_err(|error| StartError::new("start the member", "see the cause").caused_by(error))
}

fn node_options(config: &EffectiveConfig, identity: &Identity) -> NodeOptions {
    NodeOptions {
        timing: Timing {
            heartbeat_ms: config.cluster.heartbeat_interval.as_millis() as u64,
            election_ms: config.cluster.election_timeout.as_millis() as u64,
            ..Timing::default()
        },
        membership: MembershipOptions {
            learners_max: config.cluster.learners_max,
            strict: config.cluster.strict_reconfig_check,
        },
        ..NodeOptions::new(identity.cluster, identity.member)
    }
}

/// No acknowledgement may follow a failure of log, engine or Raft, so nothing is unwound.
fn end_process(cause: FatalCause) {
    tracing::error!(%cause, "the member cannot go on; ending the process so that it restarts from what is durable");
    std::process::exit(1);
}

fn has_data(config: &EffectiveConfig) -> bool {
    let wal_dir = config.member.wal_dir.clone().unwrap_or_else(|| config.member.data_dir.join("wal"));
    [wal_dir, config.member.data_dir.join("db")]
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

pub(crate) fn make_private(folder: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| {
        StartError::new(
            format!("create the data folder {}", folder.display()),
            "check --data-dir and its permissions",
        )
        .caused_by(error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mode = std::fs::metadata(folder).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            folder = %folder.display(),
            mode = %format!("{:o}", mode & 0o777),
            "the data folder is open to other users; everything stored can be read there: chmod 700"
        );
    }
    Ok(())
}

fn identity_error(error: IdentityError) -> StartError {
    StartError::new("read or write the member's identity", "check the folder's permissions and free space")
        .caused_by(error)
}
