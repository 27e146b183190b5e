//! `keelson ctl` beside etcdctl: the same commands on the same server, the same bytes and exit codes.
//!
//! `cargo test -p keelson-tests --test ctl`. Reads and faults are compared byte by byte on one server; changes on two fresh
//! servers, after masking ids and durations. Error lines are compared where etcdctl has more to say than a timeout.
//! Deliberate differences are listed where they are left out: help texts, and what etcdctl breaks off with a panic.

use std::path::{Path, PathBuf};
use std::process::Output;

use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::peers::Program;
use keelson_tests::random::Random;
use keelson_tests::tools::{COMMAND_WAIT, Shell, mask, run};

struct Pair {
    etcdctl: PathBuf,
    keelson: PathBuf,
    endpoints: String,
}

/// Exit code, standard output, and the line of the error.
type Outcome = (Option<i32>, Vec<u8>, Vec<String>);

impl Pair {
    fn of(cluster: &Cluster) -> Option<Self> {
        Some(Self {
            etcdctl: Program::Etcdctl.require()?,
            keelson: Program::Keelson.require()?,
            endpoints: format!("--endpoints={}", cluster.endpoints()),
        })
    }

    fn one(&self, program: &Path, first: &[&str], line: &[&str], stdin: &str) -> Outcome {
        let all: Vec<&str> = first.iter().chain(&[self.endpoints.as_str()]).chain(line).copied().collect();
        let Output { status, stdout, stderr } = run(program, &all, stdin, COMMAND_WAIT);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{line:?}: {stderr}");
        let errors = stderr.lines().filter(|line| line.starts_with("Error:")).map(str::to_owned).collect();
        (status.code(), stdout, errors)
    }

    /// What both print must be the same, after `masked`.
    fn compare_with(&self, line: &[&str], stdin: &str, masked: impl Fn(&str) -> String) {
        let theirs = self.one(&self.etcdctl, &[], line, stdin);
        let ours = self.one(&self.keelson, &["ctl"], line, stdin);
        let shown =
            |(code, out, errors): &Outcome| (*code, masked(&String::from_utf8_lossy(out)), errors.clone());
        assert_eq!(
            shown(&ours),
            shown(&theirs),
            "keelson ctl {} (left) beside etcdctl (right), input {stdin:?}",
            line.join(" ")
        );
    }

    fn compare(&self, line: &str) {
        let words = words(line);
        self.compare_with(&words.iter().map(String::as_str).collect::<Vec<_>>(), "", str::to_owned);
    }

    fn etcdctl(&self, line: &[&str], stdin: &str) -> String {
        let (code, out, errors) = self.one(&self.etcdctl, &[], line, stdin);
        assert_eq!(code, Some(0), "{line:?}: {errors:?}");
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Words of a line; `''` is an empty one.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() }).collect()
}

const FORMS: [&str; 5] = ["simple", "fields", "json", "protobuf", "table"];

async fn each(script: impl AsyncFn(&Pair, &Cluster)) {
    for kind in Kind::each(&[Program::Etcdctl, Program::Keelson]) {
        let options = Options::new(kind, 1).quick().flag("--log-level=error").flag("--bcrypt-cost=4");
        let cluster = Cluster::start(options).await.expect("the server starts");
        let Some(pair) = Pair::of(&cluster) else { return };
        script(&pair, &cluster).await;
    }
}

