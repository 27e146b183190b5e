//! Tests of the checks: one row per contradiction.

use crate::config::tests::{config, resolved};

#[test]
fn contradictions_are_refused_with_a_remedy() {
    let check = |arguments: &[&str], problem: &str, remedy: &str| {
        let error = config(arguments).expect_err(&format!("{arguments:?} passed"));
        assert!(error.to_string().contains(problem), "{arguments:?}: {error}");
        assert!(error.remedy().contains(remedy), "{arguments:?}: {}", error.remedy());
        assert_eq!(error.exit_code(), 1, "{arguments:?}");
    };
    check(&["--heartbeat-interval=0"], "--heartbeat-interval is 0", "above 0");
    check(&["--election-timeout=0"], "--election-timeout is 0", "above 0");
    check(&["--heartbeat-interval=300"], "less than five times", "1500 or more");
    check(&["--election-timeout=50001"], "too long", "50000 or less");
    check(&["--compact-hash-check-time=0"], "--compact-hash-check-time is 0", "such as 1m");
    check(
        &["--listen-client-urls=http://example.com:2379", "--advertise-client-urls=http://example.com:2379"],
        "has a host name",
        "http://0.0.0.0:2379",
    );
    check(
        &["--listen-client-urls=http://0.0.0.0:2379"],
        "--advertise-client-urls is not",
        "http://0.0.0.0:2379",
    );
    check(&["--advertise-client-urls=http://:2379"], "has no host", "http://10.0.0.1:2379");
    check(&["--listen-peer-urls="], "--listen-peer-urls is empty", "at least one");
    check(&["--listen-client-http-urls=http://localhost:2379"], "in both", "a port of its own");
    check(&["--name="], "--name is empty", "a name");
    check(&["--max-txn-ops=0"], "no write can succeed", "default");
    check(&["--auth-token=magic"], "unknown kind \"magic\"", "'simple'");
    check(&["--log-outputs=default,stdout"], "beside others", "stderr");
    check(&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "newer than", "swap");
    check(&["--tls-min-version=TLS1.3", "--cipher-suites=X"], "not configurable", "drop --cipher-suites");
    check(&["--cert-file=c"], "--key-file is not", "give --key-file");
    check(&["--peer-key-file=k"], "--peer-cert-file is not", "give --peer-cert-file");
    check(&["--peer-client-cert-file=c"], "--peer-client-key-file is not", "give --peer-client-key-file");
    check(&["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"], "are both set", "keep one");
    check(&["--client-cert-auth"], "--trusted-ca-file is not", "give --trusted-ca-file");
    check(&["--auto-tls", "--client-cert-auth"], "--trusted-ca-file is not", "give --trusted-ca-file");
    check(&["--client-crl-file=x"], "--trusted-ca-file is not", "give --trusted-ca-file");
    check(
        &["--listen-client-urls=https://0.0.0.0:2379", "--advertise-client-urls=https://a:2379"],
        "there is no certificate",
        "--auto-tls",
    );
    check(&["--listen-peer-urls=https://0.0.0.0:2380"], "there is no certificate", "--peer-auto-tls");
    check(&["--listen-metrics-urls=https://0.0.0.0:9000"], "there is no certificate", "--cert-file");
    check(&["--discovery-srv=example.com"], "--discovery-srv is not supported", "--initial-cluster");
    check(
        &["--discovery-endpoints=http://a:1"],
        "--discovery-endpoints is not supported",
        "--initial-cluster",
    );
    check(&["--auto-compaction-retention=soon"], "soon", "5m");
    check(&["--feature-gates=Nope=true"], "unknown feature", "--help");
    check(&["--initial-cluster=x"], "not name=address", "name=http://address:2380");
}

#[test]
fn settings_without_effect_are_remarked() {
    let check = |arguments: &[&str], part: &str| {
        let remarks = resolved(arguments).unwrap().remarks;
        assert!(remarks.iter().any(|remark| remark.contains(part)), "{arguments:?}: {remarks:?}");
    };
    check(&["--max-wals=7"], "--max-wals has no effect: log segments are recycled");
    check(&["--enable-pprof"], "--enable-pprof has no effect");
    check(&["--unsafe-no-fsync=true"], "a power cut loses acknowledged writes");
    check(&["--pre-vote=false"], "--pre-vote has no effect");
    check(&["--feature-gates=PriorityRequest=true"], "PriorityRequest=true has no effect");
    check(&["--auto-compaction-mode=revision"], "compacts nothing");
    check(&["--auto-tls"], "http://localhost:2379 is served without TLS");
    check(&["--initial-cluster=default=http://localhost:2380,b=http://b:2380"], "take each other's place");
    // A setting that is given its default is not worth a word.
    assert!(resolved(&["--max-wals=5", "--discovery-srv="]).unwrap().remarks.is_empty());
}

#[test]
fn sound_configurations_pass() {
    for arguments in [
        &["--name=m1"][..],
        &["--listen-client-urls=unix:///run/k.sock", "--advertise-client-urls=unix:///run/k.sock"],
        &["--heartbeat-interval=10", "--election-timeout=50"],
        &["--cert-file=c", "--key-file=k", "--trusted-ca-file=ca", "--client-cert-auth"],
        &["--listen-peer-urls=https://0.0.0.0:2380", "--peer-auto-tls"],
        &["--listen-client-urls=http://[::]:2379", "--advertise-client-urls=http://h:2379"],
        &["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"],
        &["--quota-backend-bytes=-1"],
    ] {
        config(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}
