//! One server process: its flags, its data directory, its log, and the signals the tests send it.
//!
//! Owns: the child process. Invariant: a member is started at most once at a time, always with the same flags.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Kind, Options, free_port};
use crate::clock::{Deadline, pause_thread};

/// How much of a log is shown when a test fails.
const LOG_TAIL_BYTES: usize = 16 * 1024;

/// One member of a cluster.
pub struct Member {
    name: String,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    scheme: &'static str,
    client_port: u16,
    peer_port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Member {
    pub(super) fn new(index: usize, program: PathBuf, folder: &Path, scheme: &'static str) -> Self {
        let name = format!("m{}", index + 1);
        Self {
            program,
            data: folder.join(format!("{name}.etcd")),
            log: folder.join(format!("{name}.log")),
            scheme,
            client_port: free_port(),
            peer_port: free_port(),
            arguments: Vec::new(),
            child: None,
            name,
        }
    }

    pub(super) fn configure(&mut self, options: &Options, initial: &str) {
        let mut arguments = Vec::new();
        if options.kind == Kind::Keelson {
            arguments.push("store".to_owned());
        }
        arguments.extend([
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data.display()),
            format!("--listen-client-urls={}", self.client_url()),
            format!("--advertise-client-urls={}", self.client_url()),
            format!("--listen-peer-urls={}", self.peer_url()),
            format!("--initial-advertise-peer-urls={}", self.peer_url()),
            format!("--initial-cluster={initial}"),
            "--initial-cluster-token=keelson-tests".to_owned(),
            "--initial-cluster-state=new".to_owned(),
            format!("--heartbeat-interval={}", options.heartbeat_ms),
            format!("--election-timeout={}", options.election_ms),
        ]);
        arguments.extend(options.flags.iter().cloned());
        self.arguments = arguments;
    }

    pub(super) fn initial(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL clients use.
    pub fn client_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    /// The address clients use, without a scheme.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The URL of the other members.
    pub fn peer_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.peer_port)
    }

    /// The address of the other members, without a scheme.
    pub fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port)
    }

    /// Takes another port for other members from the next start on, and returns its URL.
    pub fn move_peer_port(&mut self) -> String {
        let before = self.peer_url();
        self.peer_port = free_port();
        let after = self.peer_url();
        self.arguments.iter_mut().for_each(|argument| *argument = argument.replace(&before, &after));
        after
    }

    /// Adds a flag from the next start on; a later flag of the same name wins.
    pub fn add_flag(&mut self, flag: impl Into<String>) {
        self.arguments.push(flag.into());
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the process with the same flags and data directory as before.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn start(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "{} is already running", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !name.starts_with("ETCD")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// The process id, while running.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process has been started and not killed; a crash by itself is seen by [`Member::exited`].
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The exit status, if the process ended by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Ends the process at once (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process dies of SIGKILL too. Both calls fail only if it is already gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it has not ended within `wait`; it is then killed.
    pub fn terminate(&mut self, wait: Duration) -> io::Result<ExitStatus> {
        self.signal(libc::SIGTERM);
        let Some(mut child) = self.child.take() else { return Err(io::Error::other("not running")) };
        let deadline = Deadline::after(wait);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if deadline.passed() {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no end after SIGTERM"));
            }
            pause_thread(Duration::from_millis(2));
        }
    }

    /// Stops all threads of the process (SIGSTOP), as a frozen virtual machine would.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let Some(child) = &self.child else { return };
        // SAFETY: `kill` takes two integers and touches no memory of ours; the id belongs to our own child, which has
        // not been reaped (it is still in `self.child`), so it cannot name another process.
        let result = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "signal {signal} to {}", self.name);
    }

    /// Asks the process to read its files again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Waits until the process ends by itself and reaps it.
    ///
    /// # Errors
    /// If it has not ended within `wait`; it then runs on.
    pub fn wait_end(&mut self, wait: Duration) -> io::Result<ExitStatus> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return Ok(status);
            }
            if deadline.passed() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "still running"));
            }
            pause_thread(Duration::from_millis(2));
        }
    }

    /// Everything logged so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of the log, with a heading.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..];
        format!("--- log of {} ({}) ---\n{}", self.name, self.log.display(), String::from_utf8_lossy(tail))
    }
}
