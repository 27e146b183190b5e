//! TLS between real processes: who is served, who is refused, what a rotation of files does, and each flag about it.
//!
//! `cargo test -p keelson-tests --test tls`. The clients are etcdctl of the pinned release and `openssl s_client`. What etcd
//! promises, too, is asked of etcd first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_tests::certificates::{Authority, Leaf, Pair, Subject, write};
use keelson_tests::clock::{Deadline, pause_thread};
use keelson_tests::cluster::{Cluster, Kind, Options, READY_WAIT};
use keelson_tests::http::raw;
use keelson_tests::peers::Program;
use keelson_tests::tools::{Shell, run};
use tempfile::TempDir;

/// How long something that must not happen is given to happen.
const NEVER: Duration = Duration::from_secs(2);

/// Authorities, certificates and their files for one test.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Files { folder: TempDir::new().expect("a folder"), authority: Authority::new("tests") };
        write(files.path(), "ca.pem", &files.authority.pem());
        files
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ca(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// A certificate of the authority, written down.
    fn issue(&self, file: &str, subject: Subject<'_>) -> Pair {
        self.authority.issue(subject).write(self.path(), file)
    }

    /// Flags of members that demand certificates on both ports.
    fn mutual(&self) -> Vec<String> {
        let server = self.issue("server", Subject::local("server"));
        let ca = self.ca();
        let mut flags = vec![
            format!("--trusted-ca-file={}", ca.display()),
            "--client-cert-auth".to_owned(),
            format!("--peer-trusted-ca-file={}", ca.display()),
            "--peer-client-cert-auth".to_owned(),
        ];
        flags.extend(server.flags("", "-file"));
        flags.extend(server.flags("peer-", "-file"));
        flags
    }
}

/// etcdctl with certificates.
struct Client {
    shell: Shell,
    tls: Vec<String>,
}

impl Client {
    fn new(endpoints: String, ca: &Path, pair: Option<&Pair>) -> Self {
        let mut tls = vec![format!("--cacert={}", ca.display())];
        tls.extend(pair.map(|pair| pair.flags("", "")).into_iter().flatten());
        Self::with(endpoints, tls)
    }

    fn with(endpoints: String, mut tls: Vec<String>) -> Self {
        let program = Program::Etcdctl.require().expect("checked by `Kind::each`");
        tls.extend(["--command-timeout=3s".to_owned(), "--dial-timeout=2s".to_owned()]);
        Client { shell: Shell::new(program, endpoints), tls }
    }

    fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let all: Vec<&str> = self.tls.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        match self.shell.quiet(&all, "") {
            (Some(0), out, _) => Ok(out),
            (_, out, err) => Err(out + &err),
        }
    }

    /// Repeats a command until it succeeds.
    #[track_caller]
    fn until(&self, arguments: &[&str]) -> String {
        let deadline = Deadline::after(READY_WAIT);
        loop {
            match self.call(arguments) {
                Ok(out) => return out,
                Err(error) => assert!(!deadline.passed(), "etcdctl {arguments:?}: {error}"),
            }
            pause_thread(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) {
        if let Ok(out) = self.call(arguments) {
            panic!("etcdctl {arguments:?} was served: {out}");
        }
    }
}

const NEEDED: &[Program] = &[Program::Etcdctl, Program::Openssl];

fn options(kind: Kind, size: usize, flags: &[String]) -> Options {
    Options::new(kind, size).quick().secure().flag("--log-level=info").flag_all(flags)
}

/// Waits until a member's log has a text.
#[track_caller]
fn await_log(cluster: &Cluster, index: usize, text: &str) {
    let deadline = Deadline::after(READY_WAIT);
    while !cluster.member(index).log_text().contains(text) {
        assert!(!deadline.passed(), "no {text:?} in\n{}", cluster.member(index).log_tail());
        pause_thread(Duration::from_millis(10));
    }
}

/// What `openssl s_client` says about a connection; it ends at once because its input is empty.
fn handshake(address: &str, files: &Files, pair: &Pair, extra: &[&str]) -> Result<String, String> {
    let program = Program::Openssl.require().expect("checked by `Kind::each`");
    let (ca, cert, key) = (files.ca(), &pair.cert, &pair.key);
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (path(&ca), path(cert), path(key));
    let mut arguments =
        vec!["s_client", "-connect", address, "-CAfile", &ca, "-cert", &cert, "-key", &key, "-brief"];
    arguments.extend(extra);
    let output = run(&program, &arguments, "", Duration::from_secs(20));
    // The summary goes to standard error.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

#[test]
fn three_members_serve_clients_of_their_authority_and_nobody_else() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let cluster = Cluster::launch(options(kind, 3, &files.mutual())).expect("the servers start");
        let good = files.issue("client", Subject { name: "client", hosts: &[], expired: false });
        for index in 0..3 {
            let endpoint = cluster.member(index).client_url();
            let client = Client::new(endpoint, &files.ca(), Some(&good));
            client.until(&["get", "ready"]);
            client.until(&["put", "from", &index.to_string()]);
        }
        let endpoint = cluster.member(1).client_url();
        let other = Authority::new("other");
        let stranger = other.issue(Subject::local("client")).write(files.path(), "stranger");
        let expired = files.issue("expired", Subject { expired: true, ..Subject::local("client") });
        for pair in [None, Some(&stranger), Some(&expired)] {
            Client::new(endpoint.clone(), &files.ca(), pair).refused(&["get", "from"]);
        }
        let plain = Client::with(cluster.member(1).client_url().replace("https", "http"), Vec::new());
        plain.refused(&["get", "from"]);
        // A client that does not trust the server does not talk to it.
        let other_ca = write(files.path(), "other-ca.pem", &other.pem());
        Client::new(endpoint.clone(), &other_ca, Some(&good)).refused(&["get", "from"]);
        assert_eq!(Client::new(endpoint, &files.ca(), Some(&good)).until(&["get", "from"]), "from\n2\n");
    }
}

