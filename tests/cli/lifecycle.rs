//! Signals, exit codes and systemd: a child process lives the life of a server without a store in it.
//!
//! The child is this very test program, told by a variable to play the server.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keelson::config::effective::Logging;
use keelson::{lifecycle, logging};

const ROLE: &str = "KEELSON_TEST_ROLE";
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// Not a test of its own: the body of the child. Does nothing unless asked for by the variable.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    logging::install(&Logging {
        level: "info".into(),
        json: true,
        outputs: vec!["stderr".into()],
        rotation: None,
    })
    .unwrap();
    lifecycle::install().unwrap();
    // The server says so from inside its runtime, which then feeds the watchdog.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { lifecycle::ready() });
    // A child that nobody ends must not outlive its test for long.
    std::thread::spawn(|| {
        std::thread::park_timeout(LONGEST_LIFE);
        std::process::exit(99);
    });
    runtime.block_on(lifecycle::stop_requested());
    assert!(lifecycle::is_stop_requested());
    lifecycle::stopping();
    if role == "hangs" {
        // A graceful stop that never ends.
        tracing::warn!("hanging");
        std::thread::park_timeout(LONGEST_LIFE);
        return;
    }
    let code = lifecycle::finish();
    panic!("the signal should have ended this process; instead {code:?}");
}

struct Server {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Server {
    fn start(role: &str, notify: Option<&str>) -> Server {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lifecycle::child", "--nocapture"])
            .env(ROLE, role)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC");
        if role == "watched" {
            command.env("WATCHDOG_USEC", "300000");
        }
        if let Some(socket) = notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut server = Server { child, lines: Box::new(lines) };
        server.wait_for("ready to serve client requests");
        server
    }

    fn wait_for(&mut self, text: &str) {
        assert!(self.lines.any(|line| line.contains(text)), "the child ended before it said {text:?}");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The signal that ended the child.
    fn ended_by(mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }
}

#[test]
fn a_graceful_stop_ends_by_the_signal_that_asked_for_it() {
    for (name, number) in [("TERM", 15), ("INT", 2)] {
        let mut server = Server::start("stops", None);
        server.signal(name);
        server.wait_for("received signal; shutting down");
        // The shell shows 128 plus this number: 143 and 130.
        assert_eq!(server.ended_by(), Some(number), "SIG{name}");
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_hangs() {
    let mut server = Server::start("hangs", None);
    server.signal("TERM");
    server.wait_for("hanging");
    server.signal("INT");
    assert_eq!(server.ended_by(), Some(2));
}

#[test]
fn systemd_hears_of_ready_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let server = Server::start("stops", path.to_str());
    let mut buffer = [0; 256];
    let mut next = || {
        let length = socket.recv(&mut buffer).expect("a note to systemd");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(next(), "READY=1");
    server.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(server.ended_by(), Some(15));
}

#[test]
fn the_watchdog_is_fed_while_the_runtime_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let server = Server::start("watched", path.to_str());
    let mut buffer = [0; 256];
    let mut fed = 0;
    while fed < 3 {
        let length = socket.recv(&mut buffer).expect("a note to systemd");
        fed += usize::from(&buffer[..length] == b"WATCHDOG=1\n" || &buffer[..length] == b"WATCHDOG=1");
    }
    server.signal("TERM");
    assert_eq!(server.ended_by(), Some(15));
}
