//! The quorum is lost for good: one member's folder becomes a cluster of one, with everything it had, and the old members stay
//! strangers to it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::peers::Program;
use keelson_tests::tools::{COMMAND_WAIT, run};

const START_WAIT: Duration = Duration::from_secs(30);

fn recover(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let program = Program::Keelson.find().expect("the tests ask for it first");
    let folder = format!("--data-dir={}", folder.display());
    let arguments = [&["recover", &folder], more].concat();
    let Output { status, stdout, stderr } = run(&program, &arguments, "", COMMAND_WAIT);
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

async fn put(client: &Client, key: &str, value: &str) {
    let request =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    client.kv().put(request).await.unwrap();
}

async fn get(client: &Client, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = client.kv().range(request).await.unwrap().into_inner().kvs.into_iter().next();
    found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

async fn hash(client: &Client) -> (u32, i64) {
    let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    (hash.hash, hash.hash_revision)
}

async fn member_names(client: &Client) -> Vec<String> {
    let members = client.cluster().member_list(pb::MemberListRequest { linearizable: true }).await.unwrap();
    members.into_inner().members.into_iter().map(|member| member.name).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_comes_back_alone_with_all_it_had() {
    let Some(_) = Kind::Keelson.require() else { return };
    let options = Options::new(Kind::Keelson, 3).quick().flag("--log-level=error");
    let mut cluster = Cluster::start(options).await.expect("three members start");
    let url = cluster.member(0).client_url();
    let client = Client::lazy(&url);
    for number in 0..50 {
        put(&client, &format!("k{}", number % 9), &number.to_string()).await;
    }
    // Everything is applied where it was acknowledged.
    let before = hash(&client).await;
    let old = client.status().await.unwrap().header.unwrap();
    let folder = cluster.member(0).data().to_owned();

    let (code, text) = recover(&folder, &["--yes"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stop the member"), "{text}");
    (0..3).for_each(|index| cluster.member_mut(index).kill());

    let identity = std::fs::read(folder.join("identity.json")).unwrap();
    let (code, text) = recover(&folder, &[]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["m1 voter", "m2 voter", "m3 voter", "lost: ", "nothing was changed", "(this one)"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert_eq!(std::fs::read(folder.join("identity.json")).unwrap(), identity);

    // The power fails between the two renames: the store refuses, the command begins again.
    let cut = cluster.folder().join("cut");
    copy(&folder, &cut);
    std::fs::rename(cut.join("wal"), cut.join(format!("wal.of-{:x}", old.cluster_id))).unwrap();
    let (code, text) = recover(&cut, &["--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(cut.join("wal").is_dir() && text.contains("done: "), "{text}");
    assert_eq!(std::fs::read_dir(&cut).unwrap().count(), 3, "identity, log and data");

    let (code, text) = recover(&folder, &["--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("done: ") && text.contains("is alone"), "{text}");
    let (_, again) = recover(&folder, &["--yes"]);
    assert!(again.contains("nothing to recover"), "{again}");

    cluster.member_mut(0).start().unwrap();
    cluster.wait_member_ready(0, START_WAIT).await.expect("it leads itself");
    let client = Client::lazy(&url);
    assert_eq!(hash(&client).await, before);
    let new = client.status().await.unwrap().header.unwrap();
    assert_ne!(new.cluster_id, old.cluster_id);
    assert_eq!(new.member_id, old.member_id);
    assert_eq!(member_names(&client).await, ["m1"]);

    // The others come back where they were: a quorum of the old cluster, and no business of the new one.
    for index in 1..3 {
        cluster.member_mut(index).start().unwrap();
    }
    for index in 1..3 {
        cluster.wait_member_ready(index, START_WAIT).await.expect("two of three serve");
    }
    put(&Client::lazy(&cluster.member(1).client_url()), "zombie", "walks").await;
    put(&client, "alone", "lives").await;
    assert_eq!(get(&client, "zombie").await, None);
    assert_eq!(get(&Client::lazy(&cluster.member(2).client_url()), "alone").await, None);
    assert_eq!(member_names(&client).await, ["m1"]);
    (1..3).for_each(|index| cluster.member_mut(index).kill());

    // It grows again.
    let joining = cluster.prepare_joining().unwrap();
    let request =
        pb::MemberAddRequest { peer_ur_ls: vec![cluster.member(joining).peer_url()], ..Default::default() };
    client.cluster().member_add(request).await.unwrap();
    cluster.member_mut(joining).start().unwrap();
    cluster.wait_member_ready(joining, START_WAIT).await.expect("a new member joins");
    assert_eq!(get(&Client::lazy(&cluster.member(joining).client_url()), "alone").await.unwrap(), "lives");

    // etcd's flag does the same at a start, once.
    cluster.member_mut(2).add_flag("--force-new-cluster");
    for _ in 0..2 {
        cluster.member_mut(2).start().unwrap();
        cluster.wait_member_ready(2, START_WAIT).await.expect("it leads itself");
        let third = Client::lazy(&cluster.member(2).client_url());
        assert_eq!(member_names(&third).await, ["m3"]);
        assert_eq!(get(&third, "zombie").await.unwrap(), "walks");
        cluster.member_mut(2).kill();
    }
    let (code, text) = recover(&cluster.folder().join("nothing"), &[]);
    assert!(code == Some(1) && text.contains("no identity.json"), "{text}");
}

fn replace(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let program = Program::Keelson.find().expect("the tests ask for it first");
    let endpoints = format!("--endpoints={url}");
    let arguments = [&["member", "replace"], arguments, &[&endpoints]].concat();
    let Output { status, stdout, stderr } = run(&program, &arguments, "", COMMAND_WAIT);
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_dead_member_is_replaced_by_one_command_and_a_quorum_is_never_risked() {
    let Some(_) = Kind::Keelson.require() else { return };
    let options = Options::new(Kind::Keelson, 3).quick().flag("--log-level=error");
    let mut cluster = Cluster::start(options).await.expect("three members start");
    let url = cluster.member(0).client_url();
    let client = Client::lazy(&url);
    put(&client, "k", "v").await;
    let id = Client::lazy(&cluster.member(2).client_url()).status().await.unwrap().header.unwrap().member_id;
    let id = format!("{id:x}");
    cluster.member_mut(2).kill();
    let joining = cluster.prepare_joining().unwrap();
    let peer = cluster.member(joining).peer_url();
    let (name, peers) = (format!("--name={}", cluster.member(joining).name()), format!("--peer-urls={peer}"));

    // What cannot be, and what is not safe.
    let (code, text) = replace(&["77", &name, &peers], &url);
    assert!(code == Some(1) && text.contains("has no member 77"), "{text}");
    let (code, text) = replace(&[&id, &name, &format!("--peer-urls={}", cluster.member(2).peer_url())], &url);
    assert!(code == Some(1) && text.contains("another port or host"), "{text}");
    cluster.member_mut(1).kill();
    let (code, text) = replace(&[&id, &name, &peers, "--yes"], &url);
    assert!(code == Some(1) && text.contains("quorum"), "{text}");
    cluster.member_mut(1).start().unwrap();
    cluster.wait_member_ready(1, START_WAIT).await.unwrap();

    // A preview changes nothing.
    let preview = async || {
        let (code, text) = replace(&[&id, &name, &peers], &url);
        (code == Some(0) && text.contains("as a learner") && text.contains("nothing was changed"))
            .then_some(())
            .ok_or(text)
    };
    // The member that came back may take a moment to be seen.
    keelson_tests::clock::until(START_WAIT, preview).await.unwrap();
    assert_eq!(member_names(&client).await.len(), 3);

    let arguments = [id.clone(), name, peers, "--yes".to_owned()];
    let asked = url.clone();
    let command = std::thread::spawn(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        replace(&arguments, &asked)
    });
    // The dead one goes first, then the learner is there, without a name.
    keelson_tests::clock::until(START_WAIT, || async {
        let names = member_names(&client).await;
        if names.len() == 3 && names.contains(&String::new()) { Ok(()) } else { Err(names) }
    })
    .await
    .expect("the learner is added");
    cluster.member_mut(joining).start().unwrap();
    let (code, text) = tokio::task::spawn_blocking(move || command.join().unwrap()).await.unwrap();
    assert_eq!(code, Some(0), "{text}");
    for part in ["added learner", "--initial-cluster-state=existing", "promoted", "removed"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let members = client.cluster().member_list(pb::MemberListRequest { linearizable: true }).await.unwrap();
    let members = members.into_inner().members;
    let mut names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["m1", "m2", "m4"]);
    assert!(members.iter().all(|member| !member.is_learner));
    let new = Client::lazy(&cluster.member(joining).client_url());
    assert_eq!(get(&new, "k").await.unwrap(), "v");

    // One that is well goes last: a learner first, and never fewer voters than before.
    let leaving = Client::lazy(&cluster.member(1).client_url()).status().await.unwrap();
    let leaving = format!("{:x}", leaving.header.unwrap().member_id);
    let joining = cluster.prepare_joining().unwrap();
    let arguments = [
        leaving,
        format!("--name={}", cluster.member(joining).name()),
        format!("--peer-urls={}", cluster.member(joining).peer_url()),
        "--yes".to_owned(),
    ];
    let asked = url.clone();
    let command = std::thread::spawn(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        replace(&arguments, &asked)
    });
    keelson_tests::clock::until(START_WAIT, || async {
        match member_names(&client).await.len() {
            4 => Ok(()),
            count => Err(count),
        }
    })
    .await
    .expect("the learner is added beside all three");
    cluster.member_mut(joining).start().unwrap();
    let (code, text) = tokio::task::spawn_blocking(move || command.join().unwrap()).await.unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.find("promoted") < text.find("removed "), "{text}");
    let mut names = member_names(&client).await;
    names.sort_unstable();
    assert_eq!(names, ["m1", "m4", "m5"]);
}
