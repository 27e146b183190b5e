//! A snapshot saved from the server under test is a whole etcd database: etcdutl reads and restores it, and a real
//! etcd started on it answers as the server did.

use std::path::Path;
use std::time::Duration;

use keelson_proto::{authpb, etcdserverpb as pb};
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::peers::Program;
use keelson_tests::tools::{COMMAND_WAIT, Shell, run};

const START_WAIT: Duration = Duration::from_secs(30);
const LEASES: [i64; 3] = [7, 1 << 40, -5];

/// What clients can see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    hash: (u32, i64, i64),
    /// Everything at several revisions; `None` where it is compacted.
    ranges: Vec<Option<pb::RangeResponse>>,
    leases: Vec<(i64, i64, Vec<Vec<u8>>)>,
    alarms: Vec<pb::AlarmMember>,
    /// Users with their roles, roles with their permissions, and the auth revision.
    auth: Vec<String>,
    /// From the compaction mark on.
    events: Vec<String>,
}

fn everything(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() }
}

/// A history with everything in it: leases, transactions that change several keys, deletions, keys created again,
/// values larger than a page, and a compaction at the revision of a deletion. Gives the mark.
async fn write(client: &Client) -> i64 {
    for id in LEASES {
        client.lease().lease_grant(pb::LeaseGrantRequest { id, ttl: 3600 }).await.unwrap();
    }
    let put = |key: String, value: usize, lease: i64| pb::PutRequest {
        key: key.into(),
        value: vec![b'v'; value].into(),
        lease,
        ..Default::default()
    };
    let mut mark = 0;
    for number in 0..300usize {
        let lease = LEASES.get(number % 10).copied().unwrap_or(0);
        let value = if number % 50 == 0 { 9000 } else { number };
        client.kv().put(put(format!("k{}", number % 37), value, lease)).await.unwrap();
        if number % 20 == 0 {
            let ops = (0..5).map(|op| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put(format!("t{op}"), number, 0))),
            });
            let txn = pb::TxnRequest { success: ops.collect(), ..Default::default() };
            client.kv().txn(txn).await.unwrap();
        }
        if number % 30 == 7 {
            let delete =
                pb::DeleteRangeRequest { key: "k1".into(), range_end: "k2".into(), ..Default::default() };
            let deleted = client.kv().delete_range(delete).await.unwrap().into_inner();
            if number < 150 {
                mark = deleted.header.unwrap().revision;
            }
        }
    }
    for (user, role) in [("root", "root"), ("alice", "reader")] {
        let mut auth = client.auth();
        auth.role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await.unwrap();
        let perm = authpb::Permission { perm_type: 0, key: "k".into(), range_end: "l".into() };
        let grant = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) };
        auth.role_grant_permission(grant).await.unwrap();
        let add = pb::AuthUserAddRequest {
            name: user.to_owned(),
            password: "secret".to_owned(),
            ..Default::default()
        };
        auth.user_add(add).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
        auth.user_grant_role(grant).await.unwrap();
    }
    let request = pb::CompactionRequest { revision: mark, physical: false };
    client.kv().compact(request).await.unwrap();
    client.lease().lease_revoke(pb::LeaseRevokeRequest { id: LEASES[1] }).await.unwrap();
    let alarm = pb::AlarmRequest { action: 1, member_id: 99, alarm: 1 };
    client.maintenance().alarm(alarm).await.unwrap();
    mark
}

async fn look(client: &Client, mark: i64) -> Seen {
    let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    let revision = hash.header.unwrap().revision;
    let mut ranges = Vec::new();
    for at in [0, revision - 1, (mark + revision) / 2, mark + 1, mark, mark - 1, 1] {
        let answer = client.kv().range(everything(at)).await;
        ranges.push(answer.ok().map(|answer| pb::RangeResponse { header: None, ..answer.into_inner() }));
    }
    let mut leases = Vec::new();
    for id in LEASES {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let found = client.lease().lease_time_to_live(request).await.unwrap().into_inner();
        let mut keys: Vec<_> = found.keys.iter().map(|key| key.to_vec()).collect();
        keys.sort();
        leases.push((id, found.granted_ttl, keys));
    }
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    Seen {
        revision,
        hash: (hash.hash, hash.compact_revision, hash.hash_revision),
        ranges,
        leases,
        alarms,
        auth: auth(client).await,
        events: events(client, mark, revision).await,
    }
}