#[test]
fn a_member_of_another_authority_or_expired_does_not_get_in() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let mut cluster = Cluster::prepare(options(kind, 3, &files.mutual())).expect("the servers");
        let stranger = Authority::new("other").issue(Subject::local("m2")).write(files.path(), "m2");
        let expired = files.issue("m3", Subject { expired: true, ..Subject::local("m3") });
        for (index, pair) in [(1, &stranger), (2, &expired)] {
            pair.flags("peer-", "-file")
                .into_iter()
                .for_each(|flag| cluster.member_mut(index).add_flag(flag));
        }
        for index in 0..3 {
            cluster.member_mut(index).start().expect("a start");
        }
        let client = files.issue("client", Subject { name: "client", hosts: &[], expired: false });
        pause_thread(NEVER);
        for index in 0..3 {
            let client = Client::new(cluster.member(index).client_url(), &files.ca(), Some(&client));
            client.refused(&["get", "no-quorum-of-trusted-members"]);
        }
        if kind == Kind::Keelson {
            await_log(&cluster, 0, "issued by a CA that is not in");
            await_log(&cluster, 0, "has expired");
        }
        // With certificates of the authority the same members form the cluster.
        let good = files.issue("renewed", Subject::local("renewed"));
        for index in [1, 2] {
            cluster.member_mut(index).kill();
            good.flags("peer-", "-file")
                .into_iter()
                .for_each(|flag| cluster.member_mut(index).add_flag(flag));
            cluster.member_mut(index).start().expect("a start");
        }
        Client::new(cluster.endpoints(), &files.ca(), Some(&client)).until(&["put", "a", "1"]);
    }
}

