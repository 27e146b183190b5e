//! Two servers, the same work, in turn, on the same machine and disk.
//!
//! Owns: the matrix of runs, medians and ratios, the table and the raw figures. Called by: `cli`.
//! Invariants: both servers get the same flags, the same cores and an empty directory on the same file system for
//! every run; runs alternate (A, B, A, B ...), so that a drift of the machine hits both; the ratio is that of the
//! medians, and the spread is printed beside it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{ShapeOptions, measure};
use crate::client::CallError;
use crate::idle;
use crate::load::{Options, Pace};
use crate::peer::{Peers, Program, StartError};
use crate::report::Report;
use crate::workload::Kind;

/// Options of `keelson bench compare`.
#[derive(Args)]
pub struct CompareOptions {
    /// The keelson binary.
    #[arg(long)]
    keelson: PathBuf,
    /// The etcd binary.
    #[arg(long)]
    etcd: PathBuf,
    /// Members per server, separated by commas: each number is a block of the table.
    #[arg(long, default_value = "1,3", value_delimiter = ',')]
    nodes: Vec<usize>,
    /// Workloads, separated by commas.
    #[arg(long, default_value = "put,range", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Clients, separated by commas. One connection serves ten of them.
    #[arg(long, default_value = "1,100,1000", value_delimiter = ',')]
    clients: Vec<usize>,
    /// Runs of each cell; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of load before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds measured per run.
    #[arg(long, default_value_t = 4.0)]
    duration: f64,
    /// Cores of the servers (`taskset` syntax); start the command itself pinned to the others.
    #[arg(long)]
    server_cores: Option<String>,
    /// Where the servers keep their data; must be on the disk that is to be measured.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Append every run to this CSV file.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write the table in Markdown to this file instead of printing it.
    #[arg(long)]
    table: Option<PathBuf>,
    #[command(flatten)]
    shape: ShapeOptions,
}

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompareError {
    #[error("{server}, {nodes} node(s), {kind:?}, {clients} clients: {source}")]
    Load { server: String, nodes: usize, kind: Kind, clients: usize, source: CallError },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// One row of the table.
struct Row {
    nodes: usize,
    kind: Kind,
    clients: usize,
    /// Runs of ours and of the peer's, in order.
    runs: [Vec<Report>; 2],
}

/// Runs the whole matrix.
///
/// # Errors
/// The first server that does not start or request that fails ends the comparison.
pub async fn run(options: CompareOptions) -> Result<(), CompareError> {
    let programs = [
        Program { name: "keelson".into(), binary: options.keelson.clone(), arguments: vec!["store".into()] },
        Program { name: "etcd".into(), binary: options.etcd.clone(), arguments: Vec::new() },
    ];
    let mut rows = Vec::new();
    for &nodes in &options.nodes {
        for &kind in &options.kinds {
            for &clients in &options.clients {
                let mut row = Row { nodes, kind, clients, runs: Default::default() };
                for _ in 0..options.runs {
                    for (side, program) in programs.iter().enumerate() {
                        let report = one_run(&options, program, &row).await?;
                        eprintln!(
                            "{nodes} node(s) {kind:?} {clients:4} clients {:8} {}",
                            program.name,
                            report.line()
                        );
                        append_csv(&options, program, &row, &report)?;
                        row.runs[side].push(report);
                    }
                }
                rows.push(row);
            }
        }
    }
    let mut idle = [Vec::new(), Vec::new()];
    for _ in 0..options.runs {
        for (side, program) in programs.iter().enumerate() {
            let directory = fresh_directory(&options)?;
            let run = idle::measure(program, directory.path(), options.server_cores.as_deref()).await?;
            idle[side].push(run);
        }
    }
    let table = format!("{}\n{}", table(&rows), idle::table(idle.each_ref().map(Vec::as_slice)));
    match &options.table {
        Some(path) => write(path, &table),
        None => {
            print!("{table}");
            Ok(())
        }
    }
}

async fn one_run(options: &CompareOptions, program: &Program, row: &Row) -> Result<Report, CompareError> {
    let directory = fresh_directory(options)?;
    let peers = Peers::start(program, row.nodes, directory.path(), options.server_cores.as_deref()).await?;
    let load = Options {
        endpoints: peers.endpoints.clone(),
        connections: row.clients.div_ceil(10).max(row.nodes.min(row.clients)),
        clients: row.clients,
        kind: row.kind,
        shape: options.shape.into(),
        pace: Pace::Closed,
        warm_up: Duration::from_secs_f64(options.warm_up),
        duration: Duration::from_secs_f64(options.duration),
    };
    measure(&load, &peers.pids(), true).await.map_err(|source| CompareError::Load {
        server: program.name.clone(),
        nodes: row.nodes,
        kind: row.kind,
        clients: row.clients,
        source,
    })
}

fn fresh_directory(options: &CompareOptions) -> Result<tempfile::TempDir, CompareError> {
    let parent = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("keelson-bench-")
        .tempdir_in(&parent)
        .map_err(|source| CompareError::File { path: parent, source })
}

/// The table with medians and ratios; a ratio above 1 in throughput and below 1 elsewhere is in our favour.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| nodes | workload | clients | requests/s keelson | etcd | ratio | p50 ms keelson | etcd | p99 ms keelson | etcd | \
         server CPU us/request keelson | etcd | ratio | memory MB keelson | etcd |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let throughput = row.runs.each_ref().map(|runs| median(runs, |run| run.operations_per_s));
        let p50 = row.runs.each_ref().map(|runs| median(runs, |run| run.latency_us_p50 as f64) / 1e3);
        let p99 = row.runs.each_ref().map(|runs| median(runs, |run| run.latency_us_p99 as f64) / 1e3);
        let cpu = row
            .runs
            .each_ref()
            .map(|runs| median(runs, |run| run.server_cpu_us_per_operation.unwrap_or(0.0)));
        let memory = row
            .runs
            .each_ref()
            .map(|runs| median(runs, |run| run.server_resident_bytes.unwrap_or(0) as f64) / 1e6);
        let spread = |side: usize| {
            let values = || row.runs[side].iter().map(|run| run.operations_per_s);
            let low = values().fold(f64::INFINITY, f64::min);
            let high = values().fold(0.0, f64::max);
            format!("{:.0} ({low:.0} to {high:.0})", throughput[side])
        };
        let kind = serde_json::to_string(&row.kind).expect("a kind is a string");
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | **{:.2}** | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | **{:.2}** | {:.0} | {:.0} |",
            row.nodes,
            kind.trim_matches('"'),
            row.clients,
            spread(0),
            spread(1),
            throughput[0] / throughput[1],
            p50[0],
            p50[1],
            p99[0],
            p99[1],
            cpu[0],
            cpu[1],
            cpu[0] / cpu[1],
            memory[0],
            memory[1],
        )
        .expect("writing to a string");
    }
    text
}

