//! Servers under test as real processes: one or three members of Keelson or of etcd, with the same flags.
//!
//! Owns: ports, data directories, processes and their logs. Invariants: a cluster that goes out of scope leaves no process
//! behind; its logs are printed if the test is failing. Called by: every suite.

mod member;
mod ports;

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

pub use member::Member;
pub use ports::free_port;

use crate::client::Client;
use crate::clock;
use crate::environment::switch;
use crate::peers::Program;

/// How long a cluster may take to serve its first linearizable read. Generous: test machines are small and shared.
pub const READY_WAIT: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `keelson store`.
    Keelson,
    /// The pinned etcd.
    Etcd,
}

impl Kind {
    /// The server under test, as the environment says.
    ///
    /// # Panics
    /// If the environment names something else.
    pub fn subject() -> Self {
        match std::env::var("KEELSON_TEST_SUBJECT").as_deref() {
            Err(_) | Ok("keelson") => Self::Keelson,
            Ok("etcd") => Self::Etcd,
            Ok(other) => panic!("KEELSON_TEST_SUBJECT={other} is neither keelson nor etcd"),
        }
    }

    /// The servers a suite runs against: real etcd, which tests the suite, then the one under test (once if that is etcd
    /// too). Empty, with the reason printed, if one of them or of the programs `needed` is missing.
    pub fn each(needed: &[Program]) -> Vec<Self> {
        if needed.iter().any(|program| program.require().is_none()) {
            return Vec::new();
        }
        let mut kinds = vec![Self::Etcd, Self::subject()];
        kinds.dedup();
        if kinds.iter().any(|kind| kind.require().is_none()) {
            return Vec::new();
        }
        kinds
    }

    /// The same where etcd does not promise what the test asks for.
    pub fn keelson_only(needed: &[Program]) -> Option<Self> {
        Self::each(needed).into_iter().find(|kind| *kind == Self::Keelson)
    }

    fn program(self) -> Program {
        match self {
            Self::Keelson => Program::Keelson,
            Self::Etcd => Program::Etcd,
        }
    }

    /// The binary, or `None` with the reason printed if the suite is to be skipped.
    pub fn require(self) -> Option<PathBuf> {
        self.program().require()
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which server.
    pub kind: Kind,
    /// Number of members.
    pub size: usize,
    /// Heartbeat interval in milliseconds.
    pub heartbeat_ms: u64,
    /// Election timeout in milliseconds; also decides the smallest lease TTL.
    pub election_ms: u64,
    /// Flags in addition to names, URLs and timers.
    pub flags: Vec<String>,
    /// Scheme of all URLs.
    pub scheme: &'static str,
}

impl Options {
    /// `size` members with etcd's default timers.
    pub fn new(kind: Kind, size: usize) -> Self {
        Self { kind, size, heartbeat_ms: 100, election_ms: 1000, flags: Vec::new(), scheme: "http" }
    }

    /// All URLs with `https`; certificates are given by flags.
    pub fn secure(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// Short timers, so that starts and elections take a fraction of a second.
    pub fn quick(mut self) -> Self {
        (self.heartbeat_ms, self.election_ms) = (20, 200);
        self
    }

    /// Adds a flag, such as `--max-txn-ops=16`.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds several flags; a later flag of the same name wins.
    pub fn flag_all(mut self, flags: &[String]) -> Self {
        self.flags.extend(flags.iter().cloned());
        self
    }
}

/// Why a cluster could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The binary is not there.
    #[error("{0:?} is not installed")]
    Missing(Kind),
    /// The operating system refused.
    #[error("start or signal a member")]
    Io(#[from] std::io::Error),
    /// No linearizable read succeeded in time.
    #[error("member {member} is not ready after {wait:?}: {last}")]
    NotReady {
        /// Position of the member.
        member: usize,
        /// How long was waited.
        wait: Duration,
        /// The last error.
        last: tonic::Status,
    },
}

/// A running cluster.
pub struct Cluster {
    members: Vec<Member>,
    folder: TempDir,
    options: Options,
}

impl Cluster {
    /// Starts the members and waits until each serves a linearizable read.
    ///
    /// # Errors
    /// If a process does not start or does not get ready in time.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let cluster = Self::launch(options)?;
        cluster.wait_ready(READY_WAIT).await?;
        Ok(cluster)
    }