async fn auth(client: &Client) -> Vec<String> {
    let mut auth = client.auth();
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    let mut seen = vec![format!("{} at {}", status.enabled, status.auth_revision)];
    for name in auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users {
        let user = auth.user_get(pb::AuthUserGetRequest { name: name.clone() }).await.unwrap().into_inner();
        seen.push(format!("{name}: {:?}", user.roles));
    }
    for name in auth.role_list(pb::AuthRoleListRequest {}).await.unwrap().into_inner().roles {
        let role = auth.role_get(pb::AuthRoleGetRequest { role: name.clone() }).await.unwrap().into_inner();
        seen.push(format!("{name}: {:?}", role.perm));
    }
    seen
}

async fn events(client: &Client, from: i64, upto: i64) -> Vec<String> {
    let create = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: from,
        prev_kv: true,
        ..Default::default()
    };
    let request =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut stream = client.watch().watch(requests).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut last = 0;
    while last < upto {
        let response = stream.message().await.unwrap().unwrap();
        for event in response.events {
            last = event.kv.as_ref().unwrap().mod_revision;
            seen.push(format!("{event:?}"));
        }
    }
    seen
}

fn utl(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments, "", COMMAND_WAIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdutl {arguments:?}: {text}{errors}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_on_a_restored_snapshot_answers_as_we_do() {
    let programs = (Program::Etcdctl.require(), Program::Etcdutl.require(), Program::Etcd.require());
    let ((Some(etcdctl), Some(etcdutl), Some(_)), Some(_)) = (programs, Kind::subject().require()) else {
        return;
    };
    let quick = |kind| Options::new(kind, 1).quick().flag("--log-level=error");
    let source = Cluster::start(quick(Kind::subject())).await.expect("the server starts");
    let client = Client::for_streams(&source.member(0).client_url());
    let mark = write(&client).await;
    let expected = look(&client, mark).await;

    let file = source.folder().join("snapshot.db");
    let file = file.to_str().expect("a path in UTF-8");
    let (code, out, err) = Shell::new(etcdctl, source.endpoints()).quiet(&["snapshot", "save", file], "");
    assert_eq!(code, Some(0), "{out}{err}");
    let status: serde_json::Value =
        serde_json::from_str(&utl(&etcdutl, &["snapshot", "status", file, "-w", "json"])).expect("JSON");
    assert_eq!(status["revision"], expected.revision);
    assert_eq!(status["totalKey"], expected.ranges[0].as_ref().unwrap().count);
    assert_eq!(status["version"], "3.7.0");
    assert!(status["hash"].as_u64().is_some_and(|hash| hash != 0));

    // An etcd gives its place, ports and name; its data give way to the snapshot.
    let mut target = Cluster::start(quick(Kind::Etcd)).await.expect("etcd starts");
    let member = target.member_mut(0);
    member.kill();
    std::fs::remove_dir_all(member.data()).unwrap();
    let initial = format!("{}={}", member.name(), member.peer_url());
    let data = member.data().to_str().expect("a path in UTF-8").to_owned();
    let (name, peer) = (member.name().to_owned(), member.peer_url());
    let restore = ["snapshot", "restore", file, "--data-dir", &data, "--name", &name];
    let place = [
        "--initial-cluster",
        &initial,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster-token=keelson-tests",
    ];
    utl(&etcdutl, &[restore.as_slice(), &place].concat());
    member.start().expect("etcd starts on the snapshot");
    target.wait_ready(START_WAIT).await.expect("etcd serves the snapshot");
    let found = look(&Client::for_streams(&target.member(0).client_url()), mark).await;
    assert_eq!(found, expected);
    assert!(expected.ranges.iter().filter(|range| range.is_none()).count() == 2, "two are compacted");
    // The password that was given to one server is the one the other takes.
    let client = Client::for_streams(&target.member(0).client_url());
    client.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let login = pb::AuthenticateRequest { name: "alice".to_owned(), password: "secret".to_owned() };
    client.auth().authenticate(login).await.expect("the password counts");
}