/// etcd re-reads certificates but never the CA file.
#[test]
fn certificates_and_authorities_are_replaced_without_a_restart() {
    let Some(kind) = Kind::keelson_only(NEEDED) else { return };
    let files = Files::new();
    let mut cluster = Cluster::launch(options(kind, 3, &files.mutual())).expect("the servers start");
    let before = files.issue("client", Subject { name: "before", hosts: &[], expired: false });
    let old_ca = write(files.path(), "old-ca.pem", &files.authority.pem());
    let old = Client::new(cluster.endpoints(), &old_ca, Some(&before));
    old.until(&["put", "a", "1"]);

    let next = Authority::new("next");
    let next_ca = write(files.path(), "next-ca.pem", &next.pem());
    let after =
        next.issue(Subject { name: "after", hosts: &[], expired: false }).write(files.path(), "after");
    let new = Client::new(cluster.endpoints(), &next_ca, Some(&after));
    new.refused(&["get", "a"]);

    // As it is done: trust both, renew, stop trusting the old one.
    write(files.path(), "ca.pem", &(files.authority.pem() + &next.pem()));
    for index in 0..3 {
        cluster.member(index).hang_up();
        await_log(&cluster, index, "reading the TLS files again");
    }
    next.issue(Subject::local("server")).write(files.path(), "server");
    assert_eq!(new.until(&["get", "a"]), "a\n1\n");
    write(files.path(), "ca.pem", &next.pem());
    // Noticed at a handshake within a second or so, without a signal.
    let deadline = Deadline::after(READY_WAIT);
    let both = write(files.path(), "both-ca.pem", &(files.authority.pem() + &next.pem()));
    while Client::new(cluster.endpoints(), &both, Some(&before)).call(&["get", "a"]).is_ok() {
        assert!(!deadline.passed(), "the old authority is still trusted");
    }
    // Members talk on, also over connections made now.
    for index in 0..3 {
        cluster.member_mut(index).kill();
        cluster.member_mut(index).start().expect("a start");
        new.until(&["put", "b", &index.to_string()]);
    }
    let broken = std::fs::read(files.path().join("server.pem")).expect("a certificate");
    write(files.path(), "server.pem", "not a certificate");
    cluster.member(0).hang_up();
    await_log(&cluster, 0, "the previous ones stay in use");
    assert_eq!(new.until(&["get", "b"]), "b\n2\n");
    write(files.path(), "server.pem", &String::from_utf8(broken).expect("PEM"));
}

#[tokio::test]
async fn the_wrong_scheme_is_told_so_and_silent_connections_hold_nobody_up() {
    let Some(kind) = Kind::keelson_only(NEEDED) else { return };
    let files = Files::new();
    let cluster = Cluster::launch(options(kind, 1, &files.mutual())).expect("the server starts");
    let pair = files.issue("client", Subject::local("client"));
    let client = Client::new(cluster.member(0).client_url(), &files.ca(), Some(&pair));
    client.until(&["put", "a", "secret"]);
    for address in [cluster.member(0).client_address(), cluster.member(0).peer_address()] {
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(tokio::net::TcpStream::connect(&address).await.expect("a connection"));
        }
        for path in ["/version", "/v3/kv/range", "/members", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = raw(&address, request.as_bytes(), Duration::from_secs(5)).await.expect("an answer");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.0 400") || answer.starts_with("HTTP/1.1 400"), "{answer}");
            assert!(answer.contains("HTTPS") || answer.contains("https"), "{answer}");
            assert!(!answer.contains("etcd") && !answer.contains("secret"), "{answer}");
        }
        assert_eq!(client.until(&["get", "a"]), "a\nsecret\n");
    }
    await_log(&cluster, 0, "a client sent plain HTTP to a TLS port");
}

#[tokio::test]
async fn tls_on_a_plain_port_is_told_so() {
    let Some(kind) = Kind::keelson_only(NEEDED) else { return };
    let cluster = Cluster::start(Options::new(kind, 1).quick()).await.expect("the server starts");
    let address = cluster.member(0).client_address();
    // The beginning of a TLS 1.2 record with a ClientHello.
    let hello = [22, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    let answer = raw(&address, &hello, Duration::from_secs(5)).await.expect("an end");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.0 400") && answer.contains("TLS") && !answer.contains("etcd"),
        "{answer}"
    );
    await_log(&cluster, 0, "opened a TLS connection to a plain port");
}

#[test]
fn revoked_certificates_are_refused() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let revoked = files.authority.issue(Subject { name: "gone", hosts: &[], expired: false });
        let gone = revoked.write(files.path(), "gone");
        let list = write(files.path(), "crl.pem", &files.authority.revoke(&[&revoked]));
        let mut flags = files.mutual();
        // etcd takes the list in DER only; ours takes both.
        if kind == Kind::Etcd {
            let der = files.path().join("crl.der");
            let program = Program::Openssl.require().expect("checked by `Kind::each`");
            let (from, to) = (list.to_str().expect("UTF-8"), der.to_str().expect("UTF-8"));
            let output = run(&program, &["crl", "-in", from, "-outform", "DER", "-out", to], "", NEVER * 10);
            assert!(output.status.success());
            flags.push(format!("--client-crl-file={}", der.display()));
        } else {
            flags.push(format!("--client-crl-file={}", list.display()));
        }
        let cluster = Cluster::launch(options(kind, 1, &flags)).expect("the server starts");
        let good = files.issue("client", Subject { name: "good", hosts: &[], expired: false });
        Client::new(cluster.endpoints(), &files.ca(), Some(&good)).until(&["put", "a", "1"]);
        Client::new(cluster.endpoints(), &files.ca(), Some(&gone)).refused(&["get", "a"]);
    }
}

