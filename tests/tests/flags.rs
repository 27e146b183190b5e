//! Flags on the real binary: each test fails when the flag is read and then forgotten.
//!
//! `cargo test -p keelson-tests --test flags`. What etcd does with the same flag is asked of etcd first. TLS flags are in
//! `tls.rs`, those about members in `membership.rs`.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT, free_port};
use keelson_tests::http::{get, raw};
use tonic::{Code, Status};

/// Starts one member with flags.
async fn start(kind: Kind, flags: &[&str]) -> Cluster {
    println!("{kind:?} {flags:?}");
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Cluster::start(Options::new(kind, 1).quick().flag_all(&flags)).await.expect("the server starts")
}

fn client(cluster: &Cluster) -> Client {
    Client::for_streams(&cluster.member(0).client_url())
}

fn put_request(key: &str, value: impl Into<bytes::Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}

async fn put(client: &Client, key: &str, value: impl Into<bytes::Bytes>) -> Result<i64, Status> {
    let answer = client.kv().put(put_request(key, value)).await?.into_inner();
    Ok(answer.header.expect("a header").revision)
}

async fn metrics(address: &str) -> String {
    get(address, "/metrics").await.expect("metrics").body
}

/// The value of a metric without labels, or with the labels given.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.expect_err("an error");
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test]
async fn max_txn_ops_and_max_request_bytes() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--max-txn-ops=2", "--max-request-bytes=10000"]).await;
        let client = client(&cluster);
        let operations = |count: usize| {
            let operation = |number| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put_request(&format!("k{number}"), "v"))),
            };
            pb::TxnRequest { success: (0..count).map(operation).collect(), ..Default::default() }
        };
        client.kv().txn(operations(2)).await.expect("two operations");
        let many = "etcdserver: too many operations in txn request";
        refused(client.kv().txn(operations(3)).await, Code::InvalidArgument, many);
        put(&client, "a", vec![b'x'; 9_000]).await.expect("a small value");
        let large = "etcdserver: request is too large";
        refused(put(&client, "a", vec![b'x'; 10_000]).await, Code::InvalidArgument, large);
    }
}

#[tokio::test]
async fn quota_backend_bytes_raises_the_alarm_and_stops_writes() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--quota-backend-bytes=1000000"]).await;
        let client = client(&cluster);
        let status = client.status().await.unwrap();
        assert_eq!(status.db_size_quota, 1_000_000);
        let full = clock::until(READY_WAIT, || async {
            for number in 0..50 {
                if let Err(status) = put(&client, &format!("k{number}"), vec![b'x'; 20_000]).await {
                    return Ok(status);
                }
            }
            Err(())
        })
        .await
        .expect("the quota is reached");
        let no_space = "etcdserver: mvcc: database space exceeded";
        refused(Err::<(), _>(full), Code::ResourceExhausted, no_space);
        refused(put(&client, "small", "x").await, Code::ResourceExhausted, no_space);
        let alarms = client.status().await.unwrap().errors;
        assert!(alarms.iter().any(|alarm| alarm.contains("NOSPACE")), "{alarms:?}");
        let health = get(&cluster.member(0).client_address(), "/health").await.unwrap();
        assert_eq!(
            (health.status, health.body.trim()),
            (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#)
        );
        // What frees space goes on.
        let all = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false };
        assert!(client.kv().delete_range(all).await.expect("a delete").into_inner().deleted > 0);
        let shown = metrics(&cluster.member(0).client_address()).await;
        assert_eq!(sample(&shown, "etcd_server_quota_backend_bytes"), Some(1e6));
    }
}

