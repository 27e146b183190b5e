//! The set of metric families and their text.
//!
//! Owns: [`Registry`]. Invariants: names are unique (a second registration panics at start, not at scrape time);
//! families are written in the order of their names, as Go does. Called by: the catalogues; [`crate::edge::http`].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::instruments::{Counter, Gauge, Histogram, Labeled};
use super::text::{FamilyWriter, Kind};

/// A family that writes its own samples.
pub trait Family: Send + Sync {
    /// Counter, gauge or histogram.
    fn kind(&self) -> Kind;
    /// Writes the current samples.
    fn write(&self, out: &mut FamilyWriter<'_>);
}

struct Entry {
    help: &'static str,
    family: Box<dyn Family>,
}

/// Metric families by name.
#[derive(Default)]
pub struct Registry {
    families: RwLock<BTreeMap<&'static str, Entry>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("families", &self.families.read().len()).finish()
    }
}

macro_rules! instrument {
    ($type:ident, $kind:expr, $method:ident, $labeled:ident, ($($argument:ident: $argument_type:ty),*), $make:expr) => {
        impl Family for Arc<$type> {
            fn kind(&self) -> Kind {
                $kind
            }
            fn write(&self, out: &mut FamilyWriter<'_>) {
                Write::write(&**self, out, &[]);
            }
        }
        impl Family for Arc<Labeled<$type>> {
            fn kind(&self) -> Kind {
                $kind
            }
            fn write(&self, out: &mut FamilyWriter<'_>) {
                self.each(|labels, member| Write::write(member, out, labels));
            }
        }
        impl Registry {
            /// Registers an instrument without labels.
            ///
            /// # Panics
            /// If the name is taken.
            pub fn $method(&self, name: &'static str, help: &'static str $(, $argument: $argument_type)*) -> Arc<$type> {
                let instrument = Arc::new($make);
                self.register(name, help, Arc::clone(&instrument));
                instrument
            }

            /// Registers a set of instruments told apart by `labels`, which must be sorted.
            ///
            /// # Panics
            /// If the name is taken or the labels are not sorted.
            pub fn $labeled(
                &self,
                name: &'static str,
                help: &'static str,
                labels: &'static [&'static str]
                $(, $argument: $argument_type)*
            ) -> Arc<Labeled<$type>> {
                let set = Arc::new(Labeled::new(labels, move || { $(let $argument = $argument.clone();)* $make }));
                self.register(name, help, Arc::clone(&set));
                set
            }
        }
    };
}

/// Writes one instrument's samples.
trait Write {
    fn write(&self, out: &mut FamilyWriter<'_>, labels: &[super::text::Label<'_>]);
}

impl Write for Counter {
    fn write(&self, out: &mut FamilyWriter<'_>, labels: &[super::text::Label<'_>]) {
        out.sample(labels, self.value());
    }
}

impl Write for Gauge {
    fn write(&self, out: &mut FamilyWriter<'_>, labels: &[super::text::Label<'_>]) {
        out.sample(labels, self.value());
    }
}

impl Write for Histogram {
    fn write(&self, out: &mut FamilyWriter<'_>, labels: &[super::text::Label<'_>]) {
        Histogram::write(self, out, labels);
    }
}

instrument!(Counter, Kind::Counter, counter, counters, (), Counter::default());
instrument!(Gauge, Kind::Gauge, gauge, gauges, (), Gauge::default());
instrument!(Histogram, Kind::Histogram, histogram, histograms, (bounds: Box<[f64]>), Histogram::new(bounds));

impl Registry {
    /// Registers a family of one's own.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn register(&self, name: &'static str, help: &'static str, family: impl Family + 'static) {
        let before = self.families.write().insert(name, Entry { help, family: Box::new(family) });
        assert!(before.is_none(), "metric {name} is registered twice");
    }

    /// The whole text, as served on `/metrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(128 << 10);
        for (name, entry) in self.families.read().iter() {
            entry.family.write(&mut FamilyWriter::new(&mut out, name, entry.help, entry.family.kind()));
        }
        out
    }
}
