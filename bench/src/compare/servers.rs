//! Servers under comparison, as real processes with the same etcd flags.
//!
//! Owns: starting, killing and restarting them, one node or three. Called by: `compare::scenario`.
//! Invariants: each start has an empty data directory on the same disk; the processes are killed when dropped; all
//! members run on the cores they are told to; the leader stands first.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keelson_proto::etcdserverpb::{RangeRequest, StatusRequest, StatusResponse};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{CallError, Connection, decode, frame};
use crate::clock::{Clock, pause};
use crate::target::Target;
use crate::transport::Endpoint;
use crate::workload::path;

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

impl Program {
    /// Reads `name=path` or `name=path argument ...`.
    ///
    /// # Errors
    /// The text has no name or no path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("expected name=path")?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let binary = words.next().ok_or("expected a path after the name")?.into();
        Ok(Program { name: name.to_owned(), binary, arguments: words.collect() })
    }
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error("{action}: {source}")]
    Io { action: String, source: std::io::Error },
    #[error("{name} was not ready within {seconds} s; its log ends with:\n{log}")]
    NotReady { name: String, seconds: u64, log: String },
    #[error("{name} ended during its start; its log ends with:\n{log}")]
    Ended { name: String, log: String },
}

struct Member {
    command: Command,
    child: Option<Child>,
    endpoint: Endpoint,
    directory: PathBuf,
    log: PathBuf,
}

/// Running members of one server.
pub struct Servers {
    name: String,
    members: Vec<Member>,
    /// Time from the start of the first process to the first linearizable read of the last member.
    pub ready_after: Duration,
}

impl Servers {
    /// Starts `nodes` members in fresh folders below `directory`, pinned to `cores` where given.
    ///
    /// # Errors
    /// A process cannot be started, ends, or answers no read within the time for it.
    pub async fn start(
        program: &Program,
        nodes: usize,
        directory: &Path,
        cores: Option<&str>,
    ) -> Result<Self, StartError> {
        let ports = free_ports(nodes * 2)
            .map_err(|source| StartError::Io { action: "find free ports".into(), source })?;
        let cluster: Vec<String> =
            (0..nodes).map(|node| format!("n{node}=http://127.0.0.1:{}", ports[2 * node + 1])).collect();
        let cluster = cluster.join(",");
        let members: Result<Vec<Member>, StartError> = (0..nodes)
            .map(|node| {
                member(program, node, [ports[2 * node], ports[2 * node + 1]], &cluster, directory, cores)
            })
            .collect();
        let mut servers =
            Servers { name: program.name.clone(), members: members?, ready_after: Duration::ZERO };
        servers.launch().await?;
        Ok(servers)
    }

    /// Starts every member on what it left, and waits for a linearizable read from each.
    ///
    /// # Errors
    /// As [`Servers::start`].
    pub async fn launch(&mut self) -> Result<(), StartError> {
        let clock = Clock::start();
        for member in &mut self.members {
            let child = member
                .command
                .spawn()
                .map_err(|source| StartError::Io { action: format!("start {}", self.name), source })?;
            member.child = Some(child);
        }
        for node in 0..self.members.len() {
            self.wait_ready(node, clock).await?;
        }
        self.ready_after = clock.elapsed();
        self.leader_first().await;
        Ok(())
    }

    /// What a workload needs to know.
    pub fn target(&self) -> Target {
        Target {
            endpoints: self.members.iter().map(|member| member.endpoint.clone()).collect(),
            pids: self.members.iter().filter_map(|member| member.child.as_ref().map(Child::id)).collect(),
            directories: self.members.iter().map(|member| member.directory.clone()).collect(),
        }
    }