#[tokio::test]
async fn auto_compaction_periodic_keeps_so_much_history() {
    for kind in Kind::each(&[]) {
        let cluster =
            start(kind, &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"]).await;
        let client = client(&cluster);
        for number in 0..5 {
            put(&client, "a", format!("{number}")).await.unwrap();
        }
        let compacted = clock::until(Duration::from_secs(15), || async {
            let read = pb::RangeRequest { key: "a".into(), revision: 3, ..Default::default() };
            match client.kv().range(read).await {
                Err(status) => Ok(status),
                Ok(_) => Err("revision 3 is still there"),
            }
        })
        .await
        .unwrap();
        refused(
            Err::<(), _>(compacted),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        );
        let newest = pb::RangeRequest { key: "a".into(), revision: 6, ..Default::default() };
        client.kv().range(newest).await.expect("the newest revision stays");
    }
}

/// Whatever the step of a tenth comes to: history younger than the retention is never gone.
#[tokio::test]
async fn auto_compaction_periodic_takes_nothing_younger() {
    const RETENTION: Duration = Duration::from_secs(1);
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--auto-compaction-retention=1s"]).await;
        let client = client(&cluster);
        // When each revision was asked for, which is before it was written.
        let mut asked_at = std::collections::BTreeMap::new();
        let mut marks = std::collections::BTreeSet::new();
        let deadline = clock::Deadline::after(READY_WAIT);
        while marks.len() < 3 {
            assert!(!deadline.passed(), "{kind:?}: compacted only at {marks:?}");
            let now = clock::now();
            asked_at.insert(put(&client, "a", "x").await.unwrap(), now);
            let hash = pb::HashKvRequest { revision: 0 };
            let mark = client.maintenance().hash_kv(hash).await.unwrap().into_inner().compact_revision;
            if mark > 1 && marks.insert(mark) {
                let age = asked_at[&mark].elapsed();
                assert!(age >= RETENTION, "{kind:?}: revision {mark} of {age:?} ago is the oldest left");
            }
        }
    }
}

#[tokio::test]
async fn host_whitelist_and_cors() {
    for kind in Kind::each(&[]) {
        let flags = ["--host-whitelist=good.example.com", "--cors=http://page.example.com:8080"];
        let cluster = start(kind, &flags).await;
        let address = cluster.member(0).client_address();
        let ask = async |host: &str, origin: &str| {
            let request = format!(
                "GET /version HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
            );
            let answer = raw(&address, request.as_bytes(), Duration::from_secs(10)).await.unwrap();
            String::from_utf8_lossy(&answer).to_lowercase()
        };
        let page = "http://page.example.com:8080";
        let good = ask("good.example.com", page).await;
        assert!(good.starts_with("http/1.1 200"), "{good}");
        assert!(good.contains(&format!("access-control-allow-origin: {page}")), "{good}");
        let foreign = ask("good.example.com", "http://evil.example.com:8080").await;
        assert!(!foreign.contains("access-control-allow-origin"), "{foreign}");
        assert!(ask("evil.example.com", page).await.starts_with("http/1.1 421"));
    }
}

#[tokio::test]
async fn listen_metrics_urls_serves_metrics_and_health_and_nothing_else() {
    for kind in Kind::each(&[]) {
        let address = format!("127.0.0.1:{}", free_port());
        let cluster =
            start(kind, &[&format!("--listen-metrics-urls=http://{address}"), "--metrics=extensive"]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        let shown = metrics(&address).await;
        assert!(shown.contains("etcd_server_has_leader 1"), "{shown}");
        // `--metrics extensive` adds the durations of calls.
        let handled = r#"grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
        assert_eq!(sample(&shown, handled), Some(1.0));
        assert_eq!(get(&address, "/health").await.unwrap().status, 200);
        assert_eq!(get(&address, "/version").await.unwrap().status, 404);
    }
}

#[tokio::test]
async fn metrics_are_basic_by_default_and_count_the_bytes_of_clients() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &[]).await;
        put(&client(&cluster), "a", vec![b'x'; 100_000]).await.unwrap();
        let read = pb::RangeRequest { key: "a".into(), ..Default::default() };
        client(&cluster).kv().range(read).await.unwrap();
        let shown = metrics(&cluster.member(0).client_address()).await;
        assert!(!shown.contains("grpc_server_handling_seconds"));
        for name in
            ["etcd_network_client_grpc_received_bytes_total", "etcd_network_client_grpc_sent_bytes_total"]
        {
            let bytes = sample(&shown, name).expect("the metric");
            assert!((100_000.0..200_000.0).contains(&bytes), "{name} {bytes}");
        }
    }
}

