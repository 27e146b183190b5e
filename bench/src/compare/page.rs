//! The page of a comparison, in Markdown.
//!
//! Owns: the tables and what each cell says. Called by: `compare::report`.
//! Invariants: a cell is the median and, where there were several runs, their span; a ratio is that of the medians, ours
//! by etcd's; whether a target is reached is computed, never written by hand.

use std::fmt::Write as _;

use super::results::{Results, Series};
use super::rows::{Aim, Row};
use crate::figures::{Better, Metric};

/// The server whose figures are ours, and the one they are compared with.
pub const OURS: &str = "keelson";
/// See [`OURS`].
pub const PEER: &str = "etcd";

/// What a ratio says about an aim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Ours by the peer's.
    pub ratio: f64,
    /// Whether the floor is reached; `None` where there is none.
    pub reached: Option<bool>,
}

/// Compares the medians; `None` if one is missing, or says nothing (zero, less than nothing).
pub fn verdict(results: &Results, row: &Row, aim: Aim) -> Option<Verdict> {
    let median = |server| results.series(row.id, server, aim.metric).map(|series| series.median());
    let (ours, peer) = (median(OURS)?, median(PEER)?);
    if ours < 0.0 || peer <= 0.0 {
        return None;
    }
    let ratio = ours / peer;
    let reached = aim.floor.map(|floor| match aim.metric.better() {
        Better::Higher => ratio >= floor,
        Better::Lower => ratio <= floor,
    });
    Some(Verdict { ratio, reached })
}