fn median(runs: &[Report], value: impl Fn(&Report) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn append_csv(
    options: &CompareOptions,
    program: &Program,
    row: &Row,
    report: &Report,
) -> Result<(), CompareError> {
    let Some(path) = &options.csv else { return Ok(()) };
    let header = if path.exists() {
        ""
    } else {
        "server,nodes,workload,clients,operations,elapsed_s,operations_per_s,latency_us_mean,latency_us_p50,\
         latency_us_p99,latency_us_p999,latency_us_max,server_cpu_us_per_operation,server_resident_bytes,\
         server_disk_bytes_per_operation\n"
    };
    let kind = serde_json::to_string(&row.kind).expect("a kind is a string");
    let line = format!(
        "{header}{},{},{},{},{},{:.3},{:.1},{:.1},{},{},{},{},{:.2},{},{:.1}\n",
        program.name,
        row.nodes,
        kind.trim_matches('"'),
        row.clients,
        report.operations,
        report.elapsed_s,
        report.operations_per_s,
        report.latency_us_mean,
        report.latency_us_p50,
        report.latency_us_p99,
        report.latency_us_p999,
        report.latency_us_max,
        report.server_cpu_us_per_operation.unwrap_or(f64::NAN),
        report.server_resident_bytes.unwrap_or(0),
        report.server_disk_bytes_per_operation.unwrap_or(f64::NAN),
    );
    let file = |source| CompareError::File { path: path.clone(), source };
    let mut csv = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(file)?;
    std::io::Write::write_all(&mut csv, line.as_bytes()).map_err(file)
}

fn write(path: &std::path::Path, text: &str) -> Result<(), CompareError> {
    std::fs::write(path, text).map_err(|source| CompareError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn report(operations_per_s: f64) -> Report {
        Report {
            operations: 1,
            elapsed_s: 1.0,
            operations_per_s,
            latency_us_mean: 1.0,
            latency_us_p50: 1000,
            latency_us_p99: 2000,
            latency_us_p999: 1,
            latency_us_max: 1,
            server_cpu_us_per_operation: Some(operations_per_s / 10.0),
            server_resident_bytes: Some(1_000_000),
            server_disk_bytes_per_operation: None,
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let row = Row {
            nodes: 1,
            kind: Kind::Put,
            clients: 100,
            runs: [vec![report(100.0), report(900.0), report(300.0)], vec![report(100.0), report(200.0)]],
        };
        let table = table(&[row]);
        assert!(table.contains("| 300 (100 to 900) | 150 (100 to 200) | **2.00** |"), "{table}");
    }
}
