//! Many runs at once, one per thread.
//!
//! Owns: the choice of seeds and the text of a failure. Called by: the tests. Variables:
//! - `KEELSON_SIM_SEEDS`: `17` or `0..20000`, instead of the seeds of a test run;
//! - `KEELSON_SIM_BUG`: the name of a planted bug, which all members then have;
//! - `KEELSON_SIM_TRACE`: set to anything: prints what happened in each run.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::planted::Bug;
use crate::run::{Report, run};

/// Lines of a trace that are shown with a failure.
const LINES_SHOWN: usize = 60;

/// The seeds asked for, or `default`.
///
/// # Panics
/// If the variable is not understood.
pub fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("KEELSON_SIM_SEEDS") else { return default };
    let number = |text: &str| text.parse::<u64>().expect("KEELSON_SIM_SEEDS is a number or a range");
    match asked.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&asked)..number(&asked) + 1,
    }
}

/// The planted bug asked for.
///
/// # Panics
/// If there is none of that name.
pub fn bug() -> Option<Bug> {
    let asked = std::env::var("KEELSON_SIM_BUG").ok()?;
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == asked);
    Some(bug.unwrap_or_else(|| panic!("KEELSON_SIM_BUG is one of {:?}", Bug::ALL)))
}

/// Runs all seeds on all processors and hands each report to `done`, in any order. Stops early once `done` is true.
pub fn run_all(seeds: Range<u64>, bug: Option<Bug>, done: impl Fn(&Report) -> bool + Sync) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if done(&run(seed, bug, false)) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// The lowest of `seeds` that finds `bug`, with its report.
pub fn first_that_finds(bug: Bug, seeds: Range<u64>) -> Option<Report> {
    let found = Mutex::new(None::<Report>);
    run_all(seeds, Some(bug), |report| {
        let mut found = found.lock();
        if !report.failures.is_empty() && found.as_ref().is_none_or(|found| report.seed < found.seed) {
            *found = Some(report.clone());
        }
        found.is_some()
    });
    found.into_inner()
}

/// What to print of a run that failed.
pub fn explain(report: &Report) -> String {
    let from = report.trace.len().saturating_sub(LINES_SHOWN);
    let shown = if std::env::var_os("KEELSON_SIM_TRACE").is_some() { 0 } else { from };
    format!(
        "seed {}:\n{}\n  {}\nrepeat it, with everything that happened:\n  KEELSON_SIM_TRACE=1 KEELSON_SIM_SEEDS={} cargo test \
         --manifest-path tests/sim/Cargo.toml --profile checked --test campaign seeds -- --nocapture\n",
        report.seed,
        report.trace[shown..].join("\n"),
        report.failures.join("\n  "),
        report.seed
    )
}
