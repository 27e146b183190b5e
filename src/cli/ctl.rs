//! `keelson ctl`, and the program under the name `etcdctl`: the client, which has a command line of its own.
//!
//! Owns: its place in the tree of commands, so that completions and pages know it. Called by: `cli`, `command`.

use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};
use keelson_ctl::line::spec::{self, Kind};
use keelson_ctl::line::{GLOBALS, ROOT};

use super::shell;

/// Runs the client. Completions are those of the whole program.
pub(super) fn run(program: &str, arguments: &[String]) -> ExitCode {
    match arguments {
        [command, shell] if command == "completion" => shell::named_completion(shell),
        _ => keelson_ctl::run(program, arguments),
    }
}

/// The client's commands with their flags.
pub(super) fn tree() -> Command {
    command(&ROOT)
        .args(GLOBALS.iter().map(|one| flag(one).global(true)))
        .after_help("Examples:\n  keelson ctl put greeting hello\n  keelson ctl --endpoints=10.0.0.1:2379 endpoint status -w table")
}

fn command(spec: &'static spec::Command) -> Command {
    let mut command = Command::new(spec.name).about(spec.about).args(spec.flags.iter().map(flag));
    if spec.action.is_some() {
        command = command.after_help(format!("Example:\n  keelson ctl {}", spec.example));
    }
    if !spec.usage.is_empty() && spec.commands.is_empty() {
        command = command.arg(Arg::new("arguments").num_args(0..).help(spec.usage));
    }
    command.subcommands(spec.commands.iter().map(self::command))
}

fn flag(spec: &'static spec::Flag) -> Arg {
    let arg = Arg::new(spec.name).long(spec.name).help(spec.about);
    let arg = match spec.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match spec.kind {
        Kind::Switch if spec.default == "false" => arg.action(ArgAction::SetTrue),
        Kind::Switch => arg.num_args(0..=1).require_equals(true).value_parser(["true", "false"]),
        _ if spec.default.is_empty() => arg,
        _ => arg.default_value(spec.default),
    }
}
