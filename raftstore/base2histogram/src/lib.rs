//! A histogram with one bucket per power of two, under the name of a dependency of openraft.
//!
//! Why: openraft counts the sizes of its append requests in a histogram that nobody can read unless its feature
//! `runtime-stats` is on. The crate it uses for that fills 27 MB of tables, for sixteen resolutions, at the first use of
//! any: four fifths of the heap of a fresh member. This one is 520 bytes, and has the calls that openraft needs to
//! compile. `[patch.crates-io]` in the root manifest puts it in place; delete both once the original builds only
//! the table it is asked for.

use std::fmt;
use std::marker::PhantomData;

/// Counts of values by their number of significant bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Entry `n`: values `v` with `2^(n-1) <= v < 2^n`; entry 0: zeros.
    counts: [u64; 65],
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Nothing counted.
    pub fn new() -> Self {
        Histogram { counts: [0; 65], data: PhantomData }
    }

    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `times` times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += times;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.at_most(1),
            p1: self.at_most(10),
            p5: self.at_most(50),
            p10: self.at_most(100),
            p50: self.at_most(500),
            p90: self.at_most(900),
            p99: self.at_most(990),
            p99_9: self.at_most(999),
        }
    }

    /// The largest value of the bucket that `permille` of the values do not exceed; 0 if there are none.
    fn at_most(&self, permille: u64) -> u64 {
        let rank = u128::from(self.total()) * u128::from(permille);
        let mut seen = 0;
        for (bits, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += u128::from(*count) * 1000;
            if seen >= rank {
                return u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0);
            }
        }
        0
    }
}

/// Number of values and upper bounds of percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} p50={} p90={} p99={}", self.samples, self.p50, self.p90, self.p99)
    }
}

/// Several histograms, one line of percentiles each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// No lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[allow(clippy::should_implement_trait)]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_bucket() {
        let mut histogram = Histogram::<()>::new();
        for value in [0, 1, 2, 3, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.total(), 5);
        let counts = [0, 1, 2, 64].map(|bits: usize| histogram.counts[bits]);
        assert_eq!(counts, [1, 1, 2, 1]);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.p0_1, stats.p50, stats.p99), (0, 3, u64::MAX));
        assert_eq!(Histogram::<()>::new().percentile_stats(), PercentileStats::default());
    }
}