#[test]
fn only_allowed_host_names_are_let_in() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let mut flags = files.mutual();
        flags.push("--client-cert-allowed-hostname=app.example.com".to_owned());
        let cluster = Cluster::launch(options(kind, 1, &flags)).expect("the server starts");
        let subject = |host| Subject { name: "app", hosts: host, expired: false };
        let good = files.issue("good", subject(&["app.example.com"]));
        let other = files.issue("other", subject(&["other.example.com"]));
        Client::new(cluster.endpoints(), &files.ca(), Some(&good)).until(&["put", "a", "1"]);
        Client::new(cluster.endpoints(), &files.ca(), Some(&other)).refused(&["get", "a"]);
    }
}

#[test]
fn versions_and_suites_are_those_of_the_flags() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let pair = files.issue("client", Subject::local("client"));
        let started = |extra: &[&str]| {
            let mut flags = files.mutual();
            flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
            let cluster = Cluster::launch(options(kind, 1, &flags)).expect("the server starts");
            Client::new(cluster.endpoints(), &files.ca(), Some(&pair)).until(&["put", "a", "1"]);
            cluster
        };
        let shake = |cluster: &Cluster, extra: &[&str]| {
            handshake(&cluster.member(0).client_address(), &files, &pair, extra)
        };
        {
            let newest = started(&["--tls-min-version=TLS1.3"]);
            assert!(shake(&newest, &["-tls1_3"]).expect("TLS 1.3").contains("TLSv1.3"));
            shake(&newest, &["-tls1_2"]).expect_err("TLS 1.2 is switched off");
        }
        // The one that HTTP/2 demands.
        let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        let older = started(&["--tls-max-version=TLS1.2", &format!("--cipher-suites={suite}")]);
        let agreed = shake(&older, &[]).expect("a handshake");
        assert!(agreed.contains("TLSv1.2") && agreed.contains("ECDHE-ECDSA-AES128-GCM-SHA256"), "{agreed}");
        shake(&older, &["-tls1_3"]).expect_err("TLS 1.3 is switched off");
        let other = "ECDHE-ECDSA-AES256-GCM-SHA384";
        shake(&older, &["-tls1_2", "-cipher", other]).expect_err("the suite is not in the list");
    }
}

#[test]
fn members_are_let_in_by_their_common_name() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let client = files.issue("client", Subject { name: "client", hosts: &[], expired: false });
        let mut flags = files.mutual();
        flags.push("--peer-cert-allowed-cn=member".to_owned());
        flags.extend(files.issue("member", Subject::local("member")).flags("peer-", "-file"));
        let cluster = without_third_member(kind, &files, &flags, Subject::local("intruder"));
        Client::new(cluster.member(0).client_url(), &files.ca(), Some(&client)).until(&["put", "a", "1"]);
        Client::new(cluster.member(2).client_url(), &files.ca(), Some(&client)).refused(&["get", "a"]);
    }
}

#[test]
fn a_member_must_come_from_an_address_in_its_certificate_unless_that_is_switched_off() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let client = files.issue("client", Subject { name: "client", hosts: &[], expired: false });
        // Its server side is reached under 127.0.0.1; as a client it claims another address.
        let elsewhere = Subject { name: "elsewhere", hosts: &["192.0.2.1"], expired: false };
        let started = |flags: &[String]| {
            let mut cluster = Cluster::prepare(options(kind, 3, flags)).expect("the servers");
            let pair = files.issue("elsewhere", elsewhere);
            pair.flags("peer-client-", "-file")
                .into_iter()
                .for_each(|flag| cluster.member_mut(2).add_flag(flag));
            (0..3).for_each(|index| cluster.member_mut(index).start().expect("a start"));
            Client::new(cluster.member(0).client_url(), &files.ca(), Some(&client)).until(&["put", "a", "1"]);
            cluster
        };
        let mut flags = files.mutual();
        {
            let cluster = started(&flags);
            // The third member is reached, so it follows; but what it sends itself is refused.
            if kind == Kind::Keelson {
                await_log(&cluster, 0, "--peer-skip-client-san-verification");
            } else {
                await_log(&cluster, 0, "rejected connection");
            }
        }
        flags.push("--peer-skip-client-san-verification".to_owned());
        let cluster = started(&flags);
        let third = Client::new(cluster.member(2).client_url(), &files.ca(), Some(&client));
        third.until(&["put", "b", "through the third member"]);
        let log = cluster.member(0).log_text();
        assert!(!log.contains("none of which is") && !log.contains("rejected connection"), "{log}");
    }
}

