//! What `keelson ctl` says when something is wrong: what was tried, what was seen, what to do.
//!
//! `cargo test -p keelson-tests --test diagnoses`. Every failure is a real one: a server with that certificate, a port with
//! nobody behind it, a quota that is full. The texts are compared whole, after masking ports, ids, paths, dates and sizes;
//! `KEELSON_TEST_RECORD=1` prints them instead. Invariant: none is a bare "context deadline exceeded".

use std::net::TcpListener;
use std::path::Path;

use keelson_tests::certificates::{Authority, Pair, Subject, write};
use keelson_tests::cluster::{Cluster, Kind, Options, free_port};
use keelson_tests::peers::Program;
use keelson_tests::tools::{COMMAND_WAIT, mask, run};

/// Runs the client and returns its exit code and masked words.
fn fails(arguments: &[&str], stdin: &str) -> (Option<i32>, String) {
    let program = Program::Keelson.require().expect("asked for before");
    let all: Vec<&str> = ["ctl"].into_iter().chain(arguments.iter().copied()).collect();
    let output = run(&program, &all, stdin, COMMAND_WAIT);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("deadline exceeded"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), masked(&text))
}

/// Ports, ids, paths, dates, sizes, terms and revisions differ from run to run.
fn masked(text: &str) -> String {
    let words = |line: &str| {
        let word = |word: &str| {
            let bare = word.trim_matches(|character: char| !character.is_alphanumeric() && character != '/');
            let is_time = bare.len() == 8 && bare.matches(':').count() == 2;
            let is_date = bare.len() == 10 && bare.matches('-').count() == 2;
            let is_number =
                bare.starts_with(|first: char| first.is_ascii_digit()) && bare.parse::<f64>().is_ok();
            match () {
                () if bare.starts_with('/') => word.replace(bare, "PATH"),
                () if is_time => word.replace(bare, "TIME"),
                () if is_date && !bare.starts_with("2021") && !bare.starts_with("2099") => {
                    word.replace(bare, "DATE")
                }
                () if is_number => word.replace(bare, "N"),
                () => word.to_owned(),
            }
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    };
    mask(text).lines().map(words).collect::<Vec<_>>().join("\n")
}

/// The expected texts: a line with the name, then what is said.
const TEXTS: &str = include_str!("diagnoses.txt");

fn check(name: &str, got: (Option<i32>, String), code: i32) {
    let (exit, have) = got;
    if keelson_tests::environment::switch("KEELSON_TEST_RECORD") {
        println!("--- {name}\n{have}\n");
        return;
    }
    let section = TEXTS.split("--- ").find(|section| section.lines().next() == Some(name));
    let want =
        section.unwrap_or_else(|| panic!("no text for {name}")).split_once('\n').map_or("", |(_, text)| text);
    assert_eq!((exit, have.trim_end()), (Some(code), want.trim_end()), "{name}");
    for label in ["Error:", "help:"] {
        assert!(have.contains(label), "{name} has no {label} {have}");
    }
}

fn ready() -> bool {
    Program::Keelson.require().is_some()
}

#[test]
fn nobody_is_there() {
    if !ready() {
        return;
    }
    let refused = format!("--endpoints=127.0.0.1:{}", free_port());
    check("refused", fails(&[&refused, "get", "a"], ""), 2);
    check("DNS", fails(&["--endpoints=no-such-host.invalid:2379", "get", "a"], ""), 2);
    check("socket file", fails(&["--endpoints=unix:///nowhere/x.sock", "get", "a"], ""), 2);
    // Addresses set apart for documentation lead nowhere; without a route the system says so itself.
    let dark = fails(&["--endpoints=192.0.2.1:2379", "--dial-timeout=300ms", "get", "a"], "");
    assert!(dark.1.contains("help:") && dark.1.contains("seen:"), "{}", dark.1);
    // A full queue of connections answers nobody: the same silence on every machine.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let mute = format!("--endpoints={address}");
    check("mute", fails(&[&mute, "--dial-timeout=300ms", "--command-timeout=300ms", "get", "a"], ""), 1);
}

#[test]
fn something_else_is_there() {
    if !ready() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write as _;
            // Whoever has gone meanwhile needs no answer.
            let _ = stream.and_then(|mut stream| {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            });
        }
    });
    check("web server", fails(&[&format!("--endpoints={address}"), "get", "a"], ""), 1);
}

