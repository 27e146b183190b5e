//! Plots as SVG, written by hand: a crate for it would bring more code than it saves and knows no dark mode.
//!
//! Owns: layout and colours. Called by: `compare::report`.
//! Invariants: readable on light and on dark ground (the viewer's preference is asked for in the style sheet); every bar
//! carries its value as text; nothing is loaded from elsewhere.

use std::fmt::Write as _;

use super::results::{Results, Series};
use super::rows::Row;
use crate::figures::{Better, Metric};

const PANEL_WIDTH: f64 = 230.0;
const PANELS_PER_ROW: usize = 4;
const BAR_HEIGHT: f64 = 16.0;
const BAR_STEP: f64 = 20.0;
const LETTER_WIDTH: f64 = 7.2;
const VALUE_WIDTH: f64 = 62.0;
const TITLE_HEIGHT: f64 = 24.0;
const LABEL_HEIGHT: f64 = 18.0;
const GAP: f64 = 14.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.quiet{fill:#57606a}\
.span{stroke:#24292f;stroke-width:1.5}.s0{fill:#0969da}.s1{fill:#bf8700}.s2{fill:#8250df}.s3{fill:#1a7f37}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.span{stroke:#e6edf3}.s0{fill:#4493f8}\
.s1{fill:#d29922}.s2{fill:#ab7df8}.s3{fill:#3fb950}}";

/// One plot: a line of panels per row, a bar per server in each panel.
pub fn plot(rows: &[&Row], results: &Results) -> String {
    let panel_height = LABEL_HEIGHT + BAR_STEP * results.servers().len() as f64;
    let row_height = TITLE_HEIGHT + panel_height + GAP;
    let width = GAP + (PANEL_WIDTH + GAP) * PANELS_PER_ROW as f64;
    let height = GAP + row_height * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let top = GAP + row_height * index as f64;
        let nodes = if row.nodes == 1 { String::new() } else { format!(", {} nodes", row.nodes) };
        text(&mut svg, GAP, top + 14.0, "title", &format!("{}{nodes}", row.what));
        for (column, metric) in panels(row, results).into_iter().enumerate() {
            let left = GAP + (PANEL_WIDTH + GAP) * column as f64;
            panel(&mut svg, left, top + TITLE_HEIGHT, row, metric, results);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What is drawn of a row: its aims, then what it cost, as far as it was measured.
fn panels(row: &Row, results: &Results) -> Vec<Metric> {
    const COSTS: [Metric; 4] =
        [Metric::LatencyP99, Metric::CpuPerOperation, Metric::DiskPerOperation, Metric::Resident];
    let mut metrics: Vec<Metric> = Vec::new();
    for metric in row.aims.iter().map(|aim| aim.metric).chain(COSTS) {
        let measured =
            results.servers().iter().any(|server| results.series(row.id, server, metric).is_some());
        if measured && !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    metrics.truncate(PANELS_PER_ROW);
    metrics
}

/// Where bars begin, and how long they are.
struct Scale {
    left: f64,
    room: f64,
    longest: f64,
}

impl Scale {
    /// The scale of a panel: names on the left, values behind the bars.
    fn of(left: f64, servers: &[String], longest: f64) -> Self {
        let letters = 1 + servers.iter().map(String::len).max().unwrap_or(0);
        let names = LETTER_WIDTH * letters as f64;
        Scale { left: left + names, room: PANEL_WIDTH - names - VALUE_WIDTH, longest }
    }

    fn length(&self, value: f64) -> f64 {
        if self.longest > 0.0 { (value / self.longest).clamp(0.0, 1.0) * self.room } else { 0.0 }
    }
}

fn panel(svg: &mut String, left: f64, top: f64, row: &Row, metric: Metric, results: &Results) {
    let hint = match metric.better() {
        Better::Higher => "more is better",
        Better::Lower => "less is better",
    };
    text(svg, left, top + 12.0, "quiet", &format!("{} ({hint})", metric.label()));
    let of = |server: &String| results.series(row.id, server, metric);
    let longest = results.servers().iter().filter_map(of).map(|series| series.span().1).fold(0.0, f64::max);
    let scale = Scale::of(left, results.servers(), longest);
    for (index, server) in results.servers().iter().enumerate() {
        let y = top + LABEL_HEIGHT + BAR_STEP * index as f64;
        text(svg, left, y + 12.0, "", server);
        match of(server) {
            Some(series) => bar(svg, &scale, y, index, metric, &series),
            None => text(svg, scale.left, y + 12.0, "quiet", "not measured"),
        }
    }
}

fn bar(svg: &mut String, scale: &Scale, y: f64, index: usize, metric: Metric, series: &Series) {
    let left = scale.left;
    let (low, high) = series.span();
    // A value too small to be drawn is still a value.
    let width = scale.length(series.median()).max(1.0);
    writeln!(
        svg,
        "<rect class=\"s{}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>",
        index % 4
    )
    .expect("writing to a string");
    if series.values().len() > 1 {
        let (from, to) = (left + scale.length(low), left + scale.length(high));
        let middle = y + BAR_HEIGHT / 2.0;
        writeln!(svg, "<path class=\"span\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>")
            .expect("writing to a string");
    }
    let end = left + width.max(scale.length(high)) + 4.0;
    text(svg, end, y + 12.0, "", &metric.show(series.median()));
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>")
        .expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Profile, rows};
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians_and_carry_them() {
        let figures = "put-1,keelson,0,latency_us_p50,1000\nput-1,keelson,1,latency_us_p50,3000\n\
                       put-1,etcd,0,latency_us_p50,4000\nput-1,etcd,1,latency_us_p50,4000\n";
        let results = Results::parse(figures).expect("figures");
        let rows = rows(Profile::Quick);
        let row = rows.iter().find(|row| row.id == "put-1").expect("the row");
        let svg = plot(&[row], &results);
        let room = Scale::of(0.0, results.servers(), 1.0).room;
        assert!(svg.contains(&format!("width=\"{:.1}\"", room / 2.0)), "{svg}");
        assert!(svg.contains(&format!("width=\"{room:.1}\"")), "{svg}");
        assert!(svg.contains(">2.00</text>") && svg.contains(">4.00</text>"), "{svg}");
        assert_eq!(svg.matches("class=\"span\"").count(), 2, "each server has a span");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn words_cannot_become_markup() {
        let mut svg = String::new();
        text(&mut svg, 0.0, 0.0, "", "a <b> & c");
        assert!(svg.contains("a &lt;b&gt; &amp; c"));
    }
}
