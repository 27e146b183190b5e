//! Tests of the whole way from arguments to the typed configuration.

use std::time::Duration;

use super::*;
use crate::config::compaction::AutoCompaction;

const FLAVOR: Flavor = Flavor::Keelson { terminal: false };

/// Resolves flags without any environment.
pub(crate) fn resolved(arguments: &[&str]) -> Result<Resolved, ConfigError> {
    resolved_as(arguments, &[], FLAVOR)
}

/// The configuration that these flags give.
pub(crate) fn config(arguments: &[&str]) -> Result<EffectiveConfig, ConfigError> {
    resolved(arguments).map(|resolved| resolved.config)
}

fn resolved_as(
    arguments: &[&str],
    environment: &[(&str, &str)],
    flavor: Flavor,
) -> Result<Resolved, ConfigError> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    match resolve(&arguments, &environment, flavor)? {
        Request::Run(resolved) => Ok(*resolved),
        other => panic!("{arguments:?} asks for {other:?}"),
    }
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn the_defaults_are_etcds() {
    let config = config(&[]).unwrap();
    assert_eq!(config.member.name, "default");
    assert_eq!(config.member.quota_bytes, Some(2 << 30));
    assert_eq!(url::join(&config.listen.client_urls), "http://localhost:2379");
    assert_eq!(url::join(&config.cluster.advertise_peer_urls), "http://localhost:2380");
    assert_eq!(config.cluster.initial_members.len(), 1);
    assert_eq!(config.cluster.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.cluster.election_timeout, Duration::from_secs(1));
    assert_eq!(config.limits.request_bytes_max, 1_572_864);
    assert_eq!(config.limits.txn_ops_max, 128);
    assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
    assert_eq!(config.limits.keepalive_interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.checks.progress_notify_interval, Duration::from_secs(600));
    let five_minutes = AutoCompaction::Periodic(Duration::from_secs(300));
    assert_eq!(config.auto_compaction, Some(five_minutes));
    assert_eq!(config.checks.corrupt_check_time, Duration::from_secs(600));
    assert_eq!(config.security.cors, None);
    assert!(config.cluster.pre_vote && config.cluster.strict_reconfig_check && config.listen.json_gateway);
    assert!(!config.unsafe_no_fsync && !config.force_new_cluster && !config.metrics_extensive);
}

#[test]
fn the_name_of_the_program_decides_two_defaults() {
    let check = |arguments: &[&str], flavor: Flavor, data_dir: &str, json: bool| {
        let config = resolved_as(arguments, &[], flavor).unwrap().config;
        assert_eq!((config.member.data_dir.to_str().unwrap(), config.logging.json), (data_dir, json));
    };
    check(&[], Flavor::Etcd, "default.etcd", true);
    check(&["--name=m1"], Flavor::Etcd, "m1.etcd", true);
    check(&[], FLAVOR, "keelson.data", true);
    check(&[], Flavor::Keelson { terminal: true }, "keelson.data", false);
    check(&["--log-format=json"], Flavor::Keelson { terminal: true }, "keelson.data", true);
    check(&["--data-dir=/x"], Flavor::Etcd, "/x", true);
}

#[test]
fn a_file_replaces_flags_and_environment() {
    let (_keep, path) = file("name: from-file\nheartbeat-interval: 50\n");
    let flag = format!("--config-file={path}");
    let resolved =
        resolved_as(&[&flag, "--name=from-flag"], &[("ETCD_ELECTION_TIMEOUT", "7")], FLAVOR).unwrap();
    assert_eq!(resolved.config.member.name, "from-file");
    assert_eq!(resolved.config.cluster.election_timeout, Duration::from_secs(1));
    assert!(resolved.remarks[0].starts_with("--name ignored"), "{:?}", resolved.remarks);

    let resolved = resolved_as(&["--name=from-flag"], &[("ETCD_CONFIG_FILE", &path)], FLAVOR).unwrap();
    assert_eq!(resolved.config.member.name, "from-file");
}

