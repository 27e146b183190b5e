//! Settings of the store as options of commands that work on its folders.
//!
//! Called by: `snapshot`, `recover`. Invariant: they keep their names, their defaults and their checks, so that the same flags make
//! a folder, mend it and start the store on it.

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::{command, environment, flavor, report};
use crate::config::{self, EffectiveConfig, Request, table};

/// Adds the settings of these names.
pub(super) fn args(command: Command, names: &[&str]) -> Command {
    command.args(names.iter().filter_map(|name| table::find(name)).map(command::flag))
}

/// The configuration that these settings and the environment make.
pub(super) fn configuration(matches: &ArgMatches, names: &[&str]) -> Result<EffectiveConfig, ExitCode> {
    let given: Vec<String> = names
        .iter()
        .filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine))
        .filter_map(|name| Some(format!("--{name}={}", matches.get_one::<String>(name)?)))
        .collect();
    match config::resolve(&given, &environment(), flavor()) {
        Ok(Request::Run(resolved)) => Ok(resolved.config),
        Ok(_) => unreachable!("only settings are given"),
        Err(error) => Err(report::config(&error)),
    }
}