    /// Starts the members without waiting.
    ///
    /// # Errors
    /// If a process does not start.
    pub fn launch(options: Options) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(options)?;
        for member in &mut cluster.members {
            member.start()?;
        }
        Ok(cluster)
    }

    /// Chooses ports and folders, and starts nothing.
    ///
    /// # Errors
    /// If the binary or a folder is not there.
    pub fn prepare(options: Options) -> Result<Self, ClusterError> {
        let program = options.kind.program().find().ok_or(ClusterError::Missing(options.kind))?;
        let folder = match std::env::var_os("KEELSON_TEST_DIR") {
            Some(parent) => TempDir::with_prefix_in("keelson-test-", parent)?,
            None => TempDir::with_prefix("keelson-test-")?,
        };
        let mut members: Vec<Member> = (0..options.size)
            .map(|index| Member::new(index, program.clone(), folder.path(), options.scheme))
            .collect();
        let initial = members.iter().map(Member::initial).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.configure(&options, &initial);
        }
        Ok(Self { members, folder, options })
    }

    /// Prepares one more member, which joins the running cluster when it is started; returns its position. The cluster
    /// has to be told of its peer URL first.
    ///
    /// # Errors
    /// If the binary is not there.
    pub fn prepare_joining(&mut self) -> Result<usize, ClusterError> {
        let kind = self.options.kind;
        let program = kind.program().find().ok_or(ClusterError::Missing(kind))?;
        let index = self.members.len();
        let mut member = Member::new(index, program, self.folder.path(), self.options.scheme);
        let known = self.members.iter().filter(|member| member.is_running()).chain([&member]);
        let initial = known.map(Member::initial).collect::<Vec<_>>().join(",");
        member.configure(&self.options, &initial);
        member.add_flag("--initial-cluster-state=existing");
        self.members.push(member);
        Ok(index)
    }

    /// Number of members.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// What was asked for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The folder with the data directories and logs.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// One member.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// One member, to be killed, paused or restarted.
    pub fn member_mut(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    /// The client URLs, separated by commas.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(Member::client_url).collect::<Vec<_>>().join(",")
    }

    /// Waits until every member serves a linearizable read.
    ///
    /// # Errors
    /// The last error of the first member that does not.
    pub async fn wait_ready(&self, wait: Duration) -> Result<(), ClusterError> {
        for index in 0..self.members.len() {
            self.wait_member_ready(index, wait).await?;
        }
        Ok(())
    }

    /// Waits until one member serves a linearizable read.
    ///
    /// # Errors
    /// Its last error.
    pub async fn wait_member_ready(&self, index: usize, wait: Duration) -> Result<(), ClusterError> {
        let client = Client::lazy(&self.members[index].client_url());
        clock::until(wait, || client.ping(Duration::from_secs(2)))
            .await
            .map_err(|last| ClusterError::NotReady { member: index, wait, last })
    }

    /// The position of the leader as the members see it, once they agree on one.
    ///
    /// # Errors
    /// The last complaint if they do not agree in time.
    pub async fn leader(&self, wait: Duration) -> Result<usize, tonic::Status> {
        let clients: Vec<Client> =
            self.members.iter().map(|member| Client::lazy(&member.client_url())).collect();
        let running: Vec<usize> =
            (0..self.members.len()).filter(|index| self.members[*index].is_running()).collect();
        clock::until(wait, || async {
            let mut named = Vec::new();
            let mut own = Vec::new();
            for index in &running {
                let status = clients[*index].status().await?;
                named.push(status.leader);
                own.push((status.header.map_or(0, |header| header.member_id), *index));
            }
            let leader = named.first().copied().unwrap_or(0);
            if leader == 0 || named.iter().any(|other| *other != leader) {
                return Err(tonic::Status::unavailable(format!("members name different leaders: {named:?}")));
            }
            own.iter()
                .find(|(id, _)| *id == leader)
                .map(|(_, index)| *index)
                .ok_or_else(|| tonic::Status::unavailable(format!("the leader {leader:x} is not running")))
        })
        .await
    }

    /// The last lines of every member's log.
    pub fn logs(&self) -> String {
        self.members.iter().map(Member::log_tail).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        if std::thread::panicking() || switch("KEELSON_TEST_LOGS") {
            eprintln!("{}", self.logs());
        }
    }
}