#[test]
fn a_missing_file_is_named() {
    let error = config(&["--config-file=/nowhere/k.yml"]).unwrap_err();
    assert_eq!(error.to_string(), "read the configuration file /nowhere/k.yml");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn the_start_of_envtest_is_understood() {
    let config = resolved_as(
        &[
            "--advertise-client-urls=http://127.0.0.1:41001",
            "--data-dir=/tmp/k8s_test_framework_1",
            "--listen-client-urls=http://127.0.0.1:41001",
            "--listen-peer-urls=http://localhost:0",
            "--unsafe-no-fsync=true",
        ],
        &[],
        Flavor::Etcd,
    )
    .unwrap()
    .config;
    assert!(config.unsafe_no_fsync);
    assert_eq!(config.listen.peer_urls[0].port(), 0);
    config.check_bootstrap().unwrap();
}

#[test]
fn a_cluster_of_three_is_understood() {
    let config = config(&[
        "--name=m2",
        "--initial-advertise-peer-urls=http://10.0.0.2:2380",
        "--listen-peer-urls=http://10.0.0.2:2380",
        "--listen-client-urls=http://10.0.0.2:2379,http://127.0.0.1:2379",
        "--advertise-client-urls=http://10.0.0.2:2379",
        "--initial-cluster-token=c1",
        "--initial-cluster=m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380",
    ])
    .unwrap();
    config.check_bootstrap().unwrap();
    let names: Vec<&str> = config.cluster.initial_members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["m1", "m2", "m3"]);
}

#[test]
fn odd_values_become_sound_ones() {
    assert_eq!(config(&["--quota-backend-bytes=-5"]).unwrap().member.quota_bytes, None);
    assert_eq!(config(&["--quota-backend-bytes=8589934592"]).unwrap().member.quota_bytes, Some(8 << 30));
    assert_eq!(config(&["--bcrypt-cost=99"]).unwrap().auth.bcrypt_cost, 10);
    assert_eq!(config(&["--grpc-keepalive-interval=0"]).unwrap().limits.keepalive_interval, None);
    let own = config(&["--auto-tls", "--cert-file=c", "--key-file=k"]).unwrap();
    assert!(!own.client_tls.auto, "given certificates win over generated ones");
    assert_eq!(config(&["--cors=http://a:1"]).unwrap().security.cors, Some(vec!["http://a:1".to_owned()]));
    assert_eq!(config(&["--cors="]).unwrap().security.cors, None);
}

#[test]
fn what_is_printed_can_be_read_back() {
    for arguments in [
        &[][..],
        &[
            "--name=m1",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380",
            "--auto-compaction-retention=5m",
        ],
        &[
            "--cert-file=/a b.pem",
            "--key-file=k",
            "--trusted-ca-file=ca",
            "--client-cert-allowed-hostname=x,y",
        ],
        &[
            "--peer-auto-tls",
            "--log-outputs=stdout,/tmp/x.log",
            "--feature-gates=AllAlpha=true",
            "--cors=http://a:1",
        ],
    ] {
        let resolved = resolved(arguments).unwrap();
        let printed = print::yaml(&resolved, true);
        let (_keep, path) = file(&printed);
        let again =
            config(&[&format!("--config-file={path}")]).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again, resolved.config, "{printed}");
    }
}

#[test]
fn the_printed_configuration_tells_where_values_come_from() {
    let resolved = resolved_as(&["--name=a"], &[("ETCD_MAX_TXN_OPS", "7")], FLAVOR).unwrap();
    assert_eq!(print::yaml(&resolved, false), "# Member\nname: \"a\" # flag\nmax-txn-ops: 7 # environment\n");
    let json: serde_json::Value = serde_json::from_str(&print::json(&resolved, true)).unwrap();
    assert_eq!(json["max-txn-ops"]["source"], "environment");
    assert_eq!(json["election-timeout"]["value"], "1000");
    assert_eq!(json.as_object().unwrap().len(), table::all().count());
}

#[test]
fn passwords_are_not_printed() {
    let resolved = resolved(&["--discovery-password=secret"]).unwrap();
    assert!(!print::yaml(&resolved, true).contains("secret"));
    assert!(!print::json(&resolved, false).contains("secret"));
}

#[test]
fn help_and_version_need_no_sound_configuration() {
    let ask = |argument: &str| resolve(&[argument.to_owned()], &[], FLAVOR).unwrap();
    assert!(matches!(ask("--help"), Request::Help));
    assert!(matches!(ask("--version"), Request::Version));
}
