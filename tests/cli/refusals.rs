//! Starts that are refused: the exit code, what is wrong, what to do.

use crate::program::{Outcome, Program};

fn check(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let program = Program::new();
    check(
        &program.etcd(&["--lsten-client-urls=http://a:1"]),
        2,
        &["--lsten-client-urls", "did you mean --listen-client-urls?"],
    );
    check(&program.etcd(&["--name"]), 2, &["--name needs a value"]);
    check(&program.etcd(&["--heartbeat-interval=often"]), 2, &["--heartbeat-interval", "whole number"]);
    check(
        &program.etcd(&["--experimental-initial-corrupt-check=true"]),
        2,
        &["no longer exists", "--feature-gates=InitialCorruptCheck=true"],
    );
    check(&program.keelson(&["store", "--nmae=a"]), 2, &["did you mean --name?"]);
    check(&program.keelson(&["stroe"]), 2, &["stroe", "store"]);
    check(&program.keelson(&[]), 2, &["Usage:"]);
    check(&program.keelson(&["completion", "tcsh"]), 2, &["tcsh", "bash"]);
    check(&program.keelson(&["config", "print", "-o", "toml"]), 2, &["toml", "yaml"]);
}

#[test]
fn a_failed_start_exits_with_1() {
    let program = Program::new();
    check(
        &program.etcd(&["--listen-client-urls=http://0.0.0.0:2379"]),
        1,
        &["--advertise-client-urls is not", "add --advertise-client-urls"],
    );
    check(&program.etcd(&["--election-timeout=200"]), 1, &["five times", "500 or more"]);
    check(&program.etcd(&["serve"]), 1, &["unexpected argument", "--name=value"]);
    check(&program.etcd(&["gateway", "start"]), 1, &["proxies"]);
    check(&program.etcd_with(&[], &[("ETCD_HEARTBEAT_INTERVAL", "x")]), 1, &["ETCD_HEARTBEAT_INTERVAL"]);
    check(
        &program.etcd(&["--name=a", "--initial-cluster=b=http://localhost:2380"]),
        1,
        &["has no member", "add a=http://localhost:2380"],
    );
    check(
        &program.etcd(&["--log-outputs=/proc/nowhere/x.log"]),
        1,
        &["/proc/nowhere/x.log", "--log-outputs"],
    );
}

#[test]
fn a_wrong_file_is_refused_by_name_and_line() {
    let program = Program::new();
    let file = program.folder().join("k.yml");
    std::fs::write(&file, "name: a\nclient-transport-security:\n  client-cert-aut: true\n").unwrap();
    let flag = format!("--config-file={}", file.display());
    check(
        &program.etcd(&[&flag]),
        1,
        &["client-cert-aut", "k.yml line 3", "client-transport-security.client-cert-auth"],
    );
    check(&program.etcd(&["--config-file=nowhere.yml"]), 1, &["nowhere.yml", "No such file"]);
}

#[test]
fn the_data_of_an_etcd_is_left_alone() {
    let program = Program::new();
    let folder = program.folder().join("default.etcd/member/snap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("db"), b"bbolt").unwrap();
    check(&program.etcd(&[]), 1, &["the data of an etcd server", "another --data-dir"]);
    assert_eq!(std::fs::read(folder.join("db")).unwrap(), b"bbolt");
}

/// Log shippers read these keys; the refusal comes before anything listens.
#[test]
fn log_lines_are_json_with_the_keys_of_etcd() {
    let program = Program::new();
    let outcome = program.etcd(&["--name=a", "--initial-cluster=b=http://localhost:2380", "--max-wals=7"]);
    let lines: Vec<serde_json::Value> = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in &lines {
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "{key} is missing from {line}");
        }
    }
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "warn" && line["msg"].as_str().unwrap().contains("--max-wals"))
    );
    assert!(lines.iter().any(|line| line["level"] == "error" && line["remedy"].is_string()));
}

#[test]
fn people_get_text() {
    let program = Program::new();
    let outcome = program.keelson(&[
        "store",
        "--log-format=console",
        "--name=a",
        "--initial-cluster=b=http://localhost:2380",
    ]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.lines().all(|line| !line.starts_with('{')), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("ERROR failed to start"), "{}", outcome.stderr);
}
