//! `keelson completion` and `keelson man`, both drawn from the tree of commands.
//!
//! Called by: `cli`, and by the packaging script.

use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use clap_complete::{Shell, generate};

use super::{command, report};

/// The shells there are completions for.
pub(super) const SHELLS: [&str; 4] = ["bash", "zsh", "fish", "powershell"];

/// Prints the completions for the shell asked for.
pub(super) fn completion(matches: &ArgMatches) -> ExitCode {
    named_completion(matches.get_one::<String>("shell").map_or("bash", String::as_str))
}

/// Prints the completions for a shell by its name.
pub(super) fn named_completion(name: &str) -> ExitCode {
    let Some(shell) = SHELLS
        .iter()
        .zip([Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell])
        .find(|(known, _)| **known == name)
    else {
        return report::usage(
            &format!("there are no completions for {name:?}"),
            &format!("give one of {}", SHELLS.join(", ")),
            1,
        );
    };
    let mut out = Vec::new();
    generate(shell.1, &mut command::tree(), "keelson", &mut out);
    report::print(&String::from_utf8_lossy(&out))
}

/// Prints the main page, or writes all pages into a folder.
pub(super) fn man(matches: &ArgMatches) -> ExitCode {
    match matches.get_one::<String>("dir") {
        None => {
            let mut out = Vec::new();
            match clap_mangen::Man::new(command::tree()).render(&mut out) {
                Ok(()) => report::print(&String::from_utf8_lossy(&out)),
                Err(error) => {
                    report::usage(&format!("render the manual page: {error}"), "report this as a bug", 1)
                }
            }
        }
        Some(folder) => {
            let written = std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(command::tree(), Path::new(folder)));
            match written {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => report::usage(
                    &format!("write manual pages into {folder}: {error}"),
                    "give a folder that can be written",
                    1,
                ),
            }
        }
    }
}
