//! Secrets as they stand in configurations, logs and variables.

use super::*;

const SECRET: &str = "s3cr3t-Wert";

#[test]
fn secrets_go_in_every_spelling() {
    for line in [
        "password: s3cr3t-Wert",
        "  auth-token: \"s3cr3t-Wert\"",
        "{\"msg\":\"x\",\"password\":\"s3cr3t-Wert\",\"n\":1}",
        "{\"inner\":\"{\\\"passwd\\\":\\\"s3cr3t-Wert\\\"}\"}",
        "ETCDCTL_PASSWORD=s3cr3t-Wert",
        "ETCDCTL_USER=root:s3cr3t-Wert",
        "started with --user root:s3cr3t-Wert --debug",
        "keelson ctl --password=s3cr3t-Wert get a",
        "Authorization: Bearer s3cr3t-Wert",
        "dial https://root:s3cr3t-Wert@10.0.0.1:2379/path failed",
        "initial-cluster-token = s3cr3t-Wert",
        "client_secret='s3cr3t-Wert'",
        "password: s3cr3t-Wert with blanks",
    ] {
        let redacted = text(line);
        assert!(!redacted.contains(SECRET), "{line} became {redacted}");
        assert!(redacted.contains(GONE), "{line} became {redacted}");
    }
}

#[test]
fn keys_and_signed_tokens_go_by_their_look() {
    let key =
        "before\n-----BEGIN EC PRIVATE KEY-----\ns3cr3t-Wert\nmore\n-----END EC PRIVATE KEY-----\nafter\n";
    assert_eq!(text(key), "before\n[redacted private key]\nafter\n");
    assert_eq!(text("saw eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl here"), format!("saw {GONE} here"));
}

#[test]
fn what_is_no_secret_stays() {
    for line in [
        "name: m1",
        "listen-client-urls: http://localhost:2379",
        "auth-token-ttl: 300",
        "{\"level\":\"info\",\"ts\":\"2026-11-21T10:00:00Z\",\"msg\":\"ready to serve client requests\"}",
        "etcd_server_has_leader 1",
        "-----BEGIN CERTIFICATE-----",
    ] {
        assert_eq!(text(line), line);
    }
}

#[test]
fn no_text_breaks_it() {
    for odd in [
        "",
        "password",
        "password:",
        "password=\"open",
        "://",
        "://@",
        "eyJ",
        "é password: ü",
        "\\\"token\\\":\\\"x",
    ] {
        let _ = text(odd);
    }
}