/// What reads print, in every form, with and without `--hex`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_equal_byte_by_byte() {
    const READS: [&str; 22] = [
        "get foo",
        "get foo --prefix",
        "get '' --prefix",
        "get foo --from-key",
        "get missing",
        "get binary",
        "get leased",
        "get foo zoo",
        "get foo --prefix --limit=1",
        "get foo --prefix --keys-only",
        "get foo --rev=2",
        "get '' --prefix --sort-by=MODIFY --order=DESCEND",
        "member list",
        "member list --consistency=s",
        "lease list",
        "lease timetolive 1234",
        "alarm list",
        "alarm disarm",
        "auth status",
        "role list",
        "role get reader",
        "user list",
    ];
    each(async |pair, _| {
        pair.etcdctl(&["put", "foo", "<b>&\"x\\ "], "");
        pair.etcdctl(&["put", "foo1", "v1"], "");
        pair.etcdctl(&["put", "foo2", "v 2"], "");
        pair.etcdctl(&["put", "zoo", "é日\u{301}\u{200b}\t"], "");
        pair.etcdctl(&["put", "binary"], "\u{0}\u{1}\n\u{7f}\u{2028}");
        pair.etcdctl(&["put", "foo", "new"], "");
        pair.etcdctl(&["del", "foo2"], "");
        let granted = pair.etcdctl(&["lease", "grant", "1000"], "");
        let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
        pair.etcdctl(&["put", "leased", "x", "--lease", &lease], "");
        pair.etcdctl(&["role", "add", "reader"], "");
        pair.etcdctl(&["role", "grant-permission", "reader", "readwrite", "a", "k"], "");
        pair.etcdctl(&["role", "grant-permission", "reader", "read", "dir/", "--prefix"], "");
        pair.etcdctl(&["role", "grant-permission", "reader", "write", "z", "--from-key"], "");
        for form in FORMS {
            for hex in ["", "--hex"] {
                for read in READS {
                    pair.compare(&format!("{read} -w {form} {hex}"));
                }
            }
            let txn = "value(\"foo\") = \"new\"\n\nget foo --prefix\nget missing\n\n\n";
            pair.compare_with(&["txn", "-w", form], txn, str::to_owned);
            pair.compare_with(
                &["txn", "-i", "-w", form],
                "ver(\"foo\") > \"9\"\n\n\nget zoo\n\n",
                str::to_owned,
            );
            // The position in the log moves by itself.
            for moving in ["endpoint status", "endpoint health", "endpoint hashkv"] {
                let line = format!("{moving} -w {form}");
                let words = words(&line);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                pair.compare_with(&words, "", |text| {
                    mask(text).split(['│', '─', ',', '\n']).map(str::trim).map(without_numbers).collect()
                });
            }
        }
        pair.compare("get foo --print-value-only --prefix");
        pair.compare("get foo --count-only --prefix -w fields");
        pair.compare("get foo --prefix --min-mod-rev=3");
        pair.compare("get foo --stream --prefix");
        pair.compare("version");
    })
    .await;
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// What is refused, by the client or by the server: exit code and line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_equal() {
    const FAULTS: &str = "get|get a b --prefix|get a --prefix --from-key|get a --keys-only --count-only|get a --count-only|\
        get a -w bogus|get a --order=x|get a --sort-by=x|get a --consistency=x|get a --print-value-only -w json|get a --limit=x|\
        get a --nope|get --limit|get a --min-mod-rev=5 --max-mod-rev=3|get a --rev=999|get ''|get a -z|put|put a|\
        put a b --ignore-value|put a b --lease=zz|put a b --lease=123|put --ignore-value nokey|del|del a b c|\
        del a --prefix --from-key|compaction|compaction x|compaction 999|lease grant|lease grant x|lease revoke|\
        lease revoke zz|lease revoke 1234|lease timetolive|lease timetolive zz|lease keep-alive|lease keep-alive --once 4321|\
        member add|member add a b http://c:1|member add a|member add a --peer-urls=nonsense|member remove|member remove zz|\
        member remove 1234|member update 1234|member update 1234 --peer-urls=http://127.0.0.1:1|member promote|member promote 1234|\
        move-leader|move-leader zz|move-leader 1234|alarm list x|downgrade validate|downgrade validate 3.5|downgrade validate x|\
        downgrade enable|snapshot save|user add|user add '' --no-password|user add :p|user get nobody|user delete nobody|\
        user grant-role a|user grant-role a b|user revoke-role a|role add|role get nobody|role delete nobody|role grant-permission a|\
        role grant-permission a b c|role grant-permission a read|role revoke-permission a|role revoke-permission a b|auth status x|\
        auth enable|elect|elect a|elect a b -l|lock|watch|watch a --|watch a b --prefix|watch -i|watch a --rev=x|txn x|make-mirror|\
        lock l true|lock l false|check perf --load=z|check datascale --load=z|--user=x:y user list|get a --command-timeout=x|\
        endpoint health -w protobuf|lease list -w table|user list -w fields|move-leader 1 -w table|get a --cert=|get a --cert=x";
    each(async |pair, _| FAULTS.split('|').for_each(|fault| pair.compare(fault.trim()))).await;
}

