//! Changes of the membership on real processes, by etcdctl of the pinned release.
//!
//! `cargo test -p keelson-tests --test membership`. Every test runs on real etcd first, except where Keelson promises more.

use std::time::Duration;

use keelson_tests::client::Client;
use keelson_tests::clock::{Deadline, pause_thread};
use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use keelson_tests::peers::Program;
use keelson_tests::tools::Shell;
use serde_json::Value;

/// How long a process that ends by itself is given.
const END_WAIT: Duration = Duration::from_secs(20);

const NEEDED: &[Program] = &[Program::Etcdctl];

async fn start(kind: Kind, size: usize) -> Cluster {
    println!("{kind:?}");
    Cluster::start(Options::new(kind, size).quick().flag("--log-level=info"))
        .await
        .expect("the servers start")
}

/// etcdctl on some members.
fn shell(cluster: &Cluster, members: &[usize]) -> Shell {
    let endpoints: Vec<String> = members.iter().map(|index| cluster.member(*index).client_url()).collect();
    Shell::new(Program::Etcdctl.require().expect("checked by `Kind::each`"), endpoints.join(","))
}

/// Runs a command that has to succeed.
#[track_caller]
fn done(shell: &Shell, arguments: &[&str]) -> String {
    let (code, out, err) = shell.quiet(arguments, "");
    assert_eq!(code, Some(0), "etcdctl {arguments:?}: {out}{err}");
    out
}

/// Repeats a command until it succeeds.
#[track_caller]
fn eventually(shell: &Shell, arguments: &[&str]) -> String {
    let deadline = Deadline::after(READY_WAIT);
    loop {
        let (code, out, err) = shell.quiet(arguments, "");
        if code == Some(0) {
            return out;
        }
        assert!(!deadline.passed(), "etcdctl {arguments:?}: {out}{err}");
        pause_thread(Duration::from_millis(50));
    }
}

/// Runs a command that has to fail with a text.
#[track_caller]
fn refused(shell: &Shell, arguments: &[&str], text: &str) {
    let (code, out, err) = shell.quiet(arguments, "");
    assert!(code != Some(0) && err.contains(text), "etcdctl {arguments:?}: {code:?} {out}{err}");
}

/// The members as the cluster lists them.
fn members(shell: &Shell) -> Vec<Value> {
    let list: Value =
        serde_json::from_str(&eventually(shell, &["member", "list", "-w", "json"])).expect("JSON");
    list["members"].as_array().expect("a list").clone()
}

/// The id of the member with this peer URL, as etcdctl takes it.
fn id(shell: &Shell, peer_url: &str) -> String {
    let found = members(shell).into_iter().find(|member| member["peerURLs"][0] == peer_url);
    format!("{:x}", found.unwrap_or_else(|| panic!("no member at {peer_url}"))["ID"].as_u64().expect("an id"))
}

