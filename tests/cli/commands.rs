//! Commands that print something and succeed.

use std::collections::BTreeSet;

use keelson::config::table::retired::IGNORED;

use crate::program::Program;

const FLAGS: &str = include_str!("../../src/config/table/etcd-3.7-flags.txt");

#[test]
fn the_version_has_the_lines_that_test_tools_parse() {
    let outcome = Program::new().etcd(&["--version"]);
    assert_eq!(outcome.code, Some(0));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let number = lines[0].strip_prefix("etcd Version: ").expect("the first line is etcd's");
    assert!(number.starts_with("3.7.") && number.split('.').count() == 3, "{number}");
    assert!(lines[1].starts_with("Git SHA: "), "{lines:?}");
    assert!(lines[2].starts_with("Go Version: none (Keelson "), "{lines:?}");
    assert!(lines[3].starts_with("Go OS/Arch: linux/"), "{lines:?}");
}

#[test]
fn keelson_tells_its_own_version() {
    let program = Program::new();
    for arguments in [&["version"][..], &["--version"], &["-V"], &["store", "--version"]] {
        let outcome = program.keelson(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}");
        assert!(outcome.stdout.starts_with("keelson "), "{arguments:?}: {}", outcome.stdout);
    }
    let json: serde_json::Value =
        serde_json::from_str(&program.keelson(&["version", "-o", "json"]).stdout).unwrap();
    assert!(json["etcd"].as_str().unwrap().starts_with("3.7."));
}

/// envtest looks for `^\s*--unsafe-no-fsync\b` in the help before it uses the flag, and the help must succeed.
#[test]
fn the_help_lists_every_flag_of_etcd_as_tools_look_for_it() {
    let program = Program::new();
    for outcome in [program.etcd(&["--help"]), program.etcd(&["-h"]), program.keelson(&["store", "--help"])] {
        assert_eq!(outcome.code, Some(0));
        let listed: BTreeSet<&str> = outcome
            .stdout
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--"))
            .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next())
            .collect();
        for flag in FLAGS.lines().filter(|line| !line.starts_with('#')) {
            // The flags of the first years are accepted and not worth a line, in etcd's help as in ours.
            assert!(IGNORED.contains(&flag) || listed.contains(flag), "--{flag} is missing from the help");
        }
        assert!(listed.contains("unsafe-no-fsync"));
    }
}

#[test]
fn the_configuration_is_printed_as_a_file() {
    let program = Program::new();
    let outcome = program.keelson(&["config", "print", "--effective", "--name=m1", "--pre-vote=false"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("name: \"m1\" # flag\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("pre-vote: false # flag\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("data-dir: \"keelson.data\" # default\n"), "{}", outcome.stdout);
    let file = program.folder().join("k.yml");
    std::fs::write(&file, &outcome.stdout).unwrap();
    let again =
        program.keelson(&["config", "print", "-o", "json", &format!("--config-file={}", file.display())]);
    let json: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(json["name"], serde_json::json!({"value": "m1", "source": "file"}));
}

#[test]
fn completions_know_flags_and_commands() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = program.keelson(&["completion", shell]);
        assert_eq!(outcome.code, Some(0), "{shell}");
        for word in ["listen-client-urls", "unsafe-no-fsync", "completion", "existing"] {
            assert!(outcome.stdout.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn manual_pages_are_written() {
    let program = Program::new();
    assert!(program.keelson(&["man"]).stdout.contains(".TH keelson"));
    let folder = program.folder().join("man");
    assert_eq!(program.keelson(&["man", "--dir", folder.to_str().unwrap()]).code, Some(0));
    let page = std::fs::read_to_string(folder.join("keelson-store.1")).expect("a page of the store");
    assert!(page.contains("quota\\-backend\\-bytes"));
}

#[test]
fn help_exists_for_people_too() {
    let program = Program::new();
    for arguments in [
        &["--help"][..],
        &["help"],
        &["version", "--help"],
        &["config", "print", "--help"],
        &["bench", "--help"],
    ] {
        let outcome = program.keelson(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stdout.contains("Usage:"), "{arguments:?}: {}", outcome.stdout);
    }
}
