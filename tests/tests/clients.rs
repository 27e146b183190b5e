//! Foreign clients on one and on three members: etcd's Go client with its recipes, a Rust client, two Python clients.
//!
//! `cargo test -p keelson-tests --test clients`. The programs are in `tests/clients`, their builds in `tests/peers/build.sh`.
//! Every program also runs against real etcd, so a failure there is a failure of the program.

use std::path::Path;

use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use keelson_tests::environment::tests_folder;
use keelson_tests::missing::{Feature, lacks};
use keelson_tests::peers::Program;
use keelson_tests::tools::{COMMAND_WAIT, run};

async fn on_each(size: usize, test: impl AsyncFn(&Cluster)) {
    for kind in Kind::each(&[]) {
        println!("{kind:?}, {size} members");
        let options = Options::new(kind, size).quick().flag("--log-level=error");
        let cluster = Cluster::start(options).await.expect("the servers start");
        test(&cluster).await;
        cluster.wait_ready(READY_WAIT).await.expect("the servers still serve");
    }
}

/// Runs a client's program; it must end with 0, and its output is shown either way.
fn succeed(program: &Path, arguments: &[&str], wanted_lines: usize) {
    let output = run(program, arguments, "", COMMAND_WAIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} ended with {}", program.display(), output.status);
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed >= wanted_lines, "only {passed} of {wanted_lines} suites ran");
}

/// The features this server lacks, as the programs' flag wants them.
async fn without(cluster: &Cluster) -> String {
    let mut names = Vec::new();
    for feature in [Feature::Auth, Feature::Gateway, Feature::Locks] {
        if lacks(cluster, feature).await {
            names.push(feature.name());
        }
    }
    names.join(",")
}

async fn go(size: usize) {
    let Some(program) = Program::GoClient.require() else { return };
    on_each(size, async |cluster| {
        let without = without(cluster).await;
        succeed(&program, &["-endpoints", &cluster.endpoints(), "-without", &without], 14);
    })
    .await;
}

async fn python(size: usize) {
    let Some(program) = Program::Python.require() else { return };
    let script = tests_folder().join("clients/python/smoke.py");
    let script = script.to_str().expect("a path in UTF-8");
    on_each(size, async |cluster| {
        let without = without(cluster).await;
        succeed(&program, &[script, &cluster.member(size - 1).client_address(), &without], 6);
    })
    .await;
}

async fn rust(size: usize) {
    let Some(program) = Program::RustClient.require() else { return };
    on_each(size, async |cluster| {
        let without = without(cluster).await;
        succeed(&program, &[&cluster.endpoints(), &without], 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_works_on_one_member() {
    go(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_works_on_three_members() {
    go(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_clients_work_on_one_member() {
    python(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_clients_work_on_three_members() {
    python(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_works_on_one_member() {
    rust(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_works_on_three_members() {
    rust(3).await;
}