#[tokio::test]
async fn listen_client_http_urls_takes_http_from_the_client_port() {
    for kind in Kind::each(&[]) {
        let address = format!("127.0.0.1:{}", free_port());
        let cluster = start(kind, &[&format!("--listen-client-http-urls=http://{address}")]).await;
        put(&client(&cluster), "a", "1").await.expect("gRPC stays");
        assert_eq!(get(&address, "/version").await.unwrap().status, 200);
        let refused = get(&cluster.member(0).client_address(), "/version").await;
        assert!(
            refused.is_err() || refused.is_ok_and(|answer| answer.status == 404),
            "{kind:?}: HTTP is served"
        );
        assert!(metrics(&address).await.contains("etcd_server_has_leader 1"));
    }
}

#[tokio::test]
async fn max_concurrent_streams_is_announced() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--max-concurrent-streams=7"]).await;
        let address = cluster.member(0).client_address();
        // The preface and empty settings; the server's settings are its first frame.
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        let answer = raw(&address, &hello, Duration::from_secs(1)).await.unwrap();
        let length = usize::from(answer[1]) << 8 | usize::from(answer[2]);
        let settings: Vec<(u8, u32)> = answer[9..9 + length]
            .chunks(6)
            .map(|one| (one[1], u32::from_be_bytes([one[2], one[3], one[4], one[5]])))
            .collect();
        assert!(settings.contains(&(3, 7)), "{kind:?}: {settings:?}");
    }
}

#[tokio::test]
async fn grpc_keepalive_min_time_ends_connections_that_ping_too_often() {
    for kind in Kind::each(&[]) {
        let ended = async |flags: &[&str]| {
            let cluster = start(kind, flags).await;
            let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
            let mut hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
            (0..6).for_each(|_| hello.extend(&ping));
            let address = cluster.member(0).client_address();
            let answer = raw(&address, &hello, Duration::from_secs(2)).await.unwrap();
            String::from_utf8_lossy(&answer).contains("too_many_pings")
        };
        assert!(ended(&[]).await, "{kind:?}");
        if kind == Kind::Keelson {
            assert!(!ended(&["--grpc-keepalive-min-time=0s"]).await);
        }
    }
}

/// A server that pings gets its answers or ends the connection; this client never answers.
#[tokio::test]
async fn grpc_keepalive_interval_and_timeout_end_dead_connections() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"]).await;
        let address = cluster.member(0).client_address();
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        let began = clock::now();
        let answer = raw(&address, &hello, Duration::from_secs(15)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{kind:?}: the connection is still open");
        // A PING frame without the acknowledgement flag.
        assert!(answer.windows(5).any(|head| head == [0, 0, 8, 6, 0]), "{kind:?}: no ping");
    }
}

#[tokio::test]
async fn wal_dir_takes_the_log_elsewhere() {
    for kind in Kind::each(&[]) {
        let folder = tempfile::TempDir::new().unwrap();
        let wal = folder.path().join("log");
        let flag = format!("--wal-dir={}", wal.display());
        let mut cluster = start(kind, &[&flag]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        assert!(wal.read_dir().unwrap().count() > 0);
        assert!(!cluster.member(0).data().join("wal").exists());
        cluster.member_mut(0).kill();
        cluster.member_mut(0).start().unwrap();
        cluster.wait_ready(READY_WAIT).await.unwrap();
        let read = pb::RangeRequest { key: "a".into(), ..Default::default() };
        assert_eq!(client(&cluster).kv().range(read).await.unwrap().into_inner().count, 1);
    }
}

#[tokio::test]
async fn socket_reuse_port_lets_two_listen() {
    for kind in Kind::each(&[]) {
        for (flags, together) in [(&["--socket-reuse-port"][..], true), (&[], false)] {
            let first = start(kind, flags).await;
            let mut options = Options::new(kind, 1).quick();
            options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let url = first.member(0).client_url();
            options = options
                .flag(format!("--listen-client-urls={url}"))
                .flag(format!("--advertise-client-urls={url}"));
            let mut second = Cluster::launch(options).unwrap();
            let ended = second.member_mut(0).wait_end(Duration::from_secs(if together { 2 } else { 20 }));
            assert_eq!(ended.is_err(), together, "{kind:?} {flags:?}");
        }
    }
}

#[tokio::test]
async fn log_level_format_and_outputs() {
    for kind in Kind::each(&[]) {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("server.log");
        let outputs = format!("--log-outputs={}", file.display());
        let cluster = start(kind, &[&outputs, "--log-level=info", "--log-format=json"]).await;
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("ready to serve client requests"), "{text}");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
            assert!(line["level"].is_string() && line["msg"].is_string() && line["ts"].is_string(), "{line}");
        }
        assert!(!cluster.member(0).log_text().contains("ready to serve client requests"));
        let quiet = start(kind, &["--log-level=error", "--log-format=console"]).await;
        let text = quiet.member(0).log_text();
        assert!(!text.contains("ready to serve") && !text.contains("\"level\":\"info\""), "{kind:?}: {text}");
        let console = start(kind, &["--log-level=info", "--log-format=console"]).await;
        let text = console.member(0).log_text();
        assert!(text.contains("ready to serve") && !text.contains("{\"level\""), "{kind:?}: {text}");
    }
}

