//! Counters, gauges, histograms and labelled sets of them.
//!
//! Owns: the instruments; all are shared by `Arc`. Invariants: recording never blocks, allocates or fails; a counter
//! never falls; a labelled set is bounded, so no client can grow it without end.
//! Called by: every component that measures; read by [`super::registry`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;

use super::text::{FamilyWriter, Label};

/// Reads a value at scrape time.
pub type Source = Box<dyn Fn() -> f64 + Send + Sync>;

/// A number that only grows.
#[derive(Default)]
pub struct Counter {
    value: AtomicU64,
    source: OnceLock<Source>,
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes the value from `source` at each scrape, for numbers somebody else counts already. The first call wins.
    pub fn follow(&self, source: impl Fn() -> f64 + Send + Sync + 'static) {
        drop(self.source.set(Box::new(source)));
    }

    /// The value as a scrape sees it.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.source.get() {
            Some(source) => source(),
            None => super::text::to_f64(self.value.load(Ordering::Relaxed)),
        }
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counter({})", self.value())
    }
}

/// A number that goes up and down.
#[derive(Default)]
pub struct Gauge {
    bits: AtomicU64,
    source: OnceLock<Source>,
}

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// 1 for true, 0 for false.
    pub fn set_bool(&self, value: bool) {
        self.set(f64::from(u8::from(value)));
    }

    /// Adds `by`, which may be negative.
    pub fn add(&self, by: f64) {
        let raise = |bits| Some((f64::from_bits(bits) + by).to_bits());
        // Never fails: the function always gives a value.
        self.bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise).ok();
    }

    /// Takes the value from `source` at each scrape. The first call wins.
    pub fn follow(&self, source: impl Fn() -> f64 + Send + Sync + 'static) {
        drop(self.source.set(Box::new(source)));
    }

    /// The value as a scrape sees it.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.source.get() {
            Some(source) => source(),
            None => f64::from_bits(self.bits.load(Ordering::Relaxed)),
        }
    }
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gauge({})", self.value())
    }
}

/// Bucket bounds `start * 2^k` for `k` in `0..count`, as Go's `ExponentialBuckets(start, 2, count)`.
#[must_use]
pub fn doubling(start: f64, count: usize) -> Box<[f64]> {
    std::iter::successors(Some(start), |bound| Some(bound * 2.0)).take(count).collect()
}

/// Counts of observations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: Box<[f64]>,
    /// One more than bounds: the last one is beyond all of them.
    counts: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
}

impl Histogram {
    /// # Panics
    /// If the bounds are not increasing.
    #[must_use]
    pub fn new(bounds: Box<[f64]>) -> Self {
        assert!(bounds.is_sorted_by(|a, b| a < b), "bucket bounds must increase");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum_bits: AtomicU64::new(0f64.to_bits()) }
    }

    /// Records one observation, in the histogram's unit.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let raise = |bits| Some((f64::from_bits(bits) + value).to_bits());
        self.sum_bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise).ok();
    }

    /// Records a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    pub(crate) fn write(&self, family: &mut FamilyWriter<'_>, labels: &[Label<'_>]) {
        Histogram::write_sum(std::iter::once(self), family, labels);
    }

    /// Writes several histograms of the same bounds as one.
    pub(crate) fn write_sum<'a>(
        parts: impl Iterator<Item = &'a Histogram>,
        family: &mut FamilyWriter<'_>,
        labels: &[Label<'_>],
    ) {
        let mut bounds: &[f64] = &[];
        let mut counts: Vec<u64> = Vec::new();
        let mut sum = 0.0;
        for part in parts {
            assert!(
                counts.is_empty() || part.bounds[..] == *bounds,
                "parts of one histogram differ in bounds"
            );
            bounds = &part.bounds;
            counts.resize(part.counts.len(), 0);
            for (total, count) in counts.iter_mut().zip(&part.counts) {
                *total += count.load(Ordering::Relaxed);
            }
            sum += f64::from_bits(part.sum_bits.load(Ordering::Relaxed));
        }
        let mut seen = 0;
        for count in &mut counts {
            seen += *count;
            *count = seen;
        }
        family.histogram(labels, bounds, &counts[..bounds.len()], seen, sum);
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Members of a labelled set, at most; further label values share one member whose labels all say `other`.
const MEMBERS_MAX: usize = 1024;

/// Instruments told apart by labels. Callers keep the `Arc` of a member; looking it up takes a lock.
pub struct Labeled<T> {
    labels: &'static [&'static str],
    make: Box<dyn Fn() -> T + Send + Sync>,
    members: RwLock<BTreeMap<Vec<String>, Arc<T>>>,
}

