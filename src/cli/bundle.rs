//! `keelson debug bundle`: from flags to an archive.
//!
//! Called by: `cli`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::doctor::{CLIENT, json, split, wait_for};
use super::{command, environment, report};
use crate::bundle::{self, Inputs};
use crate::config::Flavor;
use crate::doctor;

/// Writes the archive.
pub(super) fn run(arguments: &[String], flavor: Flavor) -> ExitCode {
    let names: Vec<&str> = CLIENT.into_iter().chain(["--output", "-o", "--log"]).collect();
    let own = match split(arguments, &names, &[]) {
        Ok(own) => own,
        Err(problem) => return report::usage(&problem, "see keelson debug bundle --help", 2),
    };
    if own.help {
        return report::print(&command::help(&["debug", "bundle"]));
    }
    let resolved = match own.resolve(flavor) {
        Ok(resolved) => resolved,
        Err(code) => return code,
    };
    let path =
        PathBuf::from(own.value("--output").or_else(|| own.value("-o")).unwrap_or("keelson-debug.tar"));
    let settings = own.settings(&resolved.config);
    let logs = own.values.iter().filter(|(name, _)| name == "--log").map(|(_, path)| path.into()).collect();
    let written = wait_for(async {
        let doctor = json(&doctor::examine(&resolved.config, &settings).await);
        bundle::write(&path, &resolved, &settings, Inputs { logs, doctor, environment: environment() }).await
    });
    match written {
        Ok(names) => report::print(&format!(
            "{} files in {}; passwords, tokens and private keys are taken out, look before you send it\n",
            names.len(),
            path.display()
        )),
        Err(error) => report::usage(
            &format!("write {}: {error}", path.display()),
            "give a file in a folder that can be written with --output",
            1,
        ),
    }
}
