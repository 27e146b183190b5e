//! Servers under comparison, as real processes with the same etcd flags.
//!
//! Owns: starting and stopping them, one node or three. Called by: `compare`.
//! Invariants: each start has an empty data directory on the same disk; the process is killed when dropped; all
//! members run on the cores they are told to.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keelson_proto::etcdserverpb::{StatusRequest, StatusResponse};
use prost::Message as _;

use crate::client::{CallError, Connection};
use crate::clock::Clock;
use crate::workload::Kind;

/// How to start a server: the program and what comes before etcd's flags.
#[derive(Clone, Debug)]
pub struct Program {
    /// Column heading.
    pub name: String,
    /// Path of the binary.
    pub binary: PathBuf,
    /// Leading arguments, for example `store`.
    pub arguments: Vec<String>,
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error("{action}: {source}")]
    Io { action: String, source: std::io::Error },
    #[error("{name} was not ready within {seconds} s; its log is {log}")]
    NotReady { name: String, seconds: u64, log: PathBuf },
    #[error("{name} ended during its start; its log is {log}")]
    Ended { name: String, log: PathBuf },
}

/// Running members of one server.
pub struct Peers {
    program: Program,
    members: Vec<Child>,
    commands: Vec<Command>,
    logs: Vec<PathBuf>,
    /// Client endpoints, `host:port`.
    pub endpoints: Vec<String>,
    /// Time from the start of the first process to the first linearizable read of the last member.
    pub ready_after: Duration,
}

impl Peers {
    /// Starts `nodes` members in fresh folders below `directory`, pinned to `cores` where given.
    ///
    /// # Errors
    /// A process cannot be started, ends, or answers no read within 30 seconds.
    pub async fn start(
        program: &Program,
        nodes: usize,
        directory: &Path,
        cores: Option<&str>,
    ) -> Result<Self, StartError> {
        let io = |action: String| move |source| StartError::Io { action, source };
        let ports: Vec<(u16, u16)> = free_ports(nodes * 2)
            .map_err(io("find free ports".into()))?
            .chunks(2)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        let cluster: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(node, (_, peer))| format!("n{node}=http://127.0.0.1:{peer}"))
            .collect();
        let mut peers = Peers {
            program: program.clone(),
            members: Vec::new(),
            commands: Vec::new(),
            logs: Vec::new(),
            endpoints: Vec::new(),
            ready_after: Duration::ZERO,
        };
        for (node, (client, peer)) in ports.iter().enumerate() {
            let data = directory.join(format!("{}-{node}", program.name));
            std::fs::create_dir_all(&data).map_err(io(format!("create {}", data.display())))?;
            let log_path = directory.join(format!("{}-{node}.log", program.name));
            let log =
                std::fs::File::create(&log_path).map_err(io(format!("create {}", log_path.display())))?;
            let mut command = match cores {
                Some(cores) => {
                    let mut command = Command::new("taskset");
                    command.args(["-c", cores]).arg(&program.binary);
                    command
                }
                None => Command::new(&program.binary),
            };
            command
                .args(&program.arguments)
                .arg(format!("--name=n{node}"))
                .arg(format!("--data-dir={}", data.join("data").display()))
                .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
                .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
                .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
                .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
                .arg(format!("--initial-cluster={}", cluster.join(",")))
                .arg("--initial-cluster-state=new")
                .arg("--log-level=warn")
                .stdin(Stdio::null())
                .stdout(log.try_clone().map_err(io("share the log".into()))?)
                .stderr(log);
            peers.commands.push(command);
            peers.endpoints.push(format!("127.0.0.1:{client}"));
            peers.logs.push(log_path);
        }
        peers.launch().await?;
        peers.leader_first().await;
        Ok(peers)
    }

    /// Kills every member and starts it again on what it left.
    ///
    /// # Errors
    /// As [`Peers::start`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.kill();
        self.launch().await
    }

    async fn launch(&mut self) -> Result<(), StartError> {
        let clock = Clock::start();
        for command in &mut self.commands {
            let child = command.spawn().map_err(|source| StartError::Io {
                action: format!("start {}", self.program.binary.display()),
                source,
            })?;
            self.members.push(child);
        }
        for node in 0..self.members.len() {
            self.wait_ready(node, clock).await?;
        }
        self.ready_after = clock.elapsed();
        Ok(())
    }

    fn kill(&mut self) {
        for mut member in self.members.drain(..) {
            // A member that has ended already needs no kill.
            let _ = member.kill();
            let _ = member.wait();
        }
    }

    /// Process ids of the members.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Child::id).collect()
    }

    /// Puts the leader in front, so that a single client asks the same role of either server: what a follower passes on
    /// costs a round more, and elections choose by chance.
    async fn leader_first(&mut self) {
        for at in 0..self.endpoints.len() {
            if leads(&self.endpoints[at]).await.unwrap_or(false) {
                self.endpoints.swap(0, at);
                return;
            }
        }
    }

    async fn wait_ready(&mut self, node: usize, clock: Clock) -> Result<(), StartError> {
        const READY_WITHIN: Duration = Duration::from_secs(30);
        while clock.elapsed() < READY_WITHIN {
            if let Ok(Some(_)) = self.members[node].try_wait() {
                return Err(StartError::Ended {
                    name: self.program.name.clone(),
                    log: self.logs[node].clone(),
                });
            }
            // A connection that is accepted but not answered must not be waited for: while nobody listens yet, a socket may
            // even have connected to itself.
            tokio::select! {
                answer = read_once(&self.endpoints[node]) => if answer.is_ok() {
                    return Ok(());
                },
                () = clock.sleep_until(clock.elapsed() + Duration::from_secs(1)) => {}
            }
            clock.sleep_until(clock.elapsed() + Duration::from_millis(5)).await;
        }
        Err(StartError::NotReady {
            name: self.program.name.clone(),
            seconds: READY_WITHIN.as_secs(),
            log: self.logs[node].clone(),
        })
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One linearizable read of a key that does not exist.
async fn read_once(endpoint: &str) -> Result<(), CallError> {
    let mut connection = Connection::open(endpoint).await?;
    let template = connection.template(Kind::Range.path());
    let request = keelson_proto::etcdserverpb::RangeRequest {
        key: bytes::Bytes::from_static(b"keelson-bench-ready"),
        ..Default::default()
    };
    connection.call(&template, crate::client::frame(&request)).await.map(drop)
}

/// Whether the member behind `endpoint` is the leader, in its own eyes.
async fn leads(endpoint: &str) -> Result<bool, CallError> {
    let mut connection = Connection::open(endpoint).await?;
    let template = connection.template("/etcdserverpb.Maintenance/Status");
    let answer = connection.call(&template, crate::client::frame(&StatusRequest::default())).await?;
    let status = StatusResponse::decode(answer).unwrap_or_default();
    Ok(status.header.is_some_and(|header| header.member_id == status.leader))
}

/// Ports nobody listens on at this moment.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