/// A status that ends with the given revision on one member.
async fn caught_up(cluster: &Cluster, index: usize, revision: i64) {
    let client = Client::lazy(&cluster.member(index).client_url());
    keelson_tests::clock::until(READY_WAIT, || async {
        let seen = client.status().await?.header.map_or(0, |header| header.revision);
        if seen >= revision { Ok(()) } else { Err(tonic::Status::unavailable(format!("revision {seen}"))) }
    })
    .await
    .expect("a member that follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_follows_and_is_promoted_when_it_has_caught_up() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let three = shell(&cluster, &[0, 1, 2]);
        for number in 0..20 {
            done(&three, &["put", &format!("k{number}"), "value"]);
        }
        let index = cluster.prepare_joining().expect("one more");
        let url = cluster.member(index).peer_url();
        // etcd wants its members to have been connected for some seconds.
        eventually(&three, &["member", "add", "m4", "--learner", &format!("--peer-urls={url}")]);
        let learner = id(&three, &url);
        let behind = "etcdserver: can only promote a learner member which is in sync with leader";
        refused(&three, &["member", "promote", &learner], behind);

        cluster.member_mut(index).start().expect("a start");
        caught_up(&cluster, index, 21).await;
        let fourth = shell(&cluster, &[index]);
        assert_eq!(done(&fourth, &["get", "k19", "--consistency=s"]), "k19\nvalue\n");
        refused(&fourth, &["get", "k19"], "etcdserver: rpc not supported for learner");
        refused(&fourth, &["put", "k19", "x"], "etcdserver: rpc not supported for learner");

        eventually(&three, &["member", "promote", &learner]);
        refused(&three, &["member", "promote", &learner], "etcdserver: can only promote a learner member");
        cluster.wait_member_ready(index, READY_WAIT).await.expect("a voter");
        assert_eq!(done(&fourth, &["get", "k19"]), "k19\nvalue\n");
        assert!(members(&fourth).iter().all(|member| member["isLearner"].is_null() && member["name"] != ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_ends_and_does_not_come_back() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let (removed, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let rest = shell(&cluster, &[leader, other]);
        let gone = id(&rest, &cluster.member(removed).peer_url());
        done(&rest, &["put", "before", "1"]);
        eventually(&rest, &["member", "remove", &gone]);
        assert_eq!(members(&rest).len(), 2);
        cluster.member_mut(removed).wait_end(END_WAIT).expect("a removed member ends");
        done(&rest, &["put", "after", "1"]);
        refused(&rest, &["member", "remove", &gone], "etcdserver: member not found");
        // It has its data still, and is not wanted.
        cluster.member_mut(removed).start().expect("a start");
        cluster.member_mut(removed).wait_end(END_WAIT).expect("it ends again");
        assert_eq!(members(&rest).len(), 2);
        done(&rest, &["put", "still", "served"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_can_be_removed() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        let rest = shell(&cluster, &others);
        done(&rest, &["put", "a", "1"]);
        let gone = id(&rest, &cluster.member(leader).peer_url());
        eventually(&rest, &["member", "remove", &gone]);
        cluster.member_mut(leader).wait_end(END_WAIT).expect("the removed leader ends");
        eventually(&rest, &["put", "a", "2"]);
        assert_eq!(done(&rest, &["get", "a"]), "a\n2\n");
        assert!(others.contains(&cluster.leader(READY_WAIT).await.expect("a leader")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_by_a_new_one() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let dead = (leader + 1) % 3;
        cluster.member_mut(dead).kill();
        let others: Vec<usize> = (0..3).filter(|index| *index != dead).collect();
        let rest = shell(&cluster, &others);
        done(&rest, &["put", "a", "1"]);
        let gone = id(&rest, &cluster.member(dead).peer_url());
        eventually(&rest, &["member", "remove", &gone]);

        let index = cluster.prepare_joining().expect("one more");
        let url = cluster.member(index).peer_url();
        eventually(&rest, &["member", "add", "m4", &format!("--peer-urls={url}")]);
        cluster.member_mut(index).start().expect("a start");
        cluster.wait_member_ready(index, READY_WAIT).await.expect("a voter");
        let fourth = shell(&cluster, &[index]);
        assert_eq!(done(&fourth, &["get", "a"]), "a\n1\n");
        // The new one counts: with it, one of the old ones may fail.
        cluster.member_mut(leader).kill();
        eventually(&fourth, &["put", "a", "2"]);
        assert_eq!(members(&fourth).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_moves_to_another_address() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let moved = (leader + 1) % 3;
        let rest = shell(&cluster, &[leader, (leader + 2) % 3]);
        let mover = id(&rest, &cluster.member(moved).peer_url());
        cluster.member_mut(moved).terminate(END_WAIT).expect("a stop");
        let url = cluster.member_mut(moved).move_peer_port();
        done(&rest, &["member", "update", &mover, &format!("--peer-urls={url}")]);
        done(&rest, &["put", "a", "1"]);
        cluster.member_mut(moved).start().expect("a start");
        cluster.wait_member_ready(moved, READY_WAIT).await.expect("it is reached at its new address");
        assert_eq!(done(&shell(&cluster, &[moved]), &["get", "a"]), "a\n1\n");
        assert_eq!(id(&rest, &url), mover);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    for kind in Kind::each(NEEDED) {
        // Elections would take three seconds; a handover takes none.
        let options = Options { heartbeat_ms: 500, election_ms: 3000, ..Options::new(kind, 3) };
        let mut cluster = Cluster::start(options).await.expect("the servers start");
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        let rest = shell(&cluster, &others);
        done(&rest, &["put", "a", "1"]);
        let began = keelson_tests::clock::now();
        cluster.member_mut(leader).terminate(END_WAIT).expect("a graceful stop");
        done(&rest, &["put", "a", "2"]);
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2500), "{kind:?}: no leader for {took:?}");
        cluster.member_mut(leader).start().expect("a start");
        cluster.wait_member_ready(leader, READY_WAIT).await.expect("it follows again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_would_cost_the_quorum_is_refused() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
        cluster.member_mut(dead).kill();
        let rest = shell(&cluster, &[leader, other]);
        // Two of three are up; removing one of them would leave one of two.
        let alive = id(&rest, &cluster.member(other).peer_url());
        // Once it is noticed that one is down.
        pause_thread(Duration::from_secs(1));
        refused(&rest, &["member", "remove", &alive], "etcdserver: unhealthy cluster");
        done(&rest, &["put", "a", "1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_while_one_is_down_is_refused_unless_the_check_is_off() {
    for kind in Kind::each(NEEDED) {
        for strict in [true, false] {
            let flag = format!("--strict-reconfig-check={strict}");
            let options = Options::new(kind, 3).quick().flag("--log-level=info").flag(flag);
            let mut cluster = Cluster::start(options).await.expect("the servers start");
            let leader = cluster.leader(READY_WAIT).await.expect("a leader");
            let rest = shell(&cluster, &[leader, (leader + 2) % 3]);
            cluster.member_mut((leader + 1) % 3).kill();
            pause_thread(Duration::from_secs(1));
            let add = ["member", "add", "m4", "--peer-urls=http://127.0.0.1:9"];
            if strict {
                refused(&rest, &add, "etcdserver: unhealthy cluster");
            } else {
                done(&rest, &add);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_is_not_listened_to() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 3).await;
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let lost = (leader + 1) % 3;
        let rest = shell(&cluster, &[leader, (leader + 2) % 3]);
        done(&rest, &["put", "a", "1"]);
        // The same addresses with another token are another cluster.
        cluster.member_mut(lost).kill();
        std::fs::remove_dir_all(cluster.member(lost).data()).expect("its data goes");
        cluster.member_mut(lost).add_flag("--initial-cluster-token=another");
        cluster.member_mut(lost).start().expect("a start");
        pause_thread(Duration::from_secs(2));
        let stranger = Client::lazy(&cluster.member(lost).client_url());
        assert!(stranger.ping(Duration::from_millis(500)).await.is_err(), "{kind:?}: it serves");
        done(&rest, &["put", "a", "2"]);
        assert_eq!(members(&rest).len(), 3);
    }
}

/// etcd starts such a member, with an empty log and its old vote forgotten (it relies on the operator).
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_is_told_to_be_replaced() {
    let Some(kind) = Kind::keelson_only(NEEDED) else { return };
    let mut cluster = start(kind, 3).await;
    let leader = cluster.leader(READY_WAIT).await.expect("a leader");
    let lost = (leader + 1) % 3;
    done(&shell(&cluster, &[leader]), &["put", "a", "1"]);
    cluster.member_mut(lost).kill();
    std::fs::remove_dir_all(cluster.member(lost).data()).expect("its data goes");
    cluster.member_mut(lost).start().expect("a start");
    let status = cluster.member_mut(lost).wait_end(END_WAIT).expect("it refuses");
    assert_eq!(status.code(), Some(1));
    let log = cluster.member(lost).log_text();
    assert!(log.contains("already been bootstrapped") && log.contains("etcdctl member remove"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_needs_to_be_announced() {
    for kind in Kind::each(NEEDED) {
        let mut cluster = start(kind, 1).await;
        let index = cluster.prepare_joining().expect("one more");
        cluster.member_mut(index).start().expect("a start");
        let status = cluster.member_mut(index).wait_end(END_WAIT).expect("it refuses");
        assert!(!status.success());
        if kind == Kind::Keelson {
            let log = cluster.member(index).log_text();
            assert!(log.contains("etcdctl member add"), "{log}");
        }
        done(&shell(&cluster, &[0]), &["put", "a", "1"]);
    }
}
