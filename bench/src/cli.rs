//! The command line of the load generator.
//!
//! Owns: options, progress line, exit code. Called by: `main` here and `keelson bench`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::{self, Options, Pace};
use crate::report::Report;
use crate::usage::Usage;
use crate::workload::{Kind, Shape};
use crate::{client::CallError, compare};

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
    Run(RunOptions),
    /// Start two servers in turn and compare them on the same work.
    Compare(compare::CompareOptions),
}

#[derive(Args)]
struct RunOptions {
    /// The work to do.
    kind: Kind,
    /// Servers, separated by commas.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// HTTP/2 connections in all.
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Concurrent clients in all.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Requests per second over all clients (open loop); without it each client waits for its answer (closed loop).
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds of load before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    #[command(flatten)]
    shape: ShapeOptions,
    /// Process ids of the servers, to report their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
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

/// Sizes of keys and values.
#[derive(Args, Clone, Copy)]
pub struct ShapeOptions {
    /// Bytes per key.
    #[arg(long, default_value_t = 32)]
    pub key_size: usize,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 10_000)]
    pub key_space: u64,
}

impl From<ShapeOptions> for Shape {
    fn from(options: ShapeOptions) -> Self {
        Shape {
            key_bytes: options.key_size,
            value_bytes: options.value_size,
            key_space: options.key_space.max(1),
        }
    }
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
            Subcommands::Run(options) => run_load(options).await,
            Subcommands::Compare(options) => Ok(compare::run(options).await?),
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
    let options = Options {
        endpoints: run.endpoints,
        connections: run.connections.max(1),
        clients: run.clients.max(1),
        kind: run.kind,
        shape: run.shape.into(),
        pace: run.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
        warm_up: Duration::from_secs_f64(run.warm_up),
        duration: Duration::from_secs_f64(run.duration),
    };
    let report = measure(&options, &run.pids, !run.no_fill).await?;
    let json = serde_json::to_string_pretty(&report).expect("a report holds plain numbers");
    if let Some(path) = run.output {
        std::fs::write(&path, &json).map_err(|source| BenchError::Output { path, source })?;
    }
    println!("{}", if run.json { json } else { report.line() });
    Ok(())
}

/// Fills the key space where the workload needs it, runs the load and reads the servers' counters around it.
///
/// # Errors
/// The first failed call.
pub async fn measure(options: &Options, pids: &[u32], fill: bool) -> Result<Report, CallError> {
    if fill && options.kind.needs_keys() {
        load::fill(&options.endpoints, options.shape, &progress("writing keys")).await?;
    }
    let mut before = None;
    let mut after = None;
    let read = |slot: &mut Option<Usage>| *slot = (!pids.is_empty()).then(|| Usage::sum(pids));
    let measured = load::run(options, &progress("load"), || read(&mut before), || read(&mut after)).await?;
    Ok(Report::new(&measured, before.zip(after)))
}

/// A progress line on a terminal, nothing in a pipe.
fn progress(label: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style =
        ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {msg}").expect("a valid template");
    ProgressBar::with_draw_target(None, target).with_style(style).with_prefix(label)
}
