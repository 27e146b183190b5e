//! The same members under openraft's deterministic runtime: one seed is one run. Runs of random faults are `tests/sim`.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use keelson_mvcc::{Store, StoreOptions};
use keelson_raftstore::Begin;
use keelson_wal::disk::Crash;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

/// Writes through all members with delays, a cut and two crashes; gives the trace of the run.
fn run(seed: u64) -> Vec<String> {
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.record_trace(true);
    runtime.block_on(async {
        let mut cluster = Cluster::<SimRuntime>::started(3).await;
        cluster.network.set_delay_max(Duration::from_millis(3));
        let first = cluster.leader().await;
        for n in 0..60u64 {
            cluster.put(1 + n % 3, &format!("k{n}"), "v").await.expect("applied");
        }
        cluster.crash(first, Crash::LoseAll);
        let second = cluster.leader().await;
        for n in 60..90 {
            cluster.put(second, &format!("k{n}"), "v").await.expect("applied");
        }
        cluster.start(first, Begin::Join).await.expect("starts again");
        cluster.network.isolate(second, 1..=3);
        let others: Vec<_> = (1..=3).filter(|id| *id != second).collect();
        let third = cluster
            .wait("a third leader", || {
                cluster.node(others[0]).status().leader.filter(|leader| *leader != second)
            })
            .await;
        cluster.put(third, "cut", "v").await.expect("applied");
        cluster.network.heal();
        for id in 1..=3 {
            cluster.node(id).read_index(TIMEOUT).await.expect("confirmed");
            for n in 0..90 {
                assert_eq!(cluster.get(id, &format!("k{n}")).expect("not lost"), "v");
            }
            assert_eq!(cluster.get(id, "cut").expect("not lost"), "v");
        }
        let digests: Vec<_> = (1..=3).map(|id| cluster.node(id).reader().view().digest()).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "members diverged: {digests:?}");
    });
    runtime.take_trace()
}

#[test]
fn one_seed_gives_one_run() {
    let (first, second) = (run(11), run(11));
    if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
        panic!("the runs part at event {at} of {}: {:?}, {:?}", first.len(), first[at], second[at]);
    }
    assert_eq!(first.len(), second.len());
    assert_ne!(first, run(12), "another seed is another run");
}

#[test]
fn many_seeds_keep_the_promises() {
    for seed in 100..116 {
        run(seed);
    }
}

/// Found by a run of faults: a member stopped while a group waited for its slow disk, and applied it to the
/// engine after its successor had started on that.
#[test]
fn a_member_that_has_stopped_leaves_the_store_alone() {
    let mut runtime = SimRuntime::with_seed(5);
    runtime.block_on(async {
        let mut cluster = Cluster::<SimRuntime>::started(3).await;
        for sync_us in [20_000, 40_000, 60_000, 80_000] {
            let leader = cluster.leader().await;
            let slow = 1 + leader % 3;
            cluster.put(slow, "before", "v").await.expect("applied");
            cluster.machines[&slow].sync_us.store(sync_us, Ordering::Relaxed);
            let node = cluster.node(leader).clone();
            let puts = SimRuntime::spawn(async move {
                for _ in 0..200 {
                    put(&node, "during", Bytes::from_static(b"v")).await.expect("applied");
                }
            });
            SimRuntime::sleep(Duration::from_millis(30)).await;
            cluster.stop(slow).await;
            let engine = cluster.machines[&slow].engine.clone();
            let applied = || Store::open(engine.clone(), StoreOptions::default()).expect("opens").applied();
            let at_stop = applied();
            SimRuntime::sleep(Duration::from_secs(1)).await;
            assert_eq!(applied(), at_stop);
            puts.await.expect("two of three go on");
            cluster.machines[&slow].sync_us.store(200, Ordering::Relaxed);
            cluster.start(slow, Begin::Join).await.expect("starts again");
        }
    });
}
