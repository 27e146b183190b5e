//! `keelson config print`: shows the configuration that the same flags would start the store with.
//!
//! Called by: `cli`.

use std::process::ExitCode;

use super::{command, environment, report};
use crate::config::{self, Flavor, Request, print};

/// Prints the configuration. Own options first, all others are flags of the store.
pub(super) fn print(arguments: &[String], flavor: Flavor) -> ExitCode {
    let mut effective = false;
    let mut output = "yaml".to_owned();
    let mut flags = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--effective" => effective = true,
            "-o" | "--output" => output = rest.next().cloned().unwrap_or_default(),
            "-h" | "--help" => return report::print(&command::help(&["config", "print"])),
            other => match other.strip_prefix("--output=").or_else(|| other.strip_prefix("-o=")) {
                Some(form) => output = form.to_owned(),
                None => flags.push(argument.clone()),
            },
        }
    }
    let resolved = match config::resolve(&flags, &environment(), flavor) {
        Ok(Request::Run(resolved)) => resolved,
        Ok(_) => return report::print(&command::help(&["config", "print"])),
        Err(error) => return report::config(&error),
    };
    for remark in &resolved.remarks {
        eprintln!("warning: {remark}");
    }
    match output.as_str() {
        "yaml" => report::print(&print::yaml(&resolved, effective)),
        "json" => report::print(&(print::json(&resolved, effective) + "\n")),
        other => report::usage(&format!("unknown output form {other:?}"), "write -o yaml or -o json", 2),
    }
}
