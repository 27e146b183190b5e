//! Processes die, freeze and stop under load; no acknowledged write may be lost, no read may be stale, no watch may skip.
//!
//! `cargo test -p keelson-tests --test crash`. Longer runs:
//! `KEELSON_CRASH_CYCLES=1000 KEELSON_CRASH_CLUSTER_CYCLES=1000 KEELSON_CRASH_FREEZE_CYCLES=500 KEELSON_CRASH_SEED=7
//! KEELSON_TEST_DIR=/somewhere/on/a/disk cargo test --release -p keelson-tests --test crash`.
//! The data directories must be on a real file system: tmpfs hides lost syncs. One seed repeats the choices, not the timing.

use std::sync::Arc;
use std::time::Duration;

use keelson_checker::{Rules, Verdict};
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::crash::load::Worker;
use keelson_tests::crash::nemesis::{Disturbance, Done, torment};
use keelson_tests::crash::recorder::Recorder;
use keelson_tests::crash::verify::verify;
use keelson_tests::crash::watchers::Watcher;
use keelson_tests::environment::number;
use keelson_tests::random::Random;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Clients per member and watchers per member.
const WORKERS: usize = 3;
const WATCHERS: usize = 1;

/// One run at a time: each uses the whole small machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// Real etcd restarts in about a second and serves to test the test: it gets few cycles unless told otherwise.
fn cycles(name: &str, keelson: usize, etcd: usize) -> usize {
    number(name, if Kind::subject() == Kind::Keelson { keelson } else { etcd })
}

async fn run(size: usize, choices: &[Disturbance], cycles: usize) {
    let kind = Kind::subject();
    if kind.require().is_none() {
        return;
    }
    let _machine = MACHINE.lock().await;
    let seed: u64 = number("KEELSON_CRASH_SEED", 1);
    let mut options =
        Options::new(kind, size).flag("--watch-progress-notify-interval=200ms").flag("--log-level=warn");
    (options.heartbeat_ms, options.election_ms) = (30, 300);
    let mut cluster = Cluster::start(options).await.expect("the cluster starts");
    let recorder = Arc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for number in 0..(WORKERS * size.min(2)) as u32 {
        let member = number as usize % size;
        let url = cluster.member(member).client_url();
        tasks.spawn(Worker::new(&url, member as u32, number, seed, recorder.clone()).run());
    }
    for number in 0..(WATCHERS * size) as u32 {
        let member = number as usize % size;
        let url = cluster.member(member).client_url();
        tasks.spawn(Watcher::new(url, member as u32, 100 + number, recorder.clone()).run());
    }
    let mut random = Random::new(seed);
    let done = torment(&mut cluster, &recorder, &mut random, choices, cycles).await;
    recorder.stop();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client panics");
    }
    // Keelson promises it; etcd may show an older state to serializable reads right after a restart.
    let rules = Rules { member_revision_monotone: kind == Kind::Keelson };
    let verdict = verify(&cluster, &recorder, rules).await;
    report(choices, &done, &verdict);
    let summary = &verdict.summary;
    assert_eq!(done.cycles, cycles);
    assert!(summary.acknowledged >= 30 * cycles, "too little was acknowledged: {summary:?}");
    assert!(summary.watch_events >= summary.revisions, "too little was watched: {summary:?}");
}

fn report(choices: &[Disturbance], done: &Done, verdict: &Verdict) {
    let mut outages = done.outages.clone();
    outages.sort_unstable();
    let at =
        |share: f64| outages.get((outages.len() as f64 * share) as usize).copied().unwrap_or(Duration::ZERO);
    println!(
        "{choices:?}: {} cycles, back to full service p50 {:.0?} max {:.0?}; {:?}",
        done.cycles,
        at(0.5),
        outages.last().copied().unwrap_or_default(),
        verdict.summary
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_killed_under_load_loses_nothing() {
    run(1, &[Disturbance::KillOne], cycles("KEELSON_CRASH_CYCLES", 200, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_killed_under_load_lose_nothing() {
    let choices = [Disturbance::KillOne, Disturbance::KillLeader, Disturbance::KillAll];
    run(3, &choices, cycles("KEELSON_CRASH_CLUSTER_CYCLES", 50, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_answers_no_stale_read_when_it_goes_on() {
    run(3, &[Disturbance::FreezeLeader], cycles("KEELSON_CRASH_FREEZE_CYCLES", 15, 4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_stopped_in_an_orderly_way_lose_nothing() {
    run(3, &[Disturbance::Terminate], cycles("KEELSON_CRASH_TERM_CYCLES", 15, 4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_stopped_in_an_orderly_way_loses_nothing() {
    run(1, &[Disturbance::Terminate], cycles("KEELSON_CRASH_TERM_CYCLES", 15, 4)).await;
}