/// Text forms of transactions: etcdctl reads every line, or refuses it in the same words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_read_alike() {
    const PIECES: [&str; 26] = [
        "value(",
        "ver(",
        "mod(",
        "create(",
        "c(",
        "\"foo\"",
        "\"a\\tb\"",
        "`raw`",
        ")",
        " ",
        "  ",
        "=",
        "!=",
        ">",
        "<",
        "\"1\"",
        "\"\"",
        "'q'",
        "put",
        "get",
        "del",
        "k",
        "--prefix",
        "\"open",
        "é",
        "\\",
    ];
    let seed = keelson_tests::environment::number("KEELSON_TEST_SEED", 7);
    each(async |pair, _| {
        let mut random = Random::new(seed);
        let fixed = [
            "value(\"foo\") = \"1\"",
            "value(\"foo\")= \"1\"",
            "value(\"foo\") =\"1\"",
            "value( \"foo\") = \"1\" rest",
            "ver(\"foo\") = \"x\"",
            "get a",
            "put a \"x y\"",
            "put a 'x y'",
            "put \"a\\tb\" 1",
            "get a --prefix",
            "get a b --prefix",
            "foo bar",
            "get",
            "del k --prev-kv",
        ];
        let made: Vec<String> =
            (0..60).map(|_| (0..2 + random.below(6)).map(|_| *random.pick(&PIECES)).collect()).collect();
        let lines = fixed.iter().map(|line| (*line).to_owned()).chain(made);
        for line in lines {
            let form = ["txn"];
            // An unknown sign makes etcdctl panic; its words for a quote that it cannot read are Go's own.
            let odd = line.contains("==") || line.contains("\\");
            for input in [format!("{line}\n\n\n\n"), format!("\n{line}\n\n\n")] {
                let theirs = pair.one(&pair.etcdctl, &[], &form, &input);
                let ours = pair.one(&pair.keelson, &["ctl"], &form, &input);
                if theirs.0 == Some(2) {
                    assert_eq!(ours.0, Some(3), "etcdctl panics at {line:?}");
                    continue;
                }
                // Go's message repeats what it has read so far: only the beginning is the same.
                let begin = |outcome: &Outcome| {
                    let line =
                        outcome.2.first().map(|line| line.split("; got").next().unwrap_or(line).to_owned());
                    (
                        outcome.0,
                        if odd {
                            None
                        } else {
                            line.map(|line| line.split(" (").next().unwrap_or_default().to_owned())
                        },
                    )
                };
                assert_eq!(begin(&ours), begin(&theirs), "seed {seed}, line {line:?}, input {input:?}");
            }
        }
    })
    .await;
}