#[tokio::test]
async fn warning_unary_request_duration_logs_slow_requests() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--warning-unary-request-duration=1ns"]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        let line = warning(&cluster, "request stats", "/etcdserverpb.KV/Put").await;
        for (field, is_right) in [
            ("start time", line["start time"].as_str().is_some_and(|time| time.contains('T'))),
            ("time spent", line["time spent"].as_str().is_some_and(|time| time.ends_with('s'))),
            ("remote", line["remote"].as_str().is_some_and(|remote| remote.starts_with("127.0.0.1:"))),
            ("response type", line["response type"] == "/etcdserverpb.KV/Put"),
            ("request count", line["request count"].is_i64()),
            ("request size", line["request size"].is_i64()),
            ("response count", line["response count"].is_i64()),
            ("response size", line["response size"].as_i64().is_some_and(|size| size > 0)),
        ] {
            assert!(is_right, "{kind:?}: {field} of {line}");
        }
        let cluster = start(kind, &[]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        assert!(!log_has(&cluster, "request stats"));
    }
}

fn log_has(cluster: &Cluster, text: &str) -> bool {
    cluster.member(0).log_text().contains(text)
}

/// The first warning with this text and, somewhere, that one.
async fn warning(cluster: &Cluster, message: &str, detail: &str) -> serde_json::Value {
    let found = clock::until(Duration::from_secs(5), || async {
        let log = cluster.member(0).log_text();
        let mut lines = log.lines().filter(|line| line.contains(detail));
        let parsed = lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["level"] == "warn" && line["msg"] == message).then_some(line)
        });
        parsed.ok_or(log)
    });
    found.await.unwrap_or_else(|log| panic!("no {message:?} in {log}"))
}

#[tokio::test]
async fn warning_apply_duration_logs_slow_applies() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--warning-apply-duration=1ns"]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        let line = warning(&cluster, "apply request took too long", "took").await;
        assert!(line["took"].is_string(), "{kind:?}: {line}");
        assert_eq!(line["expected-duration"], "1ns", "{kind:?}: {line}");
        let shown = metrics(&cluster.member(0).client_address()).await;
        assert!(sample(&shown, "etcd_server_slow_apply_total") > Some(0.0), "{kind:?}");
        let cluster = start(kind, &["--warning-apply-duration=1h"]).await;
        put(&client(&cluster), "a", "1").await.unwrap();
        assert!(!log_has(&cluster, "took too long"));
    }
}

#[tokio::test]
async fn max_learners() {
    for kind in Kind::each(&[]) {
        let cluster = start(kind, &["--max-learners=2"]).await;
        let add = async |port: u16| {
            let peer_ur_ls = vec![format!("http://127.0.0.1:{port}")];
            client(&cluster).cluster().member_add(pb::MemberAddRequest { peer_ur_ls, is_learner: true }).await
        };
        add(9).await.expect("a learner");
        add(10).await.expect("a second one");
        let many = "etcdserver: too many learner members in cluster";
        refused(add(11).await, Code::FailedPrecondition, many);
    }
}

