//! What watches an etcd watches Keelson: the alerts and the dashboard that etcd ships find their series on three members,
//! with Prometheus' own engine.
//!
//! `cargo test -p keelson-tests --test monitoring`. Rules and queries are in `mixin/`, with their source; real etcd is asked
//! first.

use std::path::Path;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use keelson_tests::environment::tests_folder;
use keelson_tests::http::get;
use keelson_tests::peers::Program;
use keelson_tests::tools::{COMMAND_WAIT, run};

/// What a young etcd has no series for.
const LATE_IN_ETCD: [&str; 3] = ["etcdMembersDown", "etcdMemberCommunicationSlow", "peerRtt"];

/// A line of the evaluator.
struct Judged {
    name: String,
    /// Selectors that found something, and all.
    found: (usize, usize),
    /// Series of what is compared with a threshold.
    left: usize,
    /// Series of the whole.
    whole: usize,
}

async fn scrape(cluster: &Cluster, index: usize) -> String {
    get(&cluster.member(index).client_address(), "/metrics").await.expect("metrics").body
}

/// The sum of all series of a family whose line has this text.
fn sum(metrics: &str, family: &str, text: &str) -> Option<f64> {
    let of_family = |line: &&str| line.starts_with(family) && line[family.len()..].starts_with(['{', ' ']);
    let lines = metrics.lines().filter(of_family).filter(|line| line.contains(text));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(|sum, value| sum + value)
}

async fn put(cluster: &Cluster, index: usize) {
    let client = Client::lazy(&cluster.member(index).client_url());
    let request = pb::PutRequest { key: "k".into(), value: vec![b'v'; 1000].into(), ..Default::default() };
    client.kv().put(request).await.expect("a put");
}

async fn three(kind: Kind) -> Cluster {
    let options = Options::new(kind, 3).quick().flag("--metrics=extensive").flag("--log-level=error");
    Cluster::start(options).await.expect("the servers start")
}

/// Records three scrapes of every member, with work between them, and has them judged.
async fn judge(cluster: &Cluster, program: &Path) -> Vec<Judged> {
    let folder = cluster.folder().join("scrapes");
    std::fs::create_dir_all(&folder).unwrap();
    for minute in 0..3 {
        for index in 0..cluster.size() {
            put(cluster, index).await;
            std::fs::write(folder.join(format!("{minute}-m{index}.prom")), scrape(cluster, index).await)
                .unwrap();
        }
    }
    let mixin = tests_folder().join("tests/mixin");
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let arguments = [path(&mixin.join("rules.yaml")), path(&mixin.join("dashboard.txt")), path(&folder)];
    let output = run(program, &arguments.each_ref().map(String::as_str), "", COMMAND_WAIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let (found, all) = fields.next()?.split_once('/')?;
        let found = (found.parse().ok()?, all.parse().ok()?);
        Some(Judged { name, found, left: fields.next()?.parse().ok()?, whole: fields.next()?.parse().ok()? })
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
}

#[tokio::test]
async fn the_alerts_and_the_dashboard_of_etcd_find_their_series() {
    let Some(program) = Program::Promql.require() else { return };
    for kind in Kind::each(&[Program::Promql]) {
        let cluster = three(kind).await;
        let judged = judge(&cluster, &program).await;
        assert_eq!(judged.len(), 15 + 15, "rules and queries");
        for Judged { name, found, left, whole } in judged {
            println!("{kind:?} {name}: {found:?} {left} {whole}");
            // A healthy etcd has no series of failures, and measures the first round trip after half a minute. Here
            // failures begin at zero, so that a rate sees the first one, and round trips at the start.
            let is_late = LATE_IN_ETCD.iter().any(|late| name.starts_with(late));
            if kind == Kind::Keelson || !is_late {
                assert_eq!(found.0, found.1, "{kind:?}: {name} does not find its series");
                assert!(left > 0, "{kind:?}: {name} compares nothing");
            }
            if name.contains('/') {
                assert_eq!(whole, 0, "{kind:?}: {name} fires on a healthy cluster");
            }
        }
    }
}

/// What the mixin looks at is measured, not only there.
#[tokio::test]
async fn the_series_of_disk_and_members_move() {
    for kind in Kind::each(&[]) {
        let mut cluster = three(kind).await;
        let ids: Vec<String> = {
            let mut ids = Vec::new();
            for index in 0..3 {
                let status = Client::lazy(&cluster.member(index).client_url()).status().await.unwrap();
                ids.push(format!("{:x}", status.header.unwrap().member_id));
            }
            ids
        };
        clock::until(READY_WAIT, || async {
            for index in 0..3 {
                put(&cluster, index).await;
                let shown = scrape(&cluster, index).await;
                let check = |family: &str, text: &str| match sum(&shown, family, text) {
                    Some(value) if value > 0.0 => Ok(()),
                    value => Err(format!("{kind:?}: {family} {text} of member {index} is {value:?}")),
                };
                check("etcd_disk_wal_fsync_duration_seconds_count", "")?;
                check("etcd_disk_backend_commit_duration_seconds_count", "")?;
                check("etcd_server_proposals_committed_total", "")?;
                check("etcd_server_leader_changes_seen_total", "")?;
                check("process_resident_memory_bytes", "")?;
                check("etcd_network_peer_sent_bytes_total", "")?;
                check("etcd_network_peer_received_bytes_total", "")?;
                // Two followers of etcd may have nothing to say to each other; here they measure their round trips.
                let others = ids.iter().enumerate().filter(|(other, _)| *other != index);
                for (_, id) in others.filter(|_| kind == Kind::Keelson) {
                    check("etcd_network_peer_sent_bytes_total", &format!("To=\"{id}\""))?;
                    check("etcd_network_peer_received_bytes_total", &format!("From=\"{id}\""))?;
                    check("etcd_network_active_peers", &format!("Remote=\"{id}\""))?;
                }
            }
            Ok::<(), String>(())
        })
        .await
        .unwrap();
        if kind == Kind::Etcd {
            // Its first round trip is measured after half a minute.
            continue;
        }
        let shown = scrape(&cluster, 0).await;
        for id in &ids[1..] {
            let count =
                sum(&shown, "etcd_network_peer_round_trip_time_seconds_count", &format!("To=\"{id}\""));
            assert!(count > Some(0.0), "{id} {count:?}");
        }
        // A member that is gone shows as such on the others.
        cluster.member_mut(2).kill();
        clock::until(Duration::from_secs(30), || async {
            let shown = scrape(&cluster, 0).await;
            let gone = format!("Remote=\"{}\"", ids[2]);
            let failures =
                sum(&shown, "etcd_network_peer_sent_failures_total", &format!("To=\"{}\"", ids[2]));
            let active = sum(&shown, "etcd_network_active_peers", &gone);
            let lost = sum(&shown, "etcd_network_disconnected_peers_total", &gone);
            match (failures > Some(0.0), active, lost) {
                (true, Some(0.0), Some(1.0)) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await
        .unwrap();
    }
}