/// Changes, each program on a server of its own.
async fn changes(shell: &mut Shell, _: &Cluster) {
    for form in ["simple", "fields", "json"] {
        for hex in ["--hex=false", "--hex"] {
            for line in ["put p 1", "put p 2 --prev-kv", "del q", "del p --prev-kv", "lease grant 77"] {
                let words: Vec<&str> = line.split(' ').chain(["-w", form, hex]).collect();
                shell.run(&words);
            }
        }
        for line in [
            "user add u:p",
            "role add r",
            "role grant-permission r readwrite a b",
            "role grant-permission r read c --prefix",
            "role grant-permission r write d --from-key",
            "user grant-role u r",
            "user get u",
            "user get u --detail",
            "user revoke-role u r",
            "role revoke-permission r a b",
            "role revoke-permission r c --prefix",
            "role revoke-permission r d --from-key",
            "role delete r",
            "user delete u",
        ] {
            let words: Vec<&str> = line.split(' ').chain(["-w", form]).collect();
            shell.run(&words);
        }
    }
    // Members come in the order of their ids, which differ: not for the transcript.
    let added = shell.quiet(&["member", "add", "new", "--peer-urls=http://127.0.0.1:1", "--learner"], "").1;
    let lines: Vec<&str> =
        added.lines().skip(1).map(|line| line.split('=').next().unwrap_or_default()).collect();
    let names = [
        "",
        "ETCD_NAME",
        "ETCD_INITIAL_CLUSTER",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS",
        "ETCD_INITIAL_CLUSTER_STATE",
    ];
    assert_eq!(lines, names, "{added}");
    assert!(
        added.contains("new=http://127.0.0.1:1") && added.contains(" added as learner to cluster "),
        "{added}"
    );
    let listed = shell.quiet(&["member", "list"], "").1;
    let id = listed.lines().find(|line| line.contains("unstarted")).and_then(|line| line.split(',').next());
    let id = id.expect("the new member").to_owned();
    shell.run(&["member", "update", &id, "--peer-urls=http://127.0.0.1:2"]);
    shell.run(&["member", "promote", &id]);
    shell.run(&["member", "remove", &id]);
    shell.run(&["compaction", "4", "--physical"]);
    shell.run(&["downgrade", "validate", "3.6"]);
    shell.run(&["lock", "l", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 7"]);
    let mut watch = shell.start(&[
        "watch",
        "e",
        "--prefix",
        "--",
        "sh",
        "-c",
        "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE",
    ]);
    // A watch begins some time after its program.
    while !watch.has_line() {
        shell.quiet(&["put", "e0", "0"], "");
    }
    shell.run(&["put", "e1", "v \"1\""]);
    watch.await_line("\"PUT\" \"e1\"");
    shell.run(&["del", "e1"]);
    watch.await_line("\"DELETE\" \"e1\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_equal_after_masking() {
    let (Some(etcdctl), Some(keelson)) = (Program::Etcdctl.require(), Program::Keelson.require()) else {
        return;
    };
    for kind in Kind::each(&[Program::Etcdctl]) {
        let mut transcripts = Vec::new();
        for program in [&etcdctl, &keelson] {
            let options = Options::new(kind, 1).quick().flag("--log-level=error").flag("--bcrypt-cost=4");
            let cluster = Cluster::start(options).await.expect("the server starts");
            let mut shell = Shell::new(program.clone(), cluster.endpoints());
            changes(&mut shell, &cluster).await;
            // Short ids are padded.
            transcripts.push(shell.transcript().replace("  ", " "));
        }
        let different = transcripts[0]
            .split("\n\n")
            .zip(transcripts[1].split("\n\n"))
            .find(|(left, right)| left != right);
        if let Some((left, right)) = different {
            panic!("against {kind:?} etcdctl says:\n{left}\n\nkeelson ctl says:\n{right}");
        }
        assert_eq!(transcripts[0], transcripts[1]);
    }
}

/// Keys and their changes arrive at another cluster; the other end is looked at until they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_copies_and_follows() {
    let Some(keelson) = Program::Keelson.require() else { return };
    for kind in Kind::each(&[]) {
        let options = || Options::new(kind, 1).quick().flag("--log-level=error");
        let source = Cluster::start(options()).await.expect("the server starts");
        let target = Cluster::start(options()).await.expect("the server starts");
        let (here, there) = (
            Shell::new(keelson.clone(), source.endpoints()),
            Shell::new(keelson.clone(), target.endpoints()),
        );
        here.quiet(&["put", "app/a", "1"], "");
        here.quiet(&["put", "other", "x"], "");
        let mirror =
            here.start(&["make-mirror", "--prefix=app/", "--dest-prefix=copy/", &target.endpoints()]);
        there.until(&["get", "", "--prefix"], |out| out == "copy/a\n1\n");
        here.quiet(&["put", "app/b", "2"], "");
        here.quiet(&["del", "app/a"], "");
        there.until(&["get", "", "--prefix"], |out| out == "copy/b\n2\n");
        drop(mirror);
    }
}

/// One holds a lock, the other waits for it: etcdctl and Keelson's client exclude each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_exclude_etcdctl() {
    each(async |pair, cluster| {
        let ours = Shell::new(pair.keelson.clone(), cluster.endpoints());
        let theirs = Shell::new(pair.etcdctl.clone(), cluster.endpoints());
        for (first, second) in [(&ours, &theirs), (&theirs, &ours)] {
            let mut holder = first.start(&["lock", "l"]);
            holder.await_count(1);
            let mut waiter = second.start(&["lock", "l", "echo", "mine"]);
            // Both stand in the queue before the first leaves it.
            first.until(&["get", "l/", "--prefix", "--keys-only"], |out| out.matches("l/").count() == 2);
            assert!(!waiter.has_line(), "{:?}: two hold the lock", cluster.options().kind);
            holder.interrupt();
            waiter.await_count(1);
        }
    })
    .await;
}