#[test]
fn certificates_of_their_own_making_are_enough_to_be_encrypted() {
    for kind in Kind::each(NEEDED) {
        let flags = ["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()];
        let cluster = Cluster::launch(options(kind, 3, &flags)).expect("the servers start");
        let blind = vec!["--insecure-transport=false".to_owned(), "--insecure-skip-tls-verify".to_owned()];
        for index in 0..3 {
            let client = Client::with(cluster.member(index).client_url(), blind.clone());
            client.until(&["put", "a", &index.to_string()]);
        }
        Client::with(cluster.member(0).client_url().replace("https", "http"), Vec::new())
            .refused(&["get", "a"]);
    }
}

/// Three members of which the last has a peer certificate of its own; all are started.
fn without_third_member(kind: Kind, files: &Files, flags: &[String], subject: Subject<'_>) -> Cluster {
    let mut cluster = Cluster::prepare(options(kind, 3, flags)).expect("the servers");
    let leaf: Leaf = files.authority.issue(subject);
    let pair = leaf.write(files.path(), "third");
    pair.flags("peer-", "-file").into_iter().for_each(|flag| cluster.member_mut(2).add_flag(flag));
    (0..3).for_each(|index| cluster.member_mut(index).start().expect("a start"));
    cluster
}

/// An answer over HTTP/1.1 to a request with a client's certificate.
fn post(address: &str, files: &Files, pair: &Pair, path: &str, body: &str) -> String {
    let program = Program::Openssl.require().expect("checked by `Kind::each`");
    let path_of = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (path_of(&files.ca()), path_of(&pair.cert), path_of(&pair.key));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let arguments =
        ["s_client", "-connect", address, "-CAfile", &ca, "-cert", &cert, "-key", &key, "-quiet", "-ign_eof"];
    let output = run(&program, &arguments, &request, Duration::from_secs(20));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_certificate_names_its_user_but_not_through_the_gateway() {
    for kind in Kind::each(NEEDED) {
        let files = Files::new();
        let cluster = Cluster::launch(options(kind, 1, &files.mutual())).expect("the server starts");
        let endpoint = cluster.member(0).client_url();
        let pair = |name: &str| files.issue(name, Subject { name, hosts: &[], expired: false });
        let pairs = ["root", "alice", "stranger", ""].map(pair);
        let [root, alice, stranger, nobody] =
            pairs.each_ref().map(|pair| Client::new(endpoint.clone(), &files.ca(), Some(pair)));
        root.until(&["get", "ready"]);
        for command in [
            &["user", "add", "root", "--no-password"][..],
            &["user", "add", "alice", "--no-password"],
            &["role", "add", "some"],
            &["role", "grant-permission", "some", "readwrite", "foo"],
            &["user", "grant-role", "alice", "some"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            root.call(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        }
        alice.call(&["put", "foo", "bar"]).expect("alice may write this");
        let denied = |client: &Client, text: &str| {
            let error = client.call(&["put", "other", "bar"]).expect_err("no right");
            assert!(error.contains(text), "{kind:?}: {error}");
        };
        denied(&alice, "etcdserver: permission denied");
        denied(&stranger, "etcdserver: permission denied");
        denied(&nobody, "etcdserver: permission denied");
        root.call(&["put", "other", "bar"]).expect("root may do anything");
        let address = cluster.member(0).client_address();
        let answer = post(&address, &files, &pairs[0], "/v3/kv/range", r#"{"key":"Zm9v"}"#);
        assert!(answer.starts_with("HTTP/1.1 400"), "{kind:?}: {answer}");
        assert!(answer.contains("CommonName of client sending a request against gateway"), "{answer}");
        let answer = post(&address, &files, &pairs[3], "/v3/kv/range", r#"{"key":"Zm9v"}"#);
        assert!(answer.contains("etcdserver: user name is empty"), "{kind:?}: {answer}");
    }
}
