//! The command line of the load generator.
//!
//! Owns: commands, exit code. Called by: `main` here and `keelson bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::client::CallError;
use crate::compare;
use crate::options::{TlsOptions, WorkOptions};
use crate::progress::Progress;
use crate::target::Target;
use crate::transport::Endpoint;
use crate::workload::{self, Kind};

/// Drives load against any server that speaks the etcd v3 API and reports what it cost.
#[derive(Parser)]
#[command(name = "keelson bench", bin_name = "keelson bench")]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Load one running server or quorum.
    Run(Box<RunOptions>),
    /// Start servers in turn and compare them on the same work.
    Compare(Box<compare::CompareOptions>),
    /// Print the rows of the comparison: name, plot, target, what is done.
    Rows(compare::RowsOptions),
    /// Write the page of a comparison again, from its raw figures.
    Report(compare::ReportOptions),
}

#[derive(Args)]
struct RunOptions {
    /// The work to do.
    kind: Kind,
    /// Servers, separated by commas; the first should be the leader.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    work: WorkOptions,
    /// Process ids of the servers, to report their CPU time, memory and disk writes.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Data directories of the servers, to report what they take on the disk and what reaches it.
    #[arg(long, value_delimiter = ',')]
    data_dirs: Vec<PathBuf>,
    /// Do not write the keys before a read workload.
    #[arg(long)]
    no_fill: bool,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Also write the figures as JSON to this file.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BenchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Compare(#[from] compare::CompareError),
    #[error("write {path}: {source}")]
    Output { path: PathBuf, source: std::io::Error },
}

/// The commands and flags, for completions and pages of the program they are part of.
pub fn command() -> clap::Command {
    Cli::command().name("bench")
}

/// Runs the command line given (first item: the program's name).
pub fn run(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as "errors" too, and are not failures.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs one file descriptor and no privilege");
    let tasks = tokio::task::LocalSet::new();
    let result = tasks.block_on(&runtime, async {
        match cli.command {
            Subcommands::Run(options) => run_load(*options).await,
            Subcommands::Compare(options) => Ok(compare::run(*options).await?),
            Subcommands::Rows(options) => {
                print!("{}", compare::list(&options));
                Ok(())
            }
            Subcommands::Report(options) => Ok(compare::report(&options)?),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_load(run: RunOptions) -> Result<(), BenchError> {
    let tls = run.tls.into();
    let endpoints: Result<Vec<Endpoint>, CallError> =
        run.endpoints.iter().map(|text| Endpoint::parse(text, &tls)).collect();
    let target = Target { endpoints: endpoints?, pids: run.pids, directories: run.data_dirs };
    let options = run.work.of(run.kind, !run.no_fill);
    let figures = workload::run(&target, &options, &Progress::new("load")).await?;
    let json = serde_json::to_string_pretty(&figures).expect("figures are plain numbers");
    if let Some(path) = run.output {
        std::fs::write(&path, &json).map_err(|source| BenchError::Output { path, source })?;
    }
    println!("{}", if run.json { json } else { figures.line() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