    /// Kills every member with SIGKILL.
    pub fn kill(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.take()) {
            reap(child);
        }
    }

    /// Asks the leader to stop, or kills it, and does not wait for its end.
    pub fn lose_leader(&mut self, gently: bool) {
        let Some(child) = &mut self.members[0].child else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        match pid.filter(|_| gently) {
            // A leader that has ended already needs no signal.
            Some(pid) => drop(kill_process(pid, Signal::TERM)),
            None => drop(child.kill()),
        }
    }

    /// Puts the leader in front, so that a single client asks the same role of either server: what a follower passes on
    /// costs a round more, and elections choose by chance.
    async fn leader_first(&mut self) {
        for at in 0..self.members.len() {
            if leads(&self.members[at].endpoint).await.unwrap_or(false) {
                self.members.swap(0, at);
                return;
            }
        }
    }

    async fn wait_ready(&mut self, node: usize, clock: Clock) -> Result<(), StartError> {
        const READY_WITHIN: Duration = Duration::from_secs(60);
        let name = self.name.clone();
        let member = &mut self.members[node];
        while clock.elapsed() < READY_WITHIN {
            if let Some(Ok(Some(_))) = member.child.as_mut().map(Child::try_wait) {
                return Err(StartError::Ended { name, log: tail(&member.log) });
            }
            // A connection that is accepted but not answered must not be waited for: while nobody listens yet, a
            // socket may even have connected to itself.
            tokio::select! {
                answer = read_once(&member.endpoint) => if answer.is_ok() {
                    return Ok(());
                },
                () = pause(Duration::from_secs(1)) => {}
            }
            pause(Duration::from_millis(1)).await;
        }
        Err(StartError::NotReady { name, seconds: READY_WITHIN.as_secs(), log: tail(&member.log) })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.kill();
    }
}

fn member(
    program: &Program,
    node: usize,
    [client, peer]: [u16; 2],
    cluster: &str,
    directory: &Path,
    cores: Option<&str>,
) -> Result<Member, StartError> {
    let io = |action: String| move |source| StartError::Io { action, source };
    let data = directory.join(format!("n{node}"));
    std::fs::create_dir_all(&data).map_err(io(format!("create {}", data.display())))?;
    let log_path = directory.join(format!("n{node}.log"));
    let log = std::fs::File::create(&log_path).map_err(io(format!("create {}", log_path.display())))?;
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
        .arg(format!("--initial-cluster={cluster}"))
        .arg("--initial-cluster-state=new")
        .arg("--log-level=warn")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io("share the log".into()))?)
        .stderr(log);
    let endpoint = Endpoint::plain(&format!("127.0.0.1:{client}"));
    Ok(Member { command, child: None, endpoint, directory: data, log: log_path })
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn reap(mut child: Child) {
    // A member that has ended already needs no kill.
    let _ = child.kill();
    let _ = child.wait();
}

/// One linearizable read of a key that does not exist.
async fn read_once(endpoint: &Endpoint) -> Result<(), CallError> {
    let mut connection = Connection::open(endpoint).await?;
    let template = connection.template(path::RANGE);
    let key = bytes::Bytes::from_static(b"keelson-bench-ready");
    connection.call(&template, frame(&RangeRequest { key, ..Default::default() })).await.map(drop)
}

/// Whether the member behind `endpoint` is the leader, in its own eyes.
async fn leads(endpoint: &Endpoint) -> Result<bool, CallError> {
    let mut connection = Connection::open(endpoint).await?;
    let template = connection.template(path::STATUS);
    let answer = connection.call(&template, frame(&StatusRequest::default())).await?;
    let status: StatusResponse = decode(path::STATUS, answer)?;
    Ok(status.header.is_some_and(|header| header.member_id == status.leader))
}

/// Ports nobody listens on at this moment.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_name_a_path_and_words() {
        let program = Program::parse("old=/bin/keelson store --x").expect("a program");
        assert_eq!((program.name.as_str(), program.binary.to_str()), ("old", Some("/bin/keelson")));
        assert_eq!(program.arguments, ["store", "--x"]);
        assert!(Program::parse("/bin/etcd").is_err());
        assert!(Program::parse("etcd=").is_err());
    }
}
