//! Several servers, the same work, in turn, on the same machine and disk.
//!
//! Owns: the order of the runs, the raw figures, the page made of them. Called by: `cli`.
//! Invariants: every server gets the same flags, the same cores and an empty directory on the same file system for every
//! run; runs alternate (A, B, A, B ...), so that a drift of the machine hits all; a figure is written down as soon as it
//! is known, so that an interrupted comparison keeps what it has.

pub mod page;
pub mod plot;
pub mod results;
pub mod rows;
pub mod scenario;
pub mod servers;

use std::path::{Path, PathBuf};

use clap::Args;

use self::page::{OURS, PEER};
use self::results::{Results, ResultsError};
use self::rows::{Profile, Row};
use self::scenario::{RunError, Scenario};
use self::servers::Program;
use crate::figures::Metric;
use crate::progress::Progress;

/// Options of `keelson bench compare`.
#[derive(Args)]
pub struct CompareOptions {
    /// The keelson binary.
    #[arg(long)]
    keelson: PathBuf,
    /// The etcd binary.
    #[arg(long)]
    etcd: PathBuf,
    /// One more server, as `name=path`; words after the path come before etcd's flags. May be given several times.
    #[arg(long, value_parser = Program::parse)]
    also: Vec<Program>,
    /// How much is done.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// Rows, by name, by target (T1 to T20) or by plot, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Runs of each row instead of the profile's; the median counts.
    #[arg(long)]
    runs: Option<usize>,
    /// Cores of the servers (`taskset` syntax); start the command itself pinned to the others.
    #[arg(long)]
    server_cores: Option<String>,
    /// Where the servers keep their data; must be on the disk that is to be measured.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The file of raw figures; what it holds already is kept, and replaced where it is measured again.
    #[arg(long)]
    csv: PathBuf,
}

/// Options of `keelson bench rows`.
#[derive(Args)]
pub struct RowsOptions {
    /// The size that is meant.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
}

