//! etcdctl against the server under test and against real etcd: the same commands, the same output.
//!
//! `cargo test -p keelson-tests --test etcdctl`. Three clients: the pinned release, 3.4 of the Debian package, and `keelson ctl`,
//! which has to give the transcripts of the pinned one. Compared are exit codes, standard output and error texts, after masking ids, ports and durations (see `tools`).

use std::path::{Path, PathBuf};

use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use keelson_tests::missing::{Feature, lacks};
use keelson_tests::peers::Program;
use keelson_tests::tools::{Shell, run};

/// Always two, even if the one under test is etcd itself: the transcripts of both are compared.
fn servers() -> Vec<Kind> {
    let kinds = vec![Kind::Etcd, Kind::subject()];
    if kinds.iter().any(|kind| kind.require().is_none()) {
        return Vec::new();
    }
    kinds
}

/// Runs a script on fresh clusters of both servers and compares the transcripts.
async fn compare(
    client: Program,
    size: usize,
    needs: Option<Feature>,
    script: impl AsyncFn(&mut Shell, &Cluster),
) {
    let Some(program) = client.require() else { return };
    let mut runs: Vec<(Kind, PathBuf)> = servers().into_iter().map(|kind| (kind, program.clone())).collect();
    if client == Program::Etcdctl && !runs.is_empty() {
        runs.extend(Program::Keelson.require().map(|ctl| (Kind::subject(), ctl)));
    }
    let mut transcripts = Vec::new();
    for (kind, program) in runs {
        let options = Options::new(kind, size).quick().flag("--log-level=error").flag("--bcrypt-cost=4");
        let cluster = Cluster::start(options).await.expect("the servers start");
        if let Some(feature) = needs
            && lacks(&cluster, feature).await
        {
            return;
        }
        let mut shell = Shell::new(program, cluster.endpoints());
        script(&mut shell, &cluster).await;
        transcripts.push(shell.transcript());
    }
    let Some((etcd, others)) = transcripts.split_first() else { return };
    for (other, name) in others.iter().zip(["by etcdctl", "by keelson ctl"]) {
        let different = etcd.split("\n\n").zip(other.split("\n\n")).find(|(left, right)| left != right);
        if let Some((left, right)) = different {
            panic!("etcd says:\n{left}\n\n{:?} {name} says:\n{right}", Kind::subject());
        }
        assert_eq!(etcd, other);
    }
    {
        if keelson_tests::environment::switch("KEELSON_TEST_LOGS") {
            println!("{etcd}");
        }
        println!("{} commands with equal answers", etcd.matches("$ etcdctl").count());
    }
}

/// Commands that both releases of the client know.
async fn keys(shell: &mut Shell, _: &Cluster) {
    for (key, value) in [("foo", "bar"), ("foo1", "bar1"), ("foo2", "bar2"), ("zoo", "val")] {
        shell.run(&["put", key, value]);
    }
    shell.run(&["put", "foo", "new", "--prev-kv"]);
    shell.run(&["get", "foo"]);
    shell.run(&["get", "missing"]);
    shell.run(&["get", "foo", "foo2"]);
    shell.run(&["get", "foo", "--prefix", "--limit=2"]);
    shell.run(&["get", "foo", "--prefix", "--keys-only"]);
    shell.run(&["get", "foo", "--prefix", "--print-value-only", "--order=DESCEND", "--sort-by=MODIFY"]);
    shell.run(&["get", "foo", "--from-key", "--count-only", "--write-out=fields"]);
    shell.run(&["get", "foo", "--rev=2"]);
    shell.run(&["get", "foo", "--rev=99"]);
    shell.run(&["get", "foo", "--consistency=s"]);
    shell.run(&["get", "--hex", "foo"]);
    shell.run_json(&["get", "foo", "--prefix", "-w", "json"], &["raft_term"]);
    shell.run(&["del", "foo1", "--prev-kv"]);
    shell.run(&["del", "zoo", "--from-key"]);
    shell.run(&["del", "missing"]);
    shell.run(&["put", "leased", "x", "--lease=1234"]);
    shell.run(&["put", "foo", "--ignore-value", "--ignore-lease"]);
    shell.run(&["put", "", "x"]);
    shell.run_with(&["put", "from-stdin"], "value on stdin");
    shell.run(&["get", "from-stdin"]);
}

async fn transactions(shell: &mut Shell, _: &Cluster) {
    shell.run(&["put", "a", "1"]);
    let script = "value(\"a\") = \"1\"\nver(\"missing\") = \"0\"\n\nput b from-then\nget a\ndel missing\n\nput b from-else\n\n";
    shell.run_with(&["txn"], script);
    shell.run_with(&["txn"], "mod(\"a\") > \"100\"\n\nput b x\n\nget b\nput c from-else\n\n");
    shell.run_with(&["txn", "-i"], "create(\"a\") = \"2\"\n\nget a\n\n\n");
    shell.run_with(&["txn"], "\nput d 1\nput d 2\n\n\n");
    shell.run(&["get", "", "--from-key"]);
}

