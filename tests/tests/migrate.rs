//! Data move from a real etcd into Keelson, from a snapshot and from the folder of a killed server, and from a snapshot into a
//! cluster of three: what clients see is the same.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::peers::Program;
use keelson_tests::seen::{look, write};
use keelson_tests::tools::{COMMAND_WAIT, Shell, run};
use tonic::{Code, Request, Status};

const START_WAIT: Duration = Duration::from_secs(30);
const LEASE_WAIT: Duration = Duration::from_secs(30);

fn quick(kind: Kind, size: usize) -> Options {
    Options::new(kind, size).quick().flag("--log-level=error")
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn keelson(arguments: &[String]) -> Output {
    let program = Program::Keelson.find().expect("the tests ask for it first");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&program, &arguments, "", COMMAND_WAIT)
}

/// Runs a command that must succeed; gives what it said on both outputs.
fn done(arguments: &[String]) -> String {
    let output = keelson(arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// The flags that say who a member is.
fn place(cluster: &Cluster, index: usize) -> Vec<String> {
    let members = (0..cluster.size()).map(|index| cluster.member(index));
    let initial: Vec<_> = members.map(|member| format!("{}={}", member.name(), member.peer_url())).collect();
    let member = cluster.member(index);
    vec![
        format!("--name={}", member.name()),
        format!("--data-dir={}", member.data().display()),
        format!("--initial-cluster={}", initial.join(",")),
        format!("--initial-advertise-peer-urls={}", member.peer_url()),
        "--initial-cluster-token=keelson-tests".to_owned(),
    ]
}

fn command(words: &[&str], source: &str, place: Vec<String>) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain([source.to_owned()]).chain(place).collect()
}

fn save(cluster: &Cluster, name: &str) -> String {
    let etcdctl = Program::Etcdctl.find().expect("the tests ask for it first");
    let file = path(&cluster.folder().join(name));
    let shell = Shell::new(etcdctl, cluster.member(0).client_url());
    let (code, out, err) = shell.quiet(&["snapshot", "save", &file], "");
    assert_eq!(code, Some(0), "{out}{err}");
    file
}

async fn put(client: &Client, key: &str, value: &str, lease: i64) -> i64 {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    };
    client.kv().put(request).await.unwrap().into_inner().header.unwrap().revision
}

fn key(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

async fn login(client: &Client, user: &str) -> String {
    let request = pb::AuthenticateRequest { name: user.to_owned(), password: "secret".to_owned() };
    client.auth().authenticate(request).await.expect("the password counts").into_inner().token
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().expect("a token is plain text"));
    request
}