/// A server that shows `leaf` to clients, and `good` to members.
async fn secure(kind: Kind, leaf: &Pair, (good, ca): (&Pair, &Path), more: &[String]) -> Cluster {
    let options = Options::new(kind, 1).quick().secure().flag_all(&leaf.flags("", "-file")).flag_all(more);
    let options = options.flag_all(&good.flags("peer-", "-file"));
    let options = options.flag(format!("--peer-trusted-ca-file={}", ca.display())).flag("--log-level=error");
    // Whether it serves is asked by the client under test.
    let cluster = Cluster::launch(options).expect("the server starts");
    let address = cluster.member(0).client_address();
    keelson_tests::clock::until(keelson_tests::cluster::READY_WAIT, || async {
        std::net::TcpStream::connect(&address).map(drop)
    })
    .await
    .expect("the server listens");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_goes_wrong() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let ca = write(folder.path(), "ca.pem", &authority.pem());
    let other_ca = write(folder.path(), "other.pem", &other.pem());
    let good = authority.issue(Subject::local("server")).write(folder.path(), "server");
    let stranger = other.issue(Subject::local("stranger")).write(folder.path(), "stranger");
    let expired = authority
        .issue(Subject { expired: true, ..Subject::local("server") })
        .write(folder.path(), "expired");
    let future = authority.issue_from(Subject::local("server"), 2099).write(folder.path(), "future");
    let named = Subject { hosts: &["other.example", "10.0.0.1"], ..Subject::local("server") };
    let named = authority.issue(named).write(folder.path(), "named");
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let cacert = flag("cacert", &ca);
    for kind in Kind::each(&[]) {
        let plain = Cluster::start(Options::new(kind, 1).quick()).await.expect("the server starts");
        let at = |cluster: &Cluster, scheme: &str| {
            format!("--endpoints={scheme}{}", cluster.member(0).client_address())
        };
        check("https to http", fails(&[&at(&plain, "https://"), &cacert, "get", "a"], ""), 2);
        let server = secure(kind, &good, (&good, &ca), &[]).await;
        check("http to https", fails(&[&at(&server, "http://"), "get", "a"], ""), 1);
        let url = at(&server, "https://");
        check("unknown CA", fails(&[&url, &flag("cacert", &other_ca), "get", "a"], ""), 2);
        check("no CA", fails(&[&url, "get", "a"], ""), 2);
        check("no such file", fails(&[&url, "--cacert=/nowhere/ca.pem", "get", "a"], ""), 128);
        drop(server);
        for (name, pair) in [("expired", &expired), ("not yet valid", &future), ("wrong name", &named)] {
            let server = secure(kind, pair, (&good, &ca), &[]).await;
            check(name, fails(&[&at(&server, "https://"), &cacert, "get", "a"], ""), 2);
        }
        let server = secure(
            kind,
            &good,
            (&good, &ca),
            &["--client-cert-auth=true".to_owned(), flag("trusted-ca-file", &ca)],
        )
        .await;
        let url = at(&server, "https://");
        check("certificate asked for", fails(&[&url, &cacert, "get", "a"], ""), 1);
        let shown =
            [url.as_str(), &cacert, &flag("cert", &stranger.cert), &flag("key", &stranger.key), "get", "a"];
        check("certificate refused", fails(&shown, ""), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_refuses() {
    if !ready() {
        return;
    }
    for kind in Kind::each(&[]) {
        let options =
            Options::new(kind, 1).quick().flag("--bcrypt-cost=4").flag("--quota-backend-bytes=8000000");
        let cluster = Cluster::start(options).await.expect("the server starts");
        let at = format!("--endpoints={}", cluster.member(0).client_address());
        let ctl = |arguments: &[&str], stdin: &str| fails(&[&[at.as_str()], arguments].concat(), stdin);
        let works = |arguments: &[&str]| {
            let (code, text) = ctl(arguments, "");
            assert_eq!(code, Some(0), "{arguments:?}: {text}");
        };
        works(&["put", "a", "1"]);
        works(&["put", "a", "2"]);
        works(&["compaction", "3"]);
        check("compacted", ctl(&["get", "a", "--rev=2"], ""), 1);
        check("future", ctl(&["get", "a", "--rev=99"], ""), 1);
        let large = "x".repeat(1_600_000);
        check("too large for the server", ctl(&["put", "large"], &large), 1);
        check("too large for the client", ctl(&["put", "large"], &"x".repeat(2_200_000)), 1);
        works(&["role", "add", "root"]);
        works(&["user", "add", "root:pw"]);
        works(&["user", "grant-role", "root", "root"]);
        works(&["user", "add", "eve:pw"]);
        works(&["auth", "enable"]);
        check("auth needed", ctl(&["get", "a"], ""), 1);
        check("wrong password", ctl(&["--user=root:wrong", "get", "a"], ""), 2);
        check("permission denied", ctl(&["--user=eve:pw", "get", "a"], ""), 1);
        works(&["--user=root:pw", "auth", "disable"]);
        let value = "x".repeat(1_000_000);
        let full = (0..40)
            .map(|index| ctl(&["put", &format!("fill{index}")], &value))
            .find(|(code, _)| *code != Some(0));
        check("quota", full.expect("the quota is reached"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_cannot_agree() {
    if !ready() {
        return;
    }
    for kind in Kind::each(&[]) {
        let mut cluster = Cluster::start(Options::new(kind, 3).quick()).await.expect("the servers start");
        let at = format!("--endpoints={}", cluster.member(0).client_address());
        cluster.member_mut(1).kill();
        cluster.member_mut(2).kill();
        // The last leader may not have noticed yet: then the request waits, and finds none in the end.
        let lost = fails(&[&at, "--command-timeout=3s", "put", "a", "1"], "");
        check("no leader", lost, 1);
        cluster.member(0).freeze();
        let frozen = fails(&[&at, "--dial-timeout=300ms", "--command-timeout=500ms", "get", "a"], "");
        check("stopped process", frozen, 1);
        cluster.member(0).thaw();
    }
}

/// The doctor asks a running store for leader, quota and time; the bundle has its metrics and status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_store_is_examined() {
    let Some(program) = Program::Keelson.require() else { return };
    for kind in Kind::each(&[]) {
        let cluster = Cluster::start(Options::new(kind, 1).quick()).await.expect("the server starts");
        let endpoints = format!("--endpoints={}", cluster.endpoints());
        let data = format!("--data-dir={}", cluster.folder().join("nobody").display());
        let output = run(&program, &["doctor", "--json", &endpoints, &data], "", COMMAND_WAIT);
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let level_of = |begin: &str| {
            let found = list
                .as_array()
                .expect("a list")
                .iter()
                .find(|one| one["check"].as_str().is_some_and(|check| check.starts_with(begin)));
            found.unwrap_or_else(|| panic!("no {begin} in {list}"))["level"].as_str().map(str::to_owned)
        };
        for check in ["store at", "quota at", "clock at"] {
            assert_eq!(level_of(check).as_deref(), Some("ok"), "{kind:?}: {list}");
        }
        let archive = cluster.folder().join("bundle.tar");
        let output_flag = format!("--output={}", archive.display());
        let output = run(&program, &["debug", "bundle", &endpoints, &data, &output_flag], "", COMMAND_WAIT);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(&archive).expect("the archive");
        let text = String::from_utf8_lossy(&bytes);
        for part in ["etcd_server_has_leader 1", "\"raftTerm\":", "\"peerURLs\":", "endpoint-1/status.json"] {
            assert!(text.contains(part), "{kind:?}: no {part} in the bundle");
        }
    }
}
