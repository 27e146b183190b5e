//! One run: a seed in, a report out.
//!
//! Owns: the order of a run, and the catching of panics wherever they happen. Called by: the campaign and the tests.
//! Invariant: two runs of one seed and one bug give the same report, byte by byte.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use keelson_checker::Summary;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::client::Client;
use crate::member::set_torn_tail_accepted;
use crate::nemesis::Nemesis;
use crate::plan::Plan;
use crate::planted::Bug;
use crate::verdict;
use crate::watcher::Watcher;
use crate::world::World;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Broken promises; none = the run is fine.
    pub failures: Vec<String>,
    /// What happened, with the simulated time.
    pub trace: Vec<String>,
    /// Every step of the runtime, if it was asked for.
    pub steps: Vec<String>,
    /// Counts of the checker.
    pub summary: Summary,
    /// Snapshots that were installed.
    pub snapshots: u64,
}

thread_local! {
    /// Panics of the run of this thread, if there is one.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Panics inside of a run are part of its report, wherever they are caught on their way.
fn collect_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let collected = PANICS.with(|panics| {
                panics.borrow_mut().as_mut().map(|panics| panics.push(format!("panic: {info}")))
            });
            if collected.is_none() {
                before(info);
            }
        }));
    });
}

/// Runs `seed`, with `bug` on every member. `steps`: records every step of the runtime as well.
pub fn run(seed: u64, bug: Option<Bug>, steps: bool) -> Report {
    collect_panics();
    set_torn_tail_accepted(bug);
    PANICS.with(|panics| *panics.borrow_mut() = Some(Vec::new()));
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.record_trace(steps);
    let world = RefCell::new(None);
    let finished = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let new = World::new(Plan::new(seed), bug);
            *world.borrow_mut() = Some(new.clone());
            live(&new).await
        })
    }));
    let mut report = Report { seed, steps: runtime.take_trace(), ..Report::default() };
    drop(runtime);
    if let Some(world) = world.into_inner() {
        report.trace = world.take_trace();
        report.failures = world.failures();
        report.snapshots = *world.snapshots.lock();
    }
    if let Ok(summary) = finished {
        report.summary = summary;
    }
    let panics = PANICS.with(|panics| panics.borrow_mut().take()).unwrap_or_default();
    report.failures.extend(panics);
    report
}

async fn live(world: &Arc<World>) -> Summary {
    world.trace(format_args!("{:?}", world.plan));
    world.network.set_delay_max(Duration::from_micros(500));
    let mut nemesis = Nemesis::new(world.clone());
    nemesis.bootstrap().await;
    for number in 0..world.plan.clients {
        drop(SimRuntime::spawn(Client::new(world.clone(), number).run()));
    }
    for number in 0..world.plan.watchers {
        drop(SimRuntime::spawn(Watcher::client(world.clone(), 500 + number).run()));
    }
    SimRuntime::sleep(Duration::from_millis(300)).await;
    nemesis.run().await;
    if !world.failures().is_empty() {
        return Summary::default();
    }
    let Some(last) = verdict::settle(world, &mut nemesis).await else { return Summary::default() };
    for member in world.members() {
        *world.snapshots.lock() += member.node.diagnostics().snapshots_installed;
    }
    verdict::judge(world, last)
}