/// `root` gets what makes authentication possible, and it is switched on.
async fn enable_auth(client: &Client) {
    client.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

async fn disable_auth(client: &Client) {
    let root = login(client, "root").await;
    client.auth().auth_disable(with_token(pb::AuthDisableRequest {}, &root)).await.unwrap();
}

async fn clear_alarm(client: &Client) {
    let alarm = pb::AlarmRequest { action: 2, member_id: 99, alarm: 1 };
    client.maintenance().alarm(alarm).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcds_snapshot_becomes_a_member_that_answers_as_it_did() {
    let programs = (Program::Etcdctl.require(), Program::Etcdutl.require(), Program::Etcd.require());
    let ((Some(_), Some(etcdutl), Some(_)), Some(_)) = (programs, Kind::Keelson.require()) else { return };
    let source = Cluster::start(quick(Kind::Etcd, 1)).await.expect("etcd starts");
    let client = Client::for_streams(&source.member(0).client_url());
    let mark = write(&client).await;
    clear_alarm(&client).await;
    // Long enough to be there when the snapshot is taken, short enough to see its end.
    client.lease().lease_grant(pb::LeaseGrantRequest { id: 99, ttl: 4 }).await.unwrap();
    put(&client, "short", "lived", 99).await;
    enable_auth(&client).await;
    let file = save_as_root(&source);
    disable_auth(&client).await;
    let expected = look(&client, mark).await;

    for form in ["simple", "table", "json", "fields"] {
        let theirs = run(&etcdutl, &["snapshot", "status", &file, "-w", form], "", COMMAND_WAIT).stdout;
        let ours = keelson(&["snapshot", "status", &file, "-w", form].map(str::to_owned)).stdout;
        let (theirs, ours) = (String::from_utf8(theirs).unwrap(), String::from_utf8(ours).unwrap());
        assert_eq!(ours.trim_end(), theirs.trim_end());
    }

    let mut target = Cluster::prepare(quick(Kind::Keelson, 1)).unwrap();
    let arguments = command(&["snapshot", "import"], &file, place(&target, 0));
    let preview = done(&[arguments.clone(), vec!["--dry-run".to_owned()]].concat());
    assert!(preview.contains("nothing was written") && !target.member(0).data().exists(), "{preview}");
    let told = done(&arguments);
    assert!(told.contains("authentication on") && told.contains("made "), "{told}");
    let again = keelson(&arguments);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    target.member_mut(0).start().unwrap();
    let client = Client::for_streams(&target.member(0).client_url());
    await_locked(&client).await;
    // Alice may read, and nothing else.
    let alice = login(&client, "alice").await;
    assert!(client.kv().range(with_token(key("k1"), &alice)).await.is_ok());
    let denied = pb::PutRequest { key: "k1".into(), ..Default::default() };
    let status = client.kv().put(with_token(denied, &alice)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    disable_auth(&client).await;
    // The key was there, and goes with its lease, on both servers.
    let past = pb::RangeRequest { revision: expected.revision, ..key("short") };
    assert_eq!(client.kv().range(past).await.unwrap().into_inner().count, 1);
    let found = look(&client, mark).await;
    assert_eq!(found, expected);
    clock::until(LEASE_WAIT, || async {
        match client.kv().range(key("short")).await?.into_inner().count {
            0 => Ok(()),
            _ => Err(Status::unavailable("the key of the lease is still there")),
        }
    })
    .await
    .expect("leases go on");
}

/// Waits for a server that asks who is there.
async fn await_locked(client: &Client) {
    clock::until(START_WAIT, || async {
        match client.kv().range(key("k1")).await {
            Err(status) if status.code() == Code::InvalidArgument => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .expect("the server serves, with authentication on");
}

fn save_as_root(cluster: &Cluster) -> String {
    let etcdctl = Program::Etcdctl.find().expect("the tests ask for it first");
    let file = path(&cluster.folder().join("etcd.db"));
    let shell = Shell::new(etcdctl, cluster.member(0).client_url());
    let (code, out, err) = shell.quiet(&["--user=root:secret", "snapshot", "save", &file], "");
    assert_eq!(code, Some(0), "{out}{err}");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_a_killed_etcd_is_taken_over_to_its_last_write() {
    let (Some(_), Some(_)) = (Program::Etcd.require(), Kind::Keelson.require()) else { return };
    // What is not forced into the database stays in the log alone.
    let lazy = quick(Kind::Etcd, 1).flag("--backend-batch-interval=1h").flag("--backend-batch-limit=1000000");
    let mut source = Cluster::start(lazy).await.expect("etcd starts");
    let client = Client::for_streams(&source.member(0).client_url());
    let mark = write(&client).await;
    clear_alarm(&client).await;
    for number in 0..40 {
        put(&client, &format!("log{}", number % 7), &number.to_string(), 7 * i64::from(number % 3 == 0))
            .await;
    }
    client.lease().lease_grant(pb::LeaseGrantRequest { id: 55, ttl: 3600 }).await.unwrap();
    put(&client, "log0", "leased", 55).await;
    let range = pb::DeleteRangeRequest { key: "log1".into(), range_end: "log3".into(), ..Default::default() };
    client.kv().delete_range(range).await.unwrap();
    let add = pb::AuthUserAddRequest {
        name: "bob".to_owned(),
        password: "secret".to_owned(),
        ..Default::default()
    };
    client.auth().user_add(add).await.unwrap();
    // Without a forced commit behind it: with authentication on, by somebody who may.
    enable_auth(&client).await;
    let root = login(&client, "root").await;
    let by_root = pb::PutRequest { key: "log9".into(), value: "by root".into(), ..Default::default() };
    for _ in 0..50 {
        client.kv().put(with_token(by_root.clone(), &root)).await.unwrap();
    }
    let bob = login(&client, "bob").await;
    assert!(client.kv().put(with_token(by_root, &bob)).await.is_err(), "bob has no role");

    let mut target = Cluster::prepare(quick(Kind::Keelson, 1)).unwrap();
    let folder = path(source.member(0).data());
    let arguments = command(&["snapshot", "import"], &folder, place(&target, 0));
    let refused = keelson(&arguments);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("in use") && text.contains("snapshot save"), "{text}");
    source.member_mut(0).kill();
    let told = done(&arguments);
    let lacking = told.split("its log holds ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(lacking.parse::<usize>().unwrap() > 40, "{told}");

    let mut seen = Vec::new();
    for cluster in [&mut source, &mut target] {
        cluster.member_mut(0).start().unwrap();
        let client = Client::for_streams(&cluster.member(0).client_url());
        await_locked(&client).await;
        login(&client, "bob").await;
        disable_auth(&client).await;
        seen.push(look(&client, mark).await);
    }
    assert_eq!(seen[1], seen[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_restored_from_one_file_form_a_cluster_with_a_future() {
    let (Some(_), Some(_)) = (Program::Etcdctl.require(), Kind::Keelson.require()) else { return };
    let source = Cluster::start(quick(Kind::Keelson, 1)).await.expect("the store starts");
    let client = Client::for_streams(&source.member(0).client_url());
    let mark = write(&client).await;
    clear_alarm(&client).await;
    let before = look(&client, mark).await;
    let file = save(&source, "backup.db");
    let old = client.status().await.unwrap().header.unwrap();

    let mut target = Cluster::prepare(quick(Kind::Keelson, 3)).unwrap();
    for index in 0..3 {
        let told = done(&command(&["snapshot", "restore"], &file, place(&target, index)));
        assert!(told.contains(&format!("({})", target.member(index).name())), "{told}");
    }
    (0..3).for_each(|index| target.member_mut(index).start().unwrap());
    target.wait_ready(START_WAIT).await.expect("the members find each other");
    let clients: Vec<_> =
        (0..3).map(|index| Client::for_streams(&target.member(index).client_url())).collect();
    let revision = put(&clients[0], "new", "life", 0).await;
    assert_eq!(revision, before.revision + 1_000_000_000 + 1);
    let now = clients[1].kv().range(key("new")).await.unwrap().into_inner();
    assert_eq!(now.kvs[0].value, "life");
    let header = now.header.unwrap();
    assert_ne!(header.cluster_id, old.cluster_id, "another cluster");
    // Whoever watched goes back to a list instead of waiting for a past that will not come.
    let past = pb::RangeRequest { revision: before.revision, ..key("k1") };
    assert_eq!(clients[2].kv().range(past).await.unwrap_err().code(), Code::OutOfRange);
    let mut hashes = Vec::new();
    for client in &clients {
        client.ping(START_WAIT).await.unwrap();
        let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner();
        hashes.push((hash.hash, hash.compact_revision));
    }
    assert_eq!(hashes[0].1, before.revision + 1_000_000_000);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let members =
        clients[0].cluster().member_list(pb::MemberListRequest { linearizable: true }).await.unwrap();
    let mut names: Vec<_> = members.into_inner().members.into_iter().map(|member| member.name).collect();
    names.sort();
    assert_eq!(names, ["m1", "m2", "m3"]);
    // What the file held is there.
    let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let all = clients[2].kv().range(all).await.unwrap().into_inner();
    assert_eq!(all.count, before.ranges[0].as_ref().unwrap().count + 1);

    // As it is, on request, and then equal to the store it is from.
    let mut same = Cluster::prepare(quick(Kind::Keelson, 1)).unwrap();
    let mut arguments = command(&["snapshot", "restore"], &file, place(&same, 0));
    arguments.push("--bump-revision=0".to_owned());
    let half = keelson(&[arguments.clone(), vec!["--mark-compacted".to_owned()]].concat());
    assert_eq!(half.status.code(), Some(2), "{}", String::from_utf8_lossy(&half.stderr));
    done(&arguments);
    same.member_mut(0).start().unwrap();
    same.wait_ready(START_WAIT).await.unwrap();
    assert_eq!(look(&Client::for_streams(&same.member(0).client_url()), mark).await, before);
}

#[test]
fn files_that_cannot_be_taken_are_refused_with_a_remedy() {
    let Some(_) = Kind::Keelson.require() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        path(&file)
    };
    let etcd = include_bytes!("../../api/tests/snapshot/etcd-3.7.3-snapshot.db");
    let mut flipped = etcd.to_vec();
    flipped[20_000] ^= 1;
    for (source, problem, remedy) in [
        (path(&folder.path().join("missing")), "read", "check the path"),
        (file("flipped.db", &flipped), "SHA-256", "another copy"),
        (file("bare.db", &etcd[..etcd.len() - 32]), "no SHA-256", "--skip-hash-check"),
        (file("short.db", &etcd[..8192]), "cut off", "another copy"),
        (file("text.db", &[b'x'; 9000]), "no bbolt database", "another copy"),
        (path(folder.path()), "not the data folder of an etcd", "--data-dir of an etcd"),
    ] {
        let target = folder.path().join("target");
        let arguments = ["snapshot", "import", &source, &format!("--data-dir={}", target.display())];
        let output = keelson(&arguments.map(str::to_owned));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(problem) && text.contains("help: ") && text.contains(remedy), "{text}");
        assert!(!target.exists(), "nothing is left of {source}");
    }
}
