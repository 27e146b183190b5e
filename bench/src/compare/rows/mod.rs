//! What is compared: one row per question, with the target it answers.
//!
//! Owns: the matrix, its two sizes, the floors. Called by: `compare`.
//! Invariants: the same work for every server; a row's name stays, so that figures of different days can be compared.
//! Source of the targets: section 10 of the performance specification; its numbers T1 to T20 stand beside the rows.

mod kv;
mod server;
mod sets;

use std::time::Duration;

use clap::ValueEnum;

use super::scenario::Scenario;
use crate::data::{Data, Shape};
use crate::figures::Metric;
use crate::load::Timing;
use crate::pace::Pace;
use crate::workload::{Kind, Options};

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// About five minutes in all, one run of each row: to see where things stand.
    Quick,
    /// The published figures: five runs of each row, the data of the targets.
    Full,
}

/// A figure of a row that is to reach a ratio to etcd's.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// The number of the target; empty for a figure that is only reported.
    pub target: &'static str,
    /// The figure.
    pub metric: Metric,
    /// Ours divided by etcd's: at least this where more is better, at most this where less is.
    pub floor: Option<f64>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in the raw figures and on the command line.
    pub id: &'static str,
    /// Which plot it is in.
    pub group: &'static str,
    /// What is done, for people.
    pub what: String,
    /// Members.
    pub nodes: usize,
    /// The work.
    pub scenario: Scenario,
    /// What it is to show, the most important first.
    pub aims: Vec<Aim>,
}

/// All rows in a size.
pub fn rows(profile: Profile) -> Vec<Row> {
    let size = Size::of(profile);
    [
        kv::puts(size),
        kv::transactions(size),
        kv::reads(size),
        sets::lists(size),
        sets::watches(size),
        server::storage(size),
        server::lifecycle(size),
    ]
    .concat()
}

/// What the profiles differ in.
#[derive(Clone, Copy)]
struct Size {
    warm_up: Duration,
    duration: Duration,
    settle: Duration,
    list_keys: u64,
    pods: u64,
    many_keys: u64,
    /// Enough that caches of a fixed size are full at half.
    counted_keys: u64,
    churn_keys: u64,
    watchers: usize,
    crowd: usize,
}

impl Size {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Quick => Size {
                warm_up: Duration::from_millis(500),
                duration: Duration::from_millis(1500),
                settle: Duration::from_secs(1),
                list_keys: 30_000,
                pods: 5_000,
                many_keys: 30_000,
                counted_keys: 300_000,
                churn_keys: 2_000,
                watchers: 5_000,
                crowd: 200,
            },
            Profile::Full => Size {
                warm_up: Duration::from_secs(1),
                duration: Duration::from_secs(5),
                settle: Duration::from_secs(5),
                list_keys: 300_000,
                pods: 150_000,
                many_keys: 300_000,
                counted_keys: 600_000,
                churn_keys: 20_000,
                watchers: 20_000,
                crowd: 1_000,
            },
        }
    }

    fn work(self, kind: Kind, clients: usize) -> Options {
        Options {
            kind,
            connections: clients.div_ceil(10),
            clients,
            timing: Timing { pace: Pace::Closed, warm_up: self.warm_up, duration: self.duration },
            shape: PATTERN,
            fill: true,
            read_share: 0.8,
            page_keys: 500,
            streams: 1,
            watchers: 1,
            versions: 10,
            settle: self.settle,
        }
    }
}

const PATTERN: Shape =
    Shape { data: Data::Pattern, key_bytes: 32, value_bytes: 256, key_space: 10_000, seed: 1 };

fn kubernetes(data: Data, key_space: u64) -> Shape {
    Shape { data, key_space, value_bytes: 2_500, ..PATTERN }
}

fn row(
    id: &'static str,
    group: &'static str,
    what: impl Into<String>,
    nodes: usize,
    scenario: Scenario,
    aims: &[(&'static str, Metric, f64)],
) -> Row {
    let aim = |&(target, metric, floor): &(&'static str, Metric, f64)| Aim {
        target,
        metric,
        floor: (floor > 0.0).then_some(floor),
    };
    Row { id, group, what: what.into(), nodes, scenario, aims: aims.iter().map(aim).collect() }
}

/// The least that is asked where no target says more.
const AHEAD: f64 = 1.0;
/// In place of a floor where there is none.
const REPORTED: f64 = 0.0;
/// Server CPU time per request that the throughput targets come with.
const CPU: f64 = 0.6;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn both_profiles_have_the_same_rows_and_names_are_unique() {
        let ids = |profile| rows(profile).iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(Profile::Quick), ids(Profile::Full));
        assert_eq!(ids(Profile::Full).iter().collect::<BTreeSet<_>>().len(), ids(Profile::Full).len());
    }

    #[test]
    fn every_target_of_the_store_has_a_row_with_a_floor() {
        let rows = rows(Profile::Full);
        for number in 1..=20 {
            let target = format!("T{number}");
            let found =
                rows.iter().flat_map(|row| &row.aims).any(|aim| aim.target == target && aim.floor.is_some());
            assert!(found, "{target} has no row");
        }
        assert!(rows.iter().all(|row| !row.aims.is_empty()));
    }
}
