//! The raw figures of a comparison: one line per figure of each run.
//!
//! Owns: the CSV file, medians and spreads. Called by: `compare`, `compare::page`, `compare::plot`.
//! Invariants: what is shown is computed from the file alone, so that a page can be made again; a line that is added
//! later for the same row, server and run counts instead of the earlier one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::figures::{Figures, Metric};

const HEADER: &str = "row,server,run,metric,value";

/// What is wrong with a file of figures.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ResultsError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("line {line} is not `{HEADER}`: {text:?}")]
    Line { line: usize, text: String },
}

/// Values of one figure of one row and server, one per run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// The middle value; of an even number the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        }
    }

    /// The lowest and the highest value.
    pub fn span(&self) -> (f64, f64) {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (low, self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// All values, by run.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

/// All figures of a comparison.
#[derive(Debug, Default)]
pub struct Results {
    values: BTreeMap<(String, String, Metric), BTreeMap<usize, f64>>,
    servers: Vec<String>,
}

impl Results {
    /// The values of a figure; `None` if it was never measured.
    pub fn series(&self, row: &str, server: &str, metric: Metric) -> Option<Series> {
        let runs = self.values.get(&(row.to_owned(), server.to_owned(), metric))?;
        Some(Series(runs.values().copied().collect()))
    }

    /// The servers, in the order in which they were measured first.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Whether a row was measured at all.
    pub fn has_row(&self, row: &str) -> bool {
        self.values.keys().any(|(id, _, _)| id == row)
    }

    /// The largest number of runs of any row.
    pub fn runs(&self) -> usize {
        self.values.values().map(BTreeMap::len).max().unwrap_or(0)
    }

    /// Reads the text of a file of figures. Figures that this program does not know are left out.
    ///
    /// # Errors
    /// A line has another form.
    pub fn parse(text: &str) -> Result<Self, ResultsError> {
        let mut results = Results::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| *line != HEADER) {
            let wrong = || ResultsError::Line { line: index + 1, text: line.to_owned() };
            let [row, server, run, metric, value] =
                <[&str; 5]>::try_from(line.split(',').collect::<Vec<_>>()).map_err(|_| wrong())?;
            let run = run.parse().map_err(|_| wrong())?;
            let value = value.parse().map_err(|_| wrong())?;
            if let Some(metric) = Metric::by_name(metric) {
                results.add(row, server, run, metric, value);
            }
        }
        Ok(results)
    }

    fn add(&mut self, row: &str, server: &str, run: usize, metric: Metric, value: f64) {
        if !self.servers.iter().any(|known| known == server) {
            self.servers.push(server.to_owned());
        }
        let runs = self.values.entry((row.to_owned(), server.to_owned(), metric)).or_default();
        runs.insert(run, value);
    }

    /// Reads a file of figures.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ResultsError::File { path: path.to_owned(), source })?;
        Results::parse(&text)
    }
}

/// Adds the figures of one run to the file.
///
/// # Errors
/// It cannot be written.
pub fn append(
    path: &Path,
    row: &str,
    server: &str,
    run: usize,
    figures: &Figures,
) -> Result<(), ResultsError> {
    let failed = |source| ResultsError::File { path: path.to_owned(), source };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let mut text = String::new();
    if file.metadata().map_err(failed)?.len() == 0 {
        text.push_str(HEADER);
        text.push('\n');
    }
    for (metric, value) in figures.iter() {
        text.push_str(&format!("{row},{server},{run},{},{value}\n", metric.name()));
    }
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_later_run_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("figures.csv");
        let mut figures = Figures::default();
        for (run, value) in [(0, 10.0), (1, 30.0), (2, 20.0), (2, 25.0)] {
            figures.set(Metric::OperationsPerS, value);
            append(&path, "put-1", "etcd", run, &figures).expect("written");
        }
        let results = Results::read(&path).expect("read");
        let series = results.series("put-1", "etcd", Metric::OperationsPerS).expect("measured");
        assert_eq!(series.values(), [10.0, 30.0, 25.0]);
        assert_eq!((series.median(), series.span()), (25.0, (10.0, 30.0)));
        assert_eq!(results.servers(), ["etcd"]);
        assert!(results.series("put-1", "etcd", Metric::LatencyP50).is_none());
    }

    #[test]
    fn the_median_of_two_runs_is_their_mean() {
        assert_eq!(Series(vec![1.0, 4.0]).median(), 2.5);
        assert!(Series::default().median().is_nan());
    }

    #[test]
    fn other_lines_are_refused() {
        assert!(matches!(Results::parse("row,server\n"), Err(ResultsError::Line { line: 1, .. })));
        assert!(Results::parse("put-1,etcd,x,operations_per_s,1\n").is_err());
    }
}
