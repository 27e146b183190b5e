//! A snapshot saved from the server under test is a whole etcd database: etcdutl reads and restores it, and a real
//! etcd started on it answers as the server did.

use std::path::Path;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::peers::Program;
use keelson_tests::seen::{look, write};
use keelson_tests::tools::{COMMAND_WAIT, Shell, run};

const START_WAIT: Duration = Duration::from_secs(30);
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