/// The tables of all rows that were measured; `plots` is the folder of the plots, as seen from the page.
pub fn tables(rows: &[Row], results: &Results, plots: &str) -> String {
    let measured: Vec<&Row> = rows.iter().filter(|row| results.has_row(row.id)).collect();
    let mut text = String::new();
    summary(&mut text, &measured, results);
    targets(&mut text, &measured, results);
    spent(&mut text, &measured, results);
    text.push_str("\n## Plots\n\nBars are medians, lines reach from the lowest to the highest run.\n\n");
    let mut groups: Vec<&str> = measured.iter().map(|row| row.group).collect();
    groups.dedup();
    for group in groups {
        writeln!(text, "![{group}]({plots}/{group}.svg)\n").expect("writing to a string");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn summary(text: &mut String, rows: &[&Row], results: &Results) {
    let verdicts: Vec<(&Row, Aim, Option<Verdict>)> = rows
        .iter()
        .flat_map(|row| row.aims.iter().filter(|aim| aim.floor.is_some()).map(move |&aim| (*row, aim)))
        .map(|(row, aim)| (row, aim, verdict(results, row, aim)))
        .collect();
    let reached = verdicts.iter().filter(|(_, _, verdict)| verdict.is_some_and(|v| v.reached == Some(true)));
    writeln!(text, "{} of {} floors are reached.", reached.count(), verdicts.len())
        .expect("writing to a string");
    let missed: Vec<String> = verdicts
        .iter()
        .filter(|(_, _, verdict)| verdict.is_none_or(|verdict| verdict.reached == Some(false)))
        .map(|(row, aim, _)| format!("{} `{}` ({})", aim.target, row.id, aim.metric.label()))
        .collect();
    if !missed.is_empty() {
        writeln!(text, "Not reached: {}.", missed.join(", ")).expect("writing to a string");
    }
}

fn targets(text: &mut String, rows: &[&Row], results: &Results) {
    text.push_str("\n## Beside the targets\n\n| row | target | work | nodes | figure |");
    for server in results.servers() {
        write!(text, " {server} |").expect("writing to a string");
    }
    text.push_str(" ratio | floor | reached |\n|---|---|---|---|---|");
    text.push_str(&"---|".repeat(results.servers().len() + 3));
    text.push('\n');
    for row in rows {
        for (index, &aim) in row.aims.iter().enumerate() {
            // What a row is, is said once.
            let (id, what, nodes) = match index {
                0 => (format!("`{}`", row.id), row.what.as_str(), row.nodes.to_string()),
                _ => Default::default(),
            };
            write!(text, "| {id} | {} | {what} | {nodes} | {} |", aim.target, aim.metric.label())
                .expect("writing to a string");
            for server in results.servers() {
                write!(text, " {} |", cell(results.series(row.id, server, aim.metric), aim.metric))
                    .expect("writing to a string");
            }
            let verdict = verdict(results, row, aim);
            let ratio = verdict.map_or("-".to_owned(), |verdict| format!("**{}**", ratio(verdict.ratio)));
            let floor = aim.floor.map_or(String::new(), |floor| match aim.metric.better() {
                Better::Higher => format!("at least {floor:.2}"),
                Better::Lower => format!("at most {floor:.2}"),
            });
            let reached = match (aim.floor, verdict.and_then(|verdict| verdict.reached)) {
                (None, _) => "",
                (Some(_), Some(true)) => "yes",
                (Some(_), _) => "**no**",
            };
            writeln!(text, " {ratio} | {floor} | {reached} |").expect("writing to a string");
        }
    }
}

/// What each request cost, for all rows of requests.
fn spent(text: &mut String, rows: &[&Row], results: &Results) {
    const COLUMNS: [Metric; 8] = [
        Metric::OperationsPerS,
        Metric::LatencyP50,
        Metric::LatencyP99,
        Metric::CpuPerOperation,
        Metric::DiskPerOperation,
        Metric::SyncsPerOperation,
        Metric::Resident,
        Metric::PeakExtra,
    ];
    text.push_str("\n## What a request costs\n\nMedians.\n\n| row | server |");
    for metric in COLUMNS {
        write!(text, " {} |", metric.label()).expect("writing to a string");
    }
    writeln!(text, "\n|---|---|{}", "---|".repeat(COLUMNS.len())).expect("writing to a string");
    for row in rows {
        for server in results.servers() {
            if results.series(row.id, server, Metric::LatencyP50).is_none() {
                continue;
            }
            write!(text, "| `{}` | {server} |", row.id).expect("writing to a string");
            for metric in COLUMNS {
                let series = results.series(row.id, server, metric);
                let shown = series.map_or("-".to_owned(), |series| metric.show(series.median()));
                write!(text, " {shown} |").expect("writing to a string");
            }
            text.push('\n');
        }
    }
}

fn cell(series: Option<Series>, metric: Metric) -> String {
    let Some(series) = series else { return "-".to_owned() };
    let median = metric.show(series.median());
    if series.values().len() < 2 {
        return median;
    }
    let (low, high) = series.span();
    format!("{median} ({} to {})", metric.show(low), metric.show(high))
}

fn ratio(ratio: f64) -> String {
    if ratio >= 0.095 { format!("{ratio:.2}") } else { format!("{ratio:.3}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scenario::Scenario;
    use super::*;

    fn row(aims: Vec<Aim>) -> Row {
        let scenario = Scenario::Idle(Duration::ZERO);
        Row { id: "put-1", group: "put", what: "put".into(), nodes: 1, scenario, aims }
    }

    fn results(lines: &[(&str, f64)]) -> Results {
        let text: String = lines.iter().map(|(what, value)| format!("put-1,{what},{value}\n")).collect();
        Results::parse(&text).expect("figures")
    }

    #[test]
    fn a_floor_is_judged_by_the_better_side_of_its_figure() {
        let results = results(&[
            ("keelson,0,operations_per_s", 250.0),
            ("etcd,0,operations_per_s", 100.0),
            ("keelson,0,latency_us_p50", 95.0),
            ("etcd,0,latency_us_p50", 100.0),
            ("keelson,0,events_missing", 0.0),
            ("etcd,0,events_missing", 0.0),
        ]);
        let check = |metric, floor, expected: Option<bool>| {
            let aim = Aim { target: "T1", metric, floor: Some(floor) };
            let verdict = verdict(&results, &row(vec![aim]), aim);
            assert_eq!(verdict.and_then(|verdict| verdict.reached), expected, "{metric:?} {floor}");
        };
        check(Metric::OperationsPerS, 2.5, Some(true));
        check(Metric::OperationsPerS, 2.6, Some(false));
        check(Metric::LatencyP50, 0.95, Some(true));
        check(Metric::LatencyP50, 0.9, Some(false));
        check(Metric::EventsMissing, 0.5, None);
        check(Metric::Resident, 0.5, None);
    }

    #[test]
    fn the_table_gives_medians_spans_ratio_and_verdict() {
        let results = results(&[
            ("keelson,0,operations_per_s", 100.0),
            ("keelson,1,operations_per_s", 900.0),
            ("keelson,2,operations_per_s", 300.0),
            ("etcd,0,operations_per_s", 100.0),
            ("etcd,1,operations_per_s", 200.0),
        ]);
        let aim = Aim { target: "T2", metric: Metric::OperationsPerS, floor: Some(2.5) };
        let text = tables(&[row(vec![aim])], &results, "benchmarks");
        let line = "| `put-1` | T2 | put | 1 | requests/s | 300 (100 to 900) | 150 (100 to 200) | **2.00** | at least 2.50 | **no** |";
        assert!(text.contains(line), "{text}");
        assert!(
            text.starts_with("0 of 1 floors are reached.\nNot reached: T2 `put-1` (requests/s).\n"),
            "{text}"
        );
        assert!(text.contains("![put](benchmarks/put.svg)"), "{text}");
    }
}
