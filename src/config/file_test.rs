//! Tests of the configuration file's reader.

use std::io::Write;

use super::*;
use crate::config::value::Value;

fn read_text(text: &str) -> Result<(Given, Vec<String>), ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    read(file.path())
}

#[test]
fn reads_a_file_as_etcd_ships_it() {
    let (given, remarks) = read_text(
        "# This is a comment\n\
         name: 'default'\n\
         data-dir:\n\
         wal-dir: ''\n\
         heartbeat-interval: 100\n\
         quota-backend-bytes: 0\n\
         listen-peer-urls: http://localhost:2380\n\
         listen-client-urls: \"http://10.0.0.1:2379,http://127.0.0.1:2379\"\n\
         cors:\n\
         discovery:\n\
         discovery-fallback: 'proxy'\n\
         proxy: 'off'\n\
         strict-reconfig-check: false\n\
         client-transport-security:\n\
         \x20 cert-file: /c.pem\n\
         \x20 client-cert-auth: true\n\
         \x20 auto-tls: false\n\
         peer-transport-security:\n\
         \x20 allowed-cn: [a, b]\n\
         log-outputs: [stderr]\n\
         watch-progress-notify-interval: 600000000000\n\
         grpc-keepalive-timeout: 30s\n\
         auto-compaction-retention: \"1\"\n",
    )
    .unwrap();
    assert_eq!(given.value("listen-client-urls").text(), "http://10.0.0.1:2379,http://127.0.0.1:2379");
    assert!(!given.is_set("data-dir"));
    assert_eq!(given.value("cert-file"), Value::Text("/c.pem".into()));
    assert_eq!(given.value("client-cert-auth"), Value::Switch(true));
    assert_eq!(given.value("peer-cert-allowed-cn").text(), "a,b");
    assert_eq!(given.value("strict-reconfig-check"), Value::Switch(false));
    assert_eq!(given.value("watch-progress-notify-interval").text(), "10m");
    assert_eq!(given.value("grpc-keepalive-timeout").text(), "30s");
    assert_eq!(given.source("name"), Source::File);
    assert_eq!(remarks.len(), 2, "{remarks:?}");
}

#[test]
fn reads_json_and_empty_files() {
    let (given, _) = read_text("{\"name\": \"a\", \"pre-vote\": false, \"max-txn-ops\": 7}").unwrap();
    assert_eq!(given.value("max-txn-ops"), Value::Unsigned(7));
    for text in ["", "# nothing\n", "---\n", "null\n", "{}"] {
        assert_eq!(read_text(text).unwrap().0.names().count(), 0, "{text:?}");
    }
}

#[test]
fn faults_name_the_key_and_the_remedy() {
    let check = |text: &str, problem: &str, remedy: &str| {
        let error = read_text(text).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert!(error.remedy().contains(remedy), "{}", error.remedy());
        assert_eq!(error.exit_code(), 1);
    };
    check(
        "name: a\nlisten-client-url: http://a:1\n",
        "unknown key \"listen-client-url\"",
        "\"listen-client-urls\"",
    );
    check("name: a\nlisten-client-url: http://a:1\n", "line 2", "");
    check("cert-file: /c.pem\n", "unknown key \"cert-file\"", "\"client-transport-security.cert-file\"");
    check(
        "peer-transport-security:\n  cert-fle: x\n",
        "unknown key \"peer-transport-security.cert-fle\"",
        "peer-transport-security.cert-file",
    );
    check(
        "experimental-corrupt-check-time: 1\n",
        "experimental-corrupt-check-time",
        "write corrupt-check-time",
    );
    check("discovery-config:\n  token: x\n", "discovery-endpoints", "initial-cluster");
    check(
        "client-transport-security:\n  allowed-cn: [x]\n",
        "allowed-cn is not supported",
        "allowed-hostname",
    );
    check(
        "heartbeat-interval: often\n",
        "heartbeat-interval: \"often\" is not a whole number",
        "whole number",
    );
    check("name: [a, b]\n", "name wants a single value", "");
    check("- a\n", "not a map", "");
    check("name: a\nname: b\n", "parse the configuration file", "");
    check("name: 'a\n", "parse the configuration file", "");
}
