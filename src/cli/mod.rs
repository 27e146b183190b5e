//! The command line: which command is asked for, under which name the program was started.
//!
//! Owns: dispatch and exit codes: 0 done, 1 failed, 2 wrong usage, 130 and 143 after a graceful stop by a signal.
//! Invariants: started through a link named `etcd` the program is etcd, flags, help and version included; through one
//! named `etcdctl` it is the client.
//! Called by: `main`.

mod bundle;
mod command;
mod config;
mod ctl;
mod doctor;
mod install;
mod member;
mod place;
mod recover;
mod report;
mod shell;
mod snapshot;
mod store;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::config::Flavor;
use crate::version;

/// Runs the program with its arguments, its own name first.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = match arguments.into_iter().map(OsString::into_string).collect() {
        Ok(arguments) => arguments,
        Err(argument) => {
            return report::usage(&format!("the argument {argument:?} is not UTF-8"), "rename the file", 2);
        }
    };
    let program = arguments.first().map(String::as_str).unwrap_or_default();
    let link = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = arguments.get(1..).unwrap_or_default();
    if link == "etcdctl" {
        return ctl::run(link, rest);
    }
    if link != "etcd" {
        return keelson(&arguments, rest);
    }
    match rest.first().map(String::as_str) {
        Some("gateway" | "grpc-proxy") => report::usage(
            "the proxies of etcd are not part of Keelson",
            "let clients talk to the members themselves",
            1,
        ),
        _ => store::run(rest, Flavor::Etcd),
    }
}

/// The program under its own name.
fn keelson(arguments: &[String], rest: &[String]) -> ExitCode {
    // Most of these take etcd's flags, whose rules are not clap's.
    match rest.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["store", ..] => return store::run(&rest[1..], flavor()),
        // The load generator has a command line of its own.
        ["bench", ..] => return keelson_bench::cli::run(rest),
        ["ctl", ..] => return ctl::run("keelson ctl", &rest[1..]),
        ["doctor", ..] => return doctor::run(&rest[1..], flavor()),
        ["debug", "bundle", ..] => return bundle::run(&rest[2..], flavor()),
        ["config", "print", ..] => return config::print(&rest[2..], flavor()),
        _ => {}
    }
    let matches = match command::tree().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp) => {
            return report::print(&error.render().to_string());
        }
        Err(error) => {
            // Help for want of a command goes to stderr, like every other fault of usage.
            eprint!("{}", error.render());
            return ExitCode::from(2);
        }
    };
    if matches.get_flag("version") {
        return report::print(&version::text());
    }
    match matches.subcommand() {
        Some(("version", matches)) => match matches.get_one::<String>("output").map(String::as_str) {
            Some("json") => report::print(&version::json()),
            _ => report::print(&version::text()),
        },
        Some(("completion", matches)) => shell::completion(matches),
        Some(("install", matches)) => match matches.subcommand() {
            Some((_, matches)) => install::run(matches),
            None => report::usage("install what?", "there is: keelson install service", 2),
        },
        Some(("man", matches)) => shell::man(matches),
        Some(("snapshot", matches)) => snapshot::run(matches),
        Some(("recover", matches)) => recover::run(matches),
        Some(("member", matches)) => member::run(matches),
        _ => {
            eprint!("{}", command::tree().render_help());
            ExitCode::from(2)
        }
    }
}

/// The environment as far as it is text; no setting is anything else.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn flavor() -> Flavor {
    Flavor::Keelson { terminal: std::io::stderr().is_terminal() }
}