async fn watches(shell: &mut Shell, _: &Cluster) {
    shell.run(&["put", "w", "1"]);
    let mut watch = shell.start(&["watch", "w", "--prefix", "--rev=2", "--prev-kv"]);
    shell.await_lines(&mut watch, 3);
    shell.run(&["put", "w", "2"]);
    shell.run(&["del", "w"]);
    // PUT, key and previous value, key and value; DELETE with its own.
    shell.await_lines(&mut watch, 12);
    shell.stop(watch);
    let mut json = shell.start(&["watch", "w", "--rev=2", "-w", "json"]);
    shell.await_lines(&mut json, 1);
    // How many responses the history comes in is the server's choice.
    drop(json);
    shell.run(&["compaction", "3"]);
    shell.run(&["compaction", "3"]);
    shell.run(&["compaction", "99"]);
    shell.run(&["get", "w", "--rev=2"]);
    let mut gone = shell.start(&["watch", "w", "--rev=1"]);
    // The error goes to standard error; that the command ends is what counts.
    shell.await_lines(&mut gone, 0);
    shell.stop(gone);
}

async fn leases(shell: &mut Shell, cluster: &Cluster) {
    // Each member lists the leases it has applied: grant and list through the same one.
    shell.use_endpoints(cluster.member(cluster.size() - 1).client_address());
    let granted = shell.run(&["lease", "grant", "100"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    shell.run(&["put", "leased", "x", &format!("--lease={id}")]);
    shell.run(&["lease", "list"]);
    let left = shell.quiet(&["lease", "timetolive", &id, "--keys"], "").1;
    assert!(left.contains("granted with TTL(100s)") && left.contains("attached keys([leased])"), "{left}");
    shell.run(&["lease", "keep-alive", "--once", &id]);
    shell.run(&["lease", "revoke", &id]);
    shell.run(&["get", "leased"]);
    shell.run(&["lease", "revoke", &id]);
    shell.run(&["lease", "timetolive", &id]);
    shell.run(&["lease", "keep-alive", "--once", &id]);
    shell.run(&["lease", "list"]);
}

/// What differs between any two servers in a status.
const STATUS_FIELDS: [&str; 8] =
    ["dbSize", "dbSizeInUse", "raftIndex", "raftTerm", "raftAppliedIndex", "raft_term", "leader", "Endpoint"];

async fn operating(shell: &mut Shell, cluster: &Cluster) {
    // etcd settles the cluster's version some time after it starts serving; 3.4 of the client does not show it.
    let settled = |out: &str| out.matches("\"storageVersion\":\"3.7").count() == cluster.size();
    if !shell.quiet(&["version"], "").1.contains("version: 3.4") {
        shell.until(&["endpoint", "status", "-w", "json"], settled);
    }
    if cluster.size() == 1 {
        shell.run(&["endpoint", "health"]);
        shell.run(&["member", "list"]);
    }
    shell.run_json(&["endpoint", "status", "-w", "json"], &STATUS_FIELDS);
    shell.run_json(&["endpoint", "hashkv", "-w", "json"], &["raft_term", "Endpoint"]);
    shell.run(&["alarm", "list"]);
    shell.run(&["alarm", "disarm"]);
    shell.run(&["defrag"]);
    shell.run(&["member", "remove", "1234"]);
    shell.run(&["member", "add", "x", "--peer-urls=nonsense"]);
    shell.run(&["move-leader", "1234"]);
}

async fn moving(shell: &mut Shell, cluster: &Cluster) {
    let leader = cluster.leader(READY_WAIT).await.expect("a leader");
    let target = (leader + 1) % cluster.size();
    let client = keelson_tests::client::Client::lazy(&cluster.member(target).client_url());
    let id = format!("{:x}", client.status().await.unwrap().header.unwrap().member_id);
    shell.use_endpoints(cluster.member(target).client_url());
    shell.run(&["move-leader", &id]);
    shell.use_endpoints(cluster.member(leader).client_url());
    shell.run(&["move-leader", &id]);
    assert_eq!(cluster.leader(READY_WAIT).await.expect("a leader"), target);
    shell.use_endpoints(cluster.endpoints());
    shell.run(&["put", "after", "moving"]);
    shell.run(&["get", "after"]);
}

async fn recipes(shell: &mut Shell, _: &Cluster) {
    shell.run(&["lock", "l", "echo", "held"]);
    let mut elected = shell.start(&["elect", "e", "proposal"]);
    shell.await_lines(&mut elected, 2);
    shell.stop(elected);
}

async fn authentication(shell: &mut Shell, _: &Cluster) {
    shell.run(&["role", "add", "root"]);
    shell.run(&["role", "add", "reader"]);
    shell.run(&["role", "add", "reader"]);
    shell.run(&["role", "grant-permission", "reader", "read", "foo"]);
    shell.run(&["role", "grant-permission", "--prefix=true", "reader", "readwrite", "dir/"]);
    shell.run(&["role", "get", "reader"]);
    shell.run(&["role", "list"]);
    shell.run(&["user", "add", "root:pw"]);
    shell.run(&["auth", "enable"]);
    shell.run(&["user", "grant-role", "root", "root"]);
    shell.run(&["user", "add", "alice:pw"]);
    shell.run(&["user", "grant-role", "alice", "reader"]);
    shell.run(&["user", "get", "alice"]);
    shell.run(&["auth", "enable"]);
    shell.run(&["get", "foo"]);
    shell.run(&["--user=alice:pw", "get", "foo"]);
    shell.run(&["--user=alice:wrong", "get", "foo"]);
    shell.run(&["--user=alice:pw", "put", "foo", "x"]);
    shell.run(&["--user=alice:pw", "put", "dir/x", "x"]);
    shell.run(&["--user=alice:pw", "get", "dir/", "--prefix"]);
    shell.run(&["--user=alice:pw", "user", "list"]);
    shell.run(&["--user=root:pw", "user", "list"]);
    shell.run(&["--user=root:pw", "role", "revoke-permission", "reader", "foo"]);
    shell.run(&["--user=alice:pw", "get", "foo"]);
    shell.run_with(&["--user=root:pw", "user", "passwd", "alice", "--interactive=false"], "new\n");
    shell.run(&["--user=alice:new", "get", "dir/x"]);
    shell.run(&["--user=root:pw", "user", "revoke-role", "alice", "reader"]);
    shell.run(&["--user=root:pw", "user", "delete", "alice"]);
    shell.run(&["--user=root:pw", "role", "delete", "reader"]);
    shell.run(&["--user=root:pw", "auth", "disable"]);
    shell.run(&["get", "dir/x"]);
}

macro_rules! scripts {
    ($($name:ident: $client:ident, $size:literal, $script:ident $(needs $needs:ident)?;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let needs: &[Feature] = &[$(Feature::$needs)?];
                compare(Program::$client, $size, needs.first().copied(), $script).await;
            }
        )*
    };
}

scripts! {
    keys_on_one_member: Etcdctl, 1, keys;
    keys_on_three_members: Etcdctl, 3, keys;
    keys_with_the_old_client: EtcdctlDebian, 1, keys;
    transactions_on_one_member: Etcdctl, 1, transactions;
    transactions_with_the_old_client: EtcdctlDebian, 3, transactions;
    watches_on_one_member: Etcdctl, 1, watches;
    watches_on_three_members: Etcdctl, 3, watches;
    watches_with_the_old_client: EtcdctlDebian, 1, watches;
    leases_on_one_member: Etcdctl, 1, leases;
    leases_on_three_members: Etcdctl, 3, leases;
    leases_with_the_old_client: EtcdctlDebian, 1, leases;
    operating_one_member: Etcdctl, 1, operating;
    operating_three_members: Etcdctl, 3, operating;
    operating_with_the_old_client: EtcdctlDebian, 1, operating;
    moving_the_leader: Etcdctl, 3, moving;
    recipes_on_one_member: Etcdctl, 1, recipes;
    recipes_on_three_members: Etcdctl, 3, recipes;
    authentication_on_one_member: Etcdctl, 1, authentication needs Auth;
    authentication_with_the_old_client: EtcdctlDebian, 3, authentication needs Auth;
}

/// A snapshot taken by etcdctl is what etcdutl says it is: it can be read, and restored into a real etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_snapshot_is_read_by_etcdutl() {
    let (Some(etcdctl), Some(etcdutl)) = (Program::Etcdctl.require(), Program::Etcdutl.require()) else {
        return;
    };
    let mut seen = Vec::new();
    for kind in servers() {
        let options = Options::new(kind, 1).quick().flag("--log-level=error");
        let cluster = Cluster::start(options).await.expect("the server starts");
        let shell = Shell::new(etcdctl.clone(), cluster.endpoints());
        for number in 0..20 {
            shell.quiet(&["put", &format!("k{}", number % 7), &number.to_string()], "");
        }
        shell.quiet(&["del", "k3"], "");
        let file = cluster.folder().join("snapshot.db");
        let path = file.to_str().expect("a path in UTF-8");
        let (code, out, err) = shell.quiet(&["snapshot", "save", path], "");
        assert_eq!(code, Some(0), "{out}{err}");
        let status = utl(&etcdutl, &["snapshot", "status", path, "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let restored = cluster.folder().join("restored");
        utl(&etcdutl, &["snapshot", "restore", path, "--data-dir", restored.to_str().expect("a path")]);
        let hash = utl(&etcdutl, &["hashkv", restored.join("member/snap/db").to_str().expect("a path")]);
        seen.push((status["revision"].clone(), status["totalKey"].clone(), hash));
    }
    if let [etcd, subject] = &seen[..] {
        assert_eq!(etcd, subject, "revision, keys and hash of the snapshot");
    }
}

fn utl(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments, "", keelson_tests::tools::COMMAND_WAIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "etcdutl {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
