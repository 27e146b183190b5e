//! One run of one row against one server.
//!
//! Owns: what needs the processes themselves (starts, restarts, the loss of a leader); everything else is a workload.
//! Called by: `compare`.
//! Invariants: every run begins with an empty server, and ends with none.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb::PutRequest;
use tokio::sync::mpsc;

use super::servers::{Program, Servers, StartError};
use crate::client::{CallError, Connection, frame};
use crate::clock::{Clock, pause};
use crate::figures::{Figures, Metric};
use crate::fill::fill;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::target::Target;
use crate::transport::Endpoint;
use crate::workload::{self, Options, path};

/// What is done with a server.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    /// A workload.
    Work(Options),
    /// A workload at this share of the rate that etcd reaches with it in a closed loop.
    AtShareOfEtcd(Options, f64),
    /// Start, and look at it after a while.
    Idle(Duration),
    /// SIGKILL, then start again on what is left. With options: under their load, after their data set was written.
    Restart(Option<Options>),
    /// Lose the leader of several nodes: by SIGTERM, or by SIGKILL.
    LeaderLoss {
        /// SIGTERM.
        gently: bool,
    },
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("no write was acknowledged within {0} s after the loss of the leader")]
    NotWritable(u64),
}

/// Runs the scenario on `nodes` fresh members.
///
/// # Errors
/// The first failure.
pub async fn run(
    scenario: Scenario,
    program: &Program,
    nodes: usize,
    directory: &Path,
    cores: Option<&str>,
    progress: &Progress,
) -> Result<Figures, RunError> {
    let mut servers = Servers::start(program, nodes, directory, cores).await?;
    match scenario {
        Scenario::Work(options) | Scenario::AtShareOfEtcd(options, _) => {
            Ok(workload::run(&servers.target(), &options, progress).await?)
        }
        Scenario::Idle(settle) => {
            pause(settle).await;
            let mut figures = Figures::default();
            figures.set(Metric::StartMs, servers.ready_after.as_secs_f64() * 1e3);
            let usage = servers.target().usage();
            figures.set(Metric::Resident, usage.map_or(f64::NAN, |usage| usage.resident_bytes as f64));
            Ok(figures)
        }
        Scenario::Restart(load) => restart(&mut servers, load, progress).await,
        Scenario::LeaderLoss { gently } => leader_loss(&mut servers, gently).await,
    }
}

async fn restart(
    servers: &mut Servers,
    load: Option<Options>,
    progress: &Progress,
) -> Result<Figures, RunError> {
    const LOAD_FOR: Duration = Duration::from_secs(1);
    let target = servers.target();
    match load {
        None => servers.kill(),
        Some(options) => {
            if options.fill {
                fill(&target, options.shape, 0, progress).await?;
            }
            let load = tokio::task::spawn_local(async move {
                let quiet = Progress::new("");
                workload::run(&target, &options, &quiet).await
            });
            pause(LOAD_FOR).await;
            servers.kill();
            // The load ends with its server: that is the plan, not a failure.
            let _ = load.await;
        }
    }
    servers.launch().await?;
    let mut figures = Figures::default();
    figures.set(Metric::RestartMs, servers.ready_after.as_secs_f64() * 1e3);
    let usage = servers.target().usage();
    figures.set(Metric::Resident, usage.map_or(f64::NAN, |usage| usage.resident_bytes as f64));
    Ok(figures)
}

/// Writes to the members that are left, every few milliseconds and without waiting for earlier attempts, until one is
/// acknowledged.
async fn leader_loss(servers: &mut Servers, gently: bool) -> Result<Figures, RunError> {
    const ATTEMPT_EVERY: Duration = Duration::from_millis(5);
    const WITHIN: Duration = Duration::from_secs(60);
    let Target { endpoints, .. } = servers.target();
    // A cluster that has just been formed may still be moving: a write through every member first.
    for endpoint in &endpoints {
        put(endpoint).await?;
    }
    pause(Duration::from_secs(1)).await;
    let (acknowledged, mut first) = mpsc::unbounded_channel();
    let clock = Clock::start();
    servers.lose_leader(gently);
    while clock.elapsed() < WITHIN {
        for endpoint in &endpoints[1..] {
            let (endpoint, acknowledged) = (endpoint.clone(), acknowledged.clone());
            tokio::task::spawn_local(async move {
                if put(&endpoint).await.is_ok() {
                    // Whoever comes second is not listened to.
                    let _ = acknowledged.send(clock.elapsed());
                }
            });
        }
        tokio::select! {
            Some(after) = first.recv() => {
                let mut figures = Figures::default();
                figures.set(Metric::LeaderLossMs, after.as_secs_f64() * 1e3);
                return Ok(figures);
            }
            () = pause(ATTEMPT_EVERY) => {}
        }
    }
    Err(RunError::NotWritable(WITHIN.as_secs()))
}

async fn put(endpoint: &Endpoint) -> Result<(), CallError> {
    let mut connection = Connection::open(endpoint).await?;
    let template = connection.template(path::PUT);
    let (key, value) = (Bytes::from_static(b"keelson-bench-alive"), Bytes::from_static(b"1"));
    connection.call(&template, frame(&PutRequest { key, value, ..Default::default() })).await.map(drop)
}

impl Scenario {
    /// The options of the closed loop whose rate decides that of this scenario, and the share of it.
    pub fn calibration(&self) -> Option<(Options, f64)> {
        match *self {
            Scenario::AtShareOfEtcd(options, share) => {
                let mut closed = options;
                closed.timing.pace = Pace::Closed;
                Some((closed, share))
            }
            _ => None,
        }
    }

    /// The scenario at a fixed rate.
    pub fn at_rate(self, rate: f64) -> Self {
        match self {
            Scenario::AtShareOfEtcd(mut options, _) => {
                options.timing.pace = Pace::Open { rate };
                Scenario::Work(options)
            }
            other => other,
        }
    }
}
