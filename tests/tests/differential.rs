//! The server under test beside real etcd: random operations in lockstep, every answer compared.
//!
//! `cargo test -p keelson-tests --test differential`. More: `KEELSON_DIFF_OPS` (operations in all), `KEELSON_DIFF_SEED` (first
//! seed), `KEELSON_DIFF_EPISODE` (operations on one pair of servers), `KEELSON_DIFF_PAIRS` (pairs at a time).
//! A failure prints its seed, the reduced operations and both answers; repeat it with
//! `KEELSON_DIFF_SEED=<seed> KEELSON_DIFF_OPS=1`.

use keelson_tests::clock;
use keelson_tests::cluster::Kind;
use keelson_tests::differential::generate::{Profile, TXN_OPS_MAX, generate};
use keelson_tests::differential::run::{Sides, Tally, run};
use keelson_tests::differential::shrink::shrink;
use keelson_tests::environment::{number, switch};
use keelson_tests::missing::{Feature, listed};
use keelson_tests::peers::Program;
use tokio::task::JoinSet;

async fn episode(sides: Sides, profile: Profile, seed: u64, count: usize) -> Result<Tally, String> {
    let ops = generate(seed, profile, count);
    match run(&sides, &ops).await {
        Ok(Ok(tally)) => Ok(tally),
        Err(error) => Err(format!("seed {seed}: {error}")),
        Ok(Err(difference)) => {
            eprintln!("seed {seed}, {profile:?}, before reduction: {difference}");
            let (ops, difference) = shrink(&sides, &ops, *difference).await;
            let steps: String = ops.iter().map(|op| format!("  {op:?}\n")).collect();
            Err(format!("seed {seed}, {profile:?}, {} operations suffice:\n{steps}{difference}", ops.len()))
        }
    }
}

async fn compare(profile: Profile, size: usize, total: usize, first_seed: u64) -> Option<Tally> {
    let sides = Sides::subject(size)?;
    let per_episode = number("KEELSON_DIFF_EPISODE", 5_000usize).min(total);
    let pairs = number("KEELSON_DIFF_PAIRS", 3usize);
    let start = clock::now();
    let mut seeds = first_seed..first_seed + total.div_ceil(per_episode) as u64;
    let mut running = JoinSet::new();
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    loop {
        while running.len() < pairs
            && failures.is_empty()
            && let Some(seed) = seeds.next()
        {
            running.spawn(episode(sides.clone(), profile, seed, per_episode));
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(run))) => tally.merge(run),
            Some(Ok(Err(failure))) => failures.push(failure),
            Some(Err(panic)) => failures.push(panic.to_string()),
        }
    }
    assert!(failures.is_empty(), "{:?} beside {:?}: {}", sides.left, sides.right, failures.join("\n"));
    let seconds = start.elapsed().as_secs_f64();
    let done: usize = tally.answers.values().sum();
    println!(
        "{profile:?}: {done} operations and {} watch events equal in {seconds:.1} s, {:.0}/s",
        tally.events,
        done as f64 / seconds
    );
    if switch("KEELSON_DIFF_TALLY") {
        tally.answers.iter().for_each(|(kind, count)| println!("{count:>8} {kind}"));
    }
    assert!(done >= total, "only {done} of {total} operations ran");
    Some(tally)
}

/// The answers of some kind were compared at least this often per ten thousand operations.
fn exercised(tally: &Tally, wanted: &[(&str, usize)]) {
    let total: usize = tally.answers.values().sum();
    for (kind, per_ten_thousand) in wanted {
        let count: usize =
            tally.answers.iter().filter(|(name, _)| name.contains(kind)).map(|(_, count)| count).sum();
        assert!(count * 10_000 >= per_ten_thousand * total, "{kind}: only {count} of {total} answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_get_equal_answers() {
    let run =
        compare(Profile::Store, 1, number("KEELSON_DIFF_OPS", 100_000), number("KEELSON_DIFF_SEED", 1)).await;
    let Some(tally) = run else { return };
    let wanted = [
        ("Put", 1000),
        ("Delete", 300),
        ("Range", 1000),
        ("Txn", 300),
        ("Compact", 20),
        ("Watch", 50),
        ("has been compacted", 50),
        ("future revision", 50),
        ("duplicate key", 50),
        ("too many operations", 5),
        ("too large", 5),
        ("lease not found", 20),
        ("HashKv", 20),
    ];
    exercised(&tally, &wanted);
    assert!(tally.events > 0, "no watch event was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_with_authentication_get_equal_answers() {
    if listed(Kind::subject(), Feature::Auth) {
        println!("SKIPPED: Keelson does not have authentication yet");
        return;
    }
    let total = number("KEELSON_DIFF_AUTH_OPS", 10_000);
    let run = compare(Profile::Auth, 1, total, number("KEELSON_DIFF_SEED", 1_000_000)).await;
    let Some(tally) = run else { return };
    exercised(&tally, &[("permission denied", 200), ("user name is empty", 200), ("invalid auth token", 20)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_on_three_members_get_equal_answers() {
    let total = number("KEELSON_DIFF_CLUSTER_OPS", 5_000);
    compare(Profile::Store, 3, total, number("KEELSON_DIFF_SEED", 2_000_000)).await;
}

/// The comparison can fail: two etcds of which one allows one operation less in a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_difference_is_found_and_reduced_to_one_operation() {
    if Program::Etcd.require().is_none() {
        return;
    }
    let flag = format!("--max-txn-ops={}", TXN_OPS_MAX - 1);
    let sides = Sides { left: Kind::Etcd, right: Kind::Etcd, size: 1, left_flags: vec![flag] };
    let ops = generate(1, Profile::Store, 1_000);
    let difference = run(&sides, &ops).await.expect("the servers start").expect_err("a difference");
    let (ops, difference) = shrink(&sides, &ops, *difference).await;
    assert_eq!(ops.len(), 1, "{ops:#?}");
    assert!(format!("{difference}").contains("too many operations"), "{difference}");
}
