//! Concurrent clients on an undisturbed cluster, judged by the replay checker: what lockstep comparison cannot see.
//!
//! `cargo test -p keelson-tests --test concurrent`. More: `KEELSON_CONCURRENT_OPS` (acknowledged operations per run),
//! `KEELSON_CONCURRENT_SEED`. One seed repeats the choices of each client, not how they meet.

use std::sync::Arc;
use std::time::Duration;

use keelson_checker::Rules;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::crash::load::Worker;
use keelson_tests::crash::recorder::Recorder;
use keelson_tests::crash::verify::verify;
use keelson_tests::crash::watchers::Watcher;
use keelson_tests::environment::number;
use tokio::task::JoinSet;

/// Clients on each member.
const WORKERS: u32 = 8;
const WATCHERS: u32 = 2;
/// Slower than this per thousand operations is stuck.
const WAIT_PER_THOUSAND: Duration = Duration::from_secs(30);

async fn run(size: usize) {
    let kind = Kind::subject();
    if kind.require().is_none() {
        return;
    }
    let (wanted, seed): (u64, u64) =
        (number("KEELSON_CONCURRENT_OPS", 5_000), number("KEELSON_CONCURRENT_SEED", 1));
    let options = Options::new(kind, size).quick().flag("--watch-progress-notify-interval=200ms");
    let cluster = Cluster::start(options.flag("--log-level=error")).await.expect("the cluster starts");
    let recorder = Arc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for member in 0..size as u32 {
        let url = cluster.member(member as usize).client_url();
        for worker in member * WORKERS..(member + 1) * WORKERS {
            tasks.spawn(Worker::new(&url, member, worker, seed, recorder.clone()).run());
        }
        for watcher in member * WATCHERS..(member + 1) * WATCHERS {
            tasks.spawn(Watcher::new(url.clone(), member, 100 + watcher, recorder.clone()).run());
        }
    }
    let begun = clock::now();
    let wait = WAIT_PER_THOUSAND * u32::try_from(wanted.div_ceil(1000)).expect("a number of minutes");
    let done = clock::until(wait, async || {
        let done = recorder.acknowledged();
        if done >= wanted { Ok(()) } else { Err(done) }
    });
    let done = done.await;
    recorder.stop();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client panics");
    }
    let seconds = begun.elapsed().as_secs_f64();
    // Without a restart nobody's revision goes back, etcd's neither.
    let verdict = verify(&cluster, &recorder, Rules { member_revision_monotone: true }).await;
    let summary = &verdict.summary;
    println!("{size} members, seed {seed}, {seconds:.1} s: {summary:?}");
    assert_eq!(done, Ok(()), "too few operations in {wait:?}");
    assert_eq!(summary.unknown, 0, "nothing disturbs the clients");
    assert!(summary.watch_events >= summary.revisions, "too little was watched: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_clients_of_one_member_are_judged_right() {
    run(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_clients_of_three_members_are_judged_right() {
    run(3).await;
}