/// Options of `keelson bench report`.
#[derive(Args)]
pub struct ReportOptions {
    /// The file of raw figures.
    #[arg(long)]
    csv: PathBuf,
    /// The size that was measured.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// Where the tables go; printed if not given.
    #[arg(long)]
    table: Option<PathBuf>,
    /// The folder of the plots; none are made if not given.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompareError {
    #[error("row {row}, {server}: {source}")]
    Run { row: &'static str, server: String, source: RunError },
    #[error(transparent)]
    Results(#[from] ResultsError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("no row, target or plot is called {0:?}; `keelson bench rows` shows them")]
    NoRow(String),
}

/// Runs the rows asked for and writes their figures down.
///
/// # Errors
/// The first server that does not start or request that fails ends the comparison, except for servers given with
/// `--also`: what they cannot do is left out.
pub async fn run(options: CompareOptions) -> Result<(), CompareError> {
    let rows = chosen(rows::rows(options.profile), &options.rows)?;
    let mut programs = vec![
        Program { name: OURS.into(), binary: options.keelson.clone(), arguments: vec!["store".into()] },
        Program { name: PEER.into(), binary: options.etcd.clone(), arguments: Vec::new() },
    ];
    programs.extend(options.also.iter().cloned());
    let runs = options.runs.unwrap_or(match options.profile {
        Profile::Quick => 1,
        Profile::Full => 5,
    });
    for (number, row) in rows.iter().enumerate() {
        let label = format!("row {} of {}: {}", number + 1, rows.len(), row.id);
        let scenario = calibrated(&options, &programs[1], row).await?;
        for run in 0..runs {
            for program in &programs {
                match one_run(&options, scenario, program, row, &label).await {
                    Ok(figures) => {
                        eprintln!("{} {:8} {}", row.id, program.name, figures.line());
                        results::append(&options.csv, row.id, &program.name, run, &figures)?;
                    }
                    Err(error) if options.also.iter().any(|also| also.name == program.name) => {
                        eprintln!("{} {:8} left out: {error}", row.id, program.name);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

/// The row's scenario; where its rate is a share of etcd's, etcd is asked first.
async fn calibrated(options: &CompareOptions, etcd: &Program, row: &Row) -> Result<Scenario, CompareError> {
    let Some((closed, share)) = row.scenario.calibration() else { return Ok(row.scenario) };
    let label = format!("{}: how much etcd can do", row.id);
    let figures = one_run(options, Scenario::Work(closed), etcd, row, &label).await?;
    // A rate of nothing would never end; the workload has failed by then anyway.
    let rate = figures.get(Metric::OperationsPerS).unwrap_or(0.0).max(1.0) * share;
    eprintln!("{} at {rate:.0} requests/s", row.id);
    Ok(row.scenario.at_rate(rate))
}

async fn one_run(
    options: &CompareOptions,
    scenario: Scenario,
    program: &Program,
    row: &Row,
    label: &str,
) -> Result<crate::figures::Figures, CompareError> {
    let parent = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::Builder::new()
        .prefix("keelson-bench-")
        .tempdir_in(&parent)
        .map_err(|source| CompareError::File { path: parent, source })?;
    let progress = Progress::new(&format!("{label}, {}", program.name));
    let cores = options.server_cores.as_deref();
    let figures = scenario::run(scenario, program, row.nodes, directory.path(), cores, &progress).await;
    progress.clear();
    figures.map_err(|source| CompareError::Run { row: row.id, server: program.name.clone(), source })
}

/// The rows that are meant by these words; all without words.
fn chosen(rows: Vec<Row>, words: &[String]) -> Result<Vec<Row>, CompareError> {
    let meant = |row: &Row, word: &String| {
        row.id == word || row.group == word || row.aims.iter().any(|aim| aim.target == word)
    };
    if let Some(word) = words.iter().find(|word| !rows.iter().any(|row| meant(row, word))) {
        return Err(CompareError::NoRow(word.clone()));
    }
    Ok(rows.into_iter().filter(|row| words.is_empty() || words.iter().any(|word| meant(row, word))).collect())
}

/// The rows, one per line: name, plot, targets, what is done.
pub fn list(options: &RowsOptions) -> String {
    let line = |row: &Row| format!("{:24} {:14} {:4} {}\n", row.id, row.group, row.aims[0].target, row.what);
    rows::rows(options.profile).iter().map(line).collect()
}

/// Makes tables and plots of a file of figures.
///
/// # Errors
/// A file cannot be read or written.
pub fn report(options: &ReportOptions) -> Result<(), CompareError> {
    let results = Results::read(&options.csv)?;
    let rows = rows::rows(options.profile);
    let folder = options.plots.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    let tables = page::tables(&rows, &results, folder.as_deref().unwrap_or("plots"));
    match &options.table {
        Some(path) => write(path, &tables)?,
        None => print!("{tables}"),
    }
    let Some(plots) = &options.plots else { return Ok(()) };
    std::fs::create_dir_all(plots).map_err(|source| CompareError::File { path: plots.clone(), source })?;
    let measured: Vec<&Row> = rows.iter().filter(|row| results.has_row(row.id)).collect();
    for group in measured.chunk_by(|left, right| left.group == right.group) {
        write(&plots.join(format!("{}.svg", group[0].group)), &plot::plot(group, &results))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CompareError> {
    std::fs::write(path, text).map_err(|source| CompareError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_target_or_plot() {
        let ids = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let rows = chosen(rows::rows(Profile::Quick), &words)?;
            Ok::<_, CompareError>(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&["T1"]).expect("a target"), ["put-1"]);
        assert_eq!(ids(&["put-1", "leader"]).expect("names"), ["put-1", "leader-kill", "leader-stop"]);
        assert_eq!(ids(&[]).expect("all").len(), rows::rows(Profile::Quick).len());
        assert!(matches!(ids(&["put-1", "T99"]), Err(CompareError::NoRow(word)) if word == "T99"));
    }
}