#[tokio::test]
async fn feature_gates_are_shown() {
    for kind in Kind::each(&[]) {
        let cluster = start(
            kind,
            &["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=false,FastLeaseKeepAlive=false"],
        )
        .await;
        let shown = metrics(&cluster.member(0).client_address()).await;
        let gate = |name: &str, stage: &str| {
            sample(&shown, &format!("etcd_server_feature_enabled{{name=\"{name}\",stage=\"{stage}\"}}"))
        };
        assert_eq!(gate("InitialCorruptCheck", "ALPHA"), Some(1.0), "{kind:?}");
        assert_eq!(gate("CompactHashCheck", "ALPHA"), Some(0.0), "{kind:?}");
        assert_eq!(gate("FastLeaseKeepAlive", "BETA"), Some(0.0), "{kind:?}");
    }
}

#[tokio::test]
async fn flags_without_effect_say_so_and_others_are_refused() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let flags = ["--max-wals=7", "--pre-vote=false", "--feature-gates=PriorityRequest=true"];
    let cluster = start(kind, &flags).await;
    let log = cluster.member(0).log_text();
    for text in ["--max-wals has no effect", "--pre-vote has no effect", "PriorityRequest=true has no effect"]
    {
        assert!(log.contains(text), "no {text:?} in {log}");
    }
    let mut refused = Cluster::launch(Options::new(kind, 1).flag("--discovery-srv=example.com")).unwrap();
    assert!(!refused.member_mut(0).wait_end(READY_WAIT).unwrap().success());
    assert!(refused.member(0).log_text().contains("--discovery-srv"), "{}", refused.member(0).log_text());
}

/// A sync that does nothing takes microseconds. (etcd times more than the sync with this metric.)
#[tokio::test]
async fn unsafe_no_fsync_leaves_the_syncs_of_the_log_out() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    {
        let seconds = async |flags: &[&str]| {
            let cluster = start(kind, flags).await;
            let client = client(&cluster);
            for number in 0..50 {
                put(&client, "a", format!("{number}")).await.unwrap();
            }
            let shown = metrics(&cluster.member(0).client_address()).await;
            let name = "etcd_disk_wal_fsync_duration_seconds_";
            let value = |suffix: &str| sample(&shown, &format!("{name}{suffix}")).expect("the metric");
            value("sum") / value("count").max(1.0)
        };
        let (with, without) = (seconds(&[]).await, seconds(&["--unsafe-no-fsync"]).await);
        println!("{kind:?}: {with} s and {without} s for a sync");
        assert!(without < with / 2.0, "{kind:?}: {with} s and {without} s");
    }
}

/// `KEELSON_TEST_SMALL_DISK` names a folder on a disk of its own of some 300 MB, such as a tmpfs.
#[tokio::test]
async fn a_nearly_full_disk_stops_writes_before_it_is_full() {
    let (Some(kind), Some(disk)) = (Kind::keelson_only(&[]), std::env::var_os("KEELSON_TEST_SMALL_DISK"))
    else {
        println!("SKIPPED: KEELSON_TEST_SMALL_DISK is not set");
        return;
    };
    let folder = tempfile::TempDir::new_in(disk).unwrap();
    let cluster = start(kind, &[&format!("--data-dir={}", folder.path().join("data").display())]).await;
    let client = client(&cluster);
    put(&client, "a", "1").await.expect("there is room");
    let filler = folder.path().join("filler");
    let output = std::process::Command::new("df")
        .args(["-B1", "--output=avail"])
        .arg(folder.path())
        .output()
        .expect("df");
    let free: usize = String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap().trim().parse().unwrap();
    std::fs::write(&filler, vec![0; free - (16 << 20)]).unwrap();
    let refusal = clock::until(READY_WAIT, || async {
        match put(&client, "a", "2").await {
            Err(status) => Ok(status),
            Ok(_) => Err("writes go on"),
        }
    });
    let no_space = "etcdserver: mvcc: database space exceeded";
    refused(Err::<(), _>(refusal.await.unwrap()), Code::ResourceExhausted, no_space);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    client.kv().delete_range(delete).await.expect("what frees space goes on");
    std::fs::remove_file(&filler).unwrap();
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    assert_eq!(alarms.len(), 1);
    let disarm = pb::AlarmRequest { action: 2, member_id: alarms[0].member_id, alarm: alarms[0].alarm };
    client.maintenance().alarm(disarm).await.unwrap();
    put(&client, "a", "3").await.expect("there is room again");
}
