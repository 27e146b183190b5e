//! What a server takes before anybody asks it anything: memory, and the time to its first answer.
//!
//! Owns: those three figures and their table. Called by: `compare`.
//! Invariants: a node is looked at [`SETTLE`] after its first answer, untouched meanwhile; a restart follows a SIGKILL.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::peer::{Peers, Program, StartError};
use crate::usage::Usage;

const SETTLE: Duration = Duration::from_secs(3);

/// One run.
pub struct Idle {
    start: Duration,
    restart: Duration,
    resident_bytes: u64,
}

/// Starts a node below `directory`, looks at it, kills it and starts it again.
///
/// # Errors
/// The node does not start.
pub async fn measure(program: &Program, directory: &Path, cores: Option<&str>) -> Result<Idle, StartError> {
    let mut peers = Peers::start(program, 1, directory, cores).await?;
    let start = peers.ready_after;
    let clock = Clock::start();
    clock.sleep_until(SETTLE).await;
    let resident_bytes = Usage::sum(&peers.pids()).resident_bytes;
    peers.restart().await?;
    Ok(Idle { start, restart: peers.ready_after, resident_bytes })
}

/// Medians of both servers.
pub fn table(runs: [&[Idle]; 2]) -> String {
    let mut text = String::from(
        "| one node, nothing stored | keelson | etcd | ratio |\n\
         |---|---|---|---|\n",
    );
    let mut line = |name: &str, value: fn(&Idle) -> f64| {
        let [ours, theirs] = runs.map(|runs| median(runs.iter().map(value).collect()));
        writeln!(text, "| {name} | {ours:.0} | {theirs:.0} | **{:.2}** |", ours / theirs)
            .expect("writing to a string");
    };
    line("first start to first linearizable read, ms", |idle| idle.start.as_secs_f64() * 1e3);
    line("restart after SIGKILL to first linearizable read, ms", |idle| idle.restart.as_secs_f64() * 1e3);
    line("resident memory after 3 s, MiB", |idle| idle.resident_bytes as f64 / f64::from(1 << 20));
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_medians_and_ratios() {
        let run = |ms, mib: u64| Idle {
            start: Duration::from_millis(ms),
            restart: Duration::from_millis(2 * ms),
            resident_bytes: mib << 20,
        };
        let table = table([&[run(10, 20), run(900, 30), run(50, 40)], &[run(100, 60)]]);
        assert!(table.contains("first linearizable read, ms | 50 | 100 | **0.50** |"), "{table}");
        assert!(table.contains("MiB | 30 | 60 | **0.50** |"), "{table}");
    }
}
