//! Looking after a member: checks, the bundle for those who help, the unit of systemd, and the client's place in all this.

use std::net::TcpListener;
use std::process::Command;

use crate::program::{Outcome, Program};

/// Flags of a store that is not there, on free ports.
fn nobody(folder: &str) -> Vec<String> {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
    let (clients, members) = (free(), free());
    vec![
        format!("--data-dir={folder}/data"),
        format!("--listen-client-urls=http://127.0.0.1:{clients}"),
        format!("--advertise-client-urls=http://127.0.0.1:{clients}"),
        format!("--listen-peer-urls=http://127.0.0.1:{members}"),
    ]
}

fn run(program: &Program, first: &[&str], flags: &[String]) -> Outcome {
    let all: Vec<&str> = first.iter().copied().chain(flags.iter().map(String::as_str)).collect();
    program.keelson(&all)
}

/// Check and level of every finding.
fn findings(outcome: &Outcome) -> Vec<(String, String)> {
    let list: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let list = list.as_array().expect("a list");
    list.iter().map(|one| (text(&one["check"]), text(&one["level"]))).collect()
}

#[test]
fn the_doctor_tells_free_ports_from_taken_ones() {
    let program = Program::new();
    let folder = program.folder().to_str().unwrap().to_owned();
    let flags = nobody(&folder);
    let healthy = run(&program, &["doctor", "--json"], &flags);
    let found = findings(&healthy);
    for part in ["disk sync of", "free space of", "open files", "port ", "store at"] {
        assert!(found.iter().any(|(check, _)| check.starts_with(part)), "{part} is missing from {found:?}");
    }
    let ports: Vec<_> = found.iter().filter(|(check, _)| check.starts_with("port ")).collect();
    assert!(ports.len() == 2 && ports.iter().all(|(_, level)| level == "ok"), "{ports:?}");
    let address = flags[1].trim_start_matches("--listen-client-urls=http://").to_owned();
    let _taken = TcpListener::bind(&address).expect("the port");
    let taken = run(&program, &["doctor", "--json"], &flags);
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(
        findings(&taken).iter().any(|(check, level)| check.contains("for clients") && level == "failure"),
        "{taken:?}"
    );
    let text = run(&program, &["doctor"], &flags);
    assert!(
        text.stdout.contains("failure  port ") && text.stdout.contains("help: see who has it"),
        "{}",
        text.stdout
    );
    assert!(
        !folder.is_empty() && std::fs::read_dir(program.folder()).unwrap().count() == 2,
        "the checks leave nothing but the links"
    );
}

#[test]
fn the_doctor_reads_certificates_and_tells_what_is_no_store() {
    use std::io::{Read as _, Write as _};
    let program = Program::new();
    let certificate = "--cert-file=/nowhere/server.pem".to_owned();
    let key = "--key-file=/nowhere/server.key".to_owned();
    let folder = program.folder().to_str().unwrap().to_owned();
    let flags: Vec<String> = nobody(&folder).into_iter().chain([certificate, key]).collect();
    let missing = run(&program, &["doctor", "--json"], &flags);
    assert_eq!(missing.code, Some(1));
    assert!(
        findings(&missing).iter().any(|(check, level)| check.contains("server.pem") && level == "failure"),
        "{missing:?}"
    );
    // What is no store is told as such, and asked for nothing more.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoints = format!("--endpoints={}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 1024];
            // A client that has gone needs no answer.
            let _ = stream.read(&mut bytes);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let other = run(&program, &["doctor", "--json", &endpoints], &nobody(&folder));
    assert!(
        findings(&other).iter().any(|(check, level)| check.starts_with("store at") && level != "ok"),
        "{other:?}"
    );
}

#[test]
fn no_secret_is_in_a_bundle() {
    let program = Program::new();
    let folder = program.folder().to_str().unwrap().to_owned();
    let log = program.folder().join("store.log");
    let key = "-----BEGIN PRIVATE KEY-----\nplanted-in-a-key\n-----END PRIVATE KEY-----\n";
    let lines = "{\"msg\":\"login\",\"password\":\"planted-in-json\"}\nAuthorization: Bearer planted-in-a-header\n\
                 dial http://root:planted-in-a-url@10.0.0.1:2379\nordinary line that stays\n";
    std::fs::write(&log, format!("{lines}{key}")).unwrap();
    let archive = program.folder().join("out.tar");
    let mut flags = nobody(&folder);
    flags.push(format!("--log={}", log.display()));
    flags.push(format!("--output={}", archive.display()));
    flags.push("--initial-cluster-token=planted-in-a-flag".to_owned());
    let all: Vec<&str> = ["debug", "bundle"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let variables =
        [("ETCDCTL_USER", "root:planted-in-a-variable"), ("ETCDCTL_PASSWORD", "planted-in-another")];
    let outcome = program.keelson_with(&all, &variables);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let bytes = std::fs::read(&archive).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("planted-in"), "{}", &text[text.find("planted-in").unwrap_or(0)..][..200]);
    for kept in [
        "ordinary line that stays",
        "ETCDCTL_USER",
        "heartbeat-interval",
        "keelson-debug/doctor.json",
        "Max open files",
    ] {
        assert!(text.contains(kept), "{kept} is missing");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_unit_is_shown_written_and_sound() {
    let program = Program::new();
    let root = program.folder().join("root");
    let shown = program.keelson(&["install", "service"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("Type=notify") && !root.exists());
    let root_flag = format!("--root={}", root.display());
    let written = program.keelson(&["install", "service", "--write", "--user=root", &root_flag]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let unit = root.join("etc/systemd/system/keelson.service");
    assert!(std::fs::read_to_string(&unit).unwrap().contains("User=root"));
    assert_eq!(program.keelson(&["install", "service", "--data-dir=relative"]).code, Some(2));
    // Where systemd is, it judges the unit itself.
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    if let Ok(verified) = verified {
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[test]
fn the_client_is_a_command_and_a_link() {
    let program = Program::new();
    let ctl = program.keelson(&["ctl", "version"]);
    assert_eq!((ctl.code, ctl.stdout.as_str()), (Some(0), "etcdctl version: 3.7.3\nAPI version: 3.7\n"));
    assert_eq!(program.etcdctl(&["version"]).stdout, ctl.stdout);
    let help = program.keelson(&["ctl", "--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["get", "watch", "member", "make-mirror", "check"] {
        assert!(help.stdout.contains(command), "{command} is missing from {}", help.stdout);
    }
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let known = program.keelson(&["completion", shell]).stdout;
        for word in
            ["make-mirror", "print-value-only", "compare", "doctor", "bundle", "insecure-skip-tls-verify"]
        {
            assert!(known.contains(word), "{shell} does not complete {word}");
        }
        assert_eq!(program.keelson(&["ctl", "completion", shell]).stdout, known);
    }
}
