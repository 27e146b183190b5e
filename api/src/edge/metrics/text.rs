//! Prometheus' text exposition format 0.0.4, written as Go's client library writes it.
//!
//! Owns: number, label and help escaping; the lines of a family. Invariants: label names come sorted and `le` last;
//! floats look as Go's shortest form does. Called by: [`super::registry`] and the families.
//! Source: Prometheus documentation, exposition formats; a scrape of etcd 3.7.3.

use std::fmt::Write;

/// `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What kind of family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One label: name and value.
pub type Label<'a> = (&'a str, &'a str);

/// Writes one family: the head is written with the first sample, so an empty family leaves no trace.
#[derive(Debug)]
pub struct FamilyWriter<'a> {
    out: &'a mut String,
    name: &'a str,
    help: &'a str,
    kind: Kind,
    started: bool,
}

impl<'a> FamilyWriter<'a> {
    /// A family that has written nothing yet.
    pub fn new(out: &'a mut String, name: &'a str, help: &'a str, kind: Kind) -> Self {
        FamilyWriter { out, name, help, kind, started: false }
    }

    /// A counter's or gauge's sample.
    pub fn sample(&mut self, labels: &[Label<'_>], value: f64) {
        self.start();
        self.line("", labels, None, value);
    }

    /// A histogram's samples. `cumulative[i]` counts observations up to `bounds[i]`.
    pub fn histogram(
        &mut self,
        labels: &[Label<'_>],
        bounds: &[f64],
        cumulative: &[u64],
        count: u64,
        sum: f64,
    ) {
        assert_eq!(bounds.len(), cumulative.len(), "one count per bound");
        self.start();
        for (bound, seen) in bounds.iter().zip(cumulative) {
            self.line("_bucket", labels, Some(*bound), to_f64(*seen));
        }
        self.line("_bucket", labels, Some(f64::INFINITY), to_f64(count));
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, to_f64(count));
    }

    fn start(&mut self) {
        if !self.started {
            self.started = true;
            self.out.push_str("# HELP ");
            self.out.push_str(self.name);
            self.out.push(' ');
            escape(self.out, self.help, false);
            self.out.push_str("\n# TYPE ");
            self.out.push_str(self.name);
            self.out.push(' ');
            self.out.push_str(self.kind.name());
            self.out.push('\n');
        }
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], le: Option<f64>, value: f64) {
        debug_assert!(labels.is_sorted_by_key(|(name, _)| *name), "labels of {} are not sorted", self.name);
        let out = &mut *self.out;
        out.push_str(self.name);
        out.push_str(suffix);
        if !labels.is_empty() || le.is_some() {
            out.push('{');
            for (position, (name, value)) in labels.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(name);
                out.push_str("=\"");
                escape(out, value, true);
                out.push('"');
            }
            if let Some(bound) = le {
                if !labels.is_empty() {
                    out.push(',');
                }
                out.push_str("le=\"");
                float(out, bound);
                out.push('"');
            }
            out.push('}');
        }
        out.push(' ');
        float(out, value);
        out.push('\n');
    }
}

/// Counts beyond 2^53 lose their last digits, as in Go, where every value is a float.
#[allow(clippy::cast_precision_loss)] // see above
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

/// Go's shortest form: plain digits for decimal exponents from -4 to 5, `d.ddde+XX` otherwise.
pub fn float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
        return;
    }
    // `{:e}` gives the shortest digits that read back as the same number, as Go does, in the form d.ddde-5.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("always has an exponent");
    let exponent: i32 = exponent.parse().expect("an integer");
    if (-4..PLAIN_EXPONENT_LIMIT).contains(&exponent) {
        write!(out, "{value}").expect("a string takes everything");
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs()).expect("a string takes everything");
    }
}

/// Decimal exponents from here on are written scientifically, as in `1e+06`.
const PLAIN_EXPONENT_LIMIT: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_like_go() {
        // Pairs taken from scrapes of etcd 3.7.3.
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (17.0, "17"),
            (524_288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (1_000_000.0, "1e+06"),
            (12_053_008_384.0, "1.2053008384e+10"),
            (0.0001, "0.0001"),
            (0.000_056, "5.6e-05"),
            (0.000_300_000_000_000_000_03, "0.00030000000000000003"),
            (52.4288, "52.4288"),
            (-3.5, "-3.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (18_446_744_073_709_552_000.0, "1.8446744073709552e+19"),
        ] {
            let mut out = String::new();
            float(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn families_labels_and_escapes() {
        let mut out = String::new();
        let mut family = FamilyWriter::new(&mut out, "x_total", "counts \\ and\nlines", Kind::Counter);
        family.sample(&[("a", "q\"b\\c\nd"), ("b", "2")], 3.0);
        family.sample(&[], 4.0);
        let mut family = FamilyWriter::new(&mut out, "h", "hist", Kind::Histogram);
        family.histogram(&[("op", "put")], &[0.001, 0.002], &[1, 3], 4, 0.5);
        FamilyWriter::new(&mut out, "empty", "nothing", Kind::Gauge);
        assert_eq!(
            out,
            "# HELP x_total counts \\\\ and\\nlines\n# TYPE x_total counter\n\
             x_total{a=\"q\\\"b\\\\c\\nd\",b=\"2\"} 3\nx_total 4\n\
             # HELP h hist\n# TYPE h histogram\n\
             h_bucket{op=\"put\",le=\"0.001\"} 1\nh_bucket{op=\"put\",le=\"0.002\"} 3\n\
             h_bucket{op=\"put\",le=\"+Inf\"} 4\nh_sum{op=\"put\"} 0.5\nh_count{op=\"put\"} 4\n"
        );
    }
}