impl<T> Labeled<T> {
    pub(crate) fn new(labels: &'static [&'static str], make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        assert!(labels.is_sorted(), "label names are written in sorted order");
        Labeled { labels, make: Box::new(make), members: RwLock::default() }
    }

    /// The member with these label values, in the order of the label names (which is alphabetical).
    ///
    /// # Panics
    /// If the number of values is not the number of labels.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        assert_eq!(values.len(), self.labels.len(), "labels are {:?}", self.labels);
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        if let Some(found) = self.members.read().get(&key) {
            return Arc::clone(found);
        }
        let mut members = self.members.write();
        let key = if members.len() >= MEMBERS_MAX && !members.contains_key(&key) {
            vec!["other".to_owned(); self.labels.len()]
        } else {
            key
        };
        Arc::clone(members.entry(key).or_insert_with(|| Arc::new((self.make)())))
    }

    /// Forgets all members, for sets of which only the current member counts (versions, leaders).
    pub fn clear(&self) {
        self.members.write().clear();
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&[Label<'_>], &T)) {
        for (values, member) in self.members.read().iter() {
            let pairs: Vec<_> = self.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            visit(&pairs, member);
        }
    }
}

impl<T> std::fmt::Debug for Labeled<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Labeled").field("labels", &self.labels).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_bounds_are_inclusive() {
        let histogram = Histogram::new(doubling(0.001, 3));
        for value in [0.0, 0.001, 0.0011, 0.004, 0.0041, 100.0] {
            histogram.observe(value);
        }
        let counts: Vec<u64> = histogram.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [2, 1, 1, 2]);
    }

    #[test]
    fn doubling_is_exact_where_go_is() {
        // Go multiplies step by step too, so the printed bounds agree.
        let mut text = String::new();
        for bound in doubling(0.0001, 20) {
            crate::edge::metrics::text::float(&mut text, bound);
            text.push(' ');
        }
        assert_eq!(
            text,
            "0.0001 0.0002 0.0004 0.0008 0.0016 0.0032 0.0064 0.0128 0.0256 0.0512 0.1024 0.2048 0.4096 0.8192 1.6384 \
             3.2768 6.5536 13.1072 26.2144 52.4288 "
        );
    }

    #[test]
    fn labelled_sets_are_bounded() {
        let set = Labeled::new(&["To"], Counter::default);
        for n in 0..MEMBERS_MAX + 100 {
            set.with(&[&n.to_string()]).inc();
        }
        assert_eq!(set.members.read().len(), MEMBERS_MAX + 1);
        assert_eq!(set.with(&["other"]).value(), 100.0);
    }

    #[test]
    fn concurrent_adds_are_not_lost() {
        let (gauge, histogram) = (Gauge::default(), Histogram::new(doubling(1.0, 2)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        gauge.add(1.0);
                        histogram.observe(0.5);
                    }
                });
            }
        });
        assert_eq!(gauge.value(), 40_000.0);
        assert_eq!(
            (histogram.count(), f64::from_bits(histogram.sum_bits.load(Ordering::Relaxed))),
            (40_000, 20_000.0)
        );
    }
}
