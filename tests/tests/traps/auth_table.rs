//! Every method there is, asked by everybody there can be: who gets which answer.
//!
//! The methods come from the descriptors, so a new one without a line here fails the test. The answers in
//! `auth_table.txt` are etcd 3.7.3's; the test holds etcd to them too. `KEELSON_TEST_RECORD=1` prints the table etcd
//! gives instead of comparing.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;
use keelson_proto::authpb;
use keelson_tests::dynamic::{Outcome, call, methods};

/// `KEY`: a key `alice` has no right to. `OPEN`: one below the prefix she may read and write.
const KEY: &str = "c2VjcmV0";
const OPEN: &str = "b3Blbg==";

/// Requests by method, each with a word that says what is special about it. In order: leases as long as their keys are
/// untouched, and what ends authentication last.
fn requests() -> Vec<(&'static str, &'static str, String)> {
    let key = |text: &str| format!(r#"{{"key":"{text}"}}"#);
    let txn = |compare: &str, success: &str, failure: &str| {
        let read = |text: &str| match text.is_empty() {
            true => String::new(),
            false => format!(r#"{{"requestRange":{{"key":"{text}"}}}}"#),
        };
        let compare = match compare.is_empty() {
            true => String::new(),
            false => format!(r#"{{"key":"{compare}","target":"VERSION","version":"0"}}"#),
        };
        format!(r#"{{"compare":[{compare}],"success":[{}],"failure":[{}]}}"#, read(success), read(failure))
    };
    let watch =
        |text: &str, end: &str| format!(r#"{{"createRequest":{{"key":"{text}","rangeEnd":"{end}"}}}}"#);
    let leader = |key: &str| format!(r#"{{"leader":{{"name":"eA==","key":"{key}","rev":"1","lease":"8"}}}}"#);
    let lease = |id: u8| format!(r#"{{"ID":"{id}"}}"#);
    let with_keys = |id: u8| format!(r#"{{"ID":"{id}","keys":true}}"#);
    let none = || "{}".to_owned();
    let put_previous = format!(r#"{{"key":"{OPEN}","prevKv":true}}"#);
    let put_lease = |id: u8| format!(r#"{{"key":"{OPEN}","lease":"{id}"}}"#);
    let nested =
        format!(r#"{{"failure":[{{"requestTxn":{{"success":[{{"requestPut":{{"key":"{KEY}"}}}}]}}}}]}}"#);
    let name = |text: &str| format!(r#"{{"name":"{text}"}}"#);
    vec![
        ("etcdserverpb.Lease.LeaseGrant", "", r#"{"TTL":"600"}"#.to_owned()),
        ("etcdserverpb.Lease.LeaseKeepAlive", "with another's key", lease(7)),
        ("etcdserverpb.Lease.LeaseKeepAlive", "own", lease(8)),
        ("etcdserverpb.Lease.LeaseKeepAlive", "none", lease(99)),
        ("etcdserverpb.Lease.LeaseTimeToLive", "with another's key", lease(7)),
        ("etcdserverpb.Lease.LeaseTimeToLive", "with another's key, keys", with_keys(7)),
        ("etcdserverpb.Lease.LeaseTimeToLive", "own, keys", with_keys(8)),
        ("etcdserverpb.Lease.LeaseLeases", "", none()),
        ("etcdserverpb.KV.Put", "own key, lease with another's", put_lease(7)),
        ("etcdserverpb.KV.Put", "own key, own lease", put_lease(8)),
        ("etcdserverpb.Lease.LeaseRevoke", "none", lease(99)),
        ("etcdserverpb.Lease.LeaseRevoke", "own", lease(10)),
        ("etcdserverpb.Lease.LeaseRevoke", "with another's key", lease(7)),
        ("etcdserverpb.KV.Range", "other key", key(KEY)),
        ("etcdserverpb.KV.Range", "own key", key(OPEN)),
        ("etcdserverpb.KV.Range", "open end", format!(r#"{{"key":"{OPEN}","rangeEnd":"AA=="}}"#)),
        ("etcdserverpb.KV.Range", "no key", none()),
        ("etcdserverpb.KV.Range", "serializable", format!(r#"{{"key":"{KEY}","serializable":true}}"#)),
        ("etcdserverpb.KV.RangeStream", "other key", key(KEY)),
        ("etcdserverpb.KV.RangeStream", "own key", key(OPEN)),
        ("etcdserverpb.KV.Put", "other key", key(KEY)),
        ("etcdserverpb.KV.Put", "own key", key(OPEN)),
        ("etcdserverpb.KV.Put", "own key, previous value", put_previous),
        ("etcdserverpb.KV.Put", "own key, no lease", put_lease(99)),
        ("etcdserverpb.KV.DeleteRange", "other key", key(KEY)),
        ("etcdserverpb.KV.DeleteRange", "own key", key("b3BlbjI=")),
        ("etcdserverpb.KV.DeleteRange", "open end", format!(r#"{{"key":"{OPEN}","rangeEnd":"AA=="}}"#)),
        ("etcdserverpb.KV.Txn", "empty", none()),
        ("etcdserverpb.KV.Txn", "own", txn(OPEN, OPEN, OPEN)),
        ("etcdserverpb.KV.Txn", "compares another key", txn(KEY, "", "")),
        ("etcdserverpb.KV.Txn", "reads another key", txn("", KEY, "")),
        ("etcdserverpb.KV.Txn", "would read another key", txn("", "", KEY)),
        ("etcdserverpb.KV.Txn", "would write another key, nested", nested),
        ("etcdserverpb.KV.Compact", "", r#"{"revision":"1"}"#.to_owned()),
        ("etcdserverpb.Watch.Watch", "other key", watch(KEY, "")),
        ("etcdserverpb.Watch.Watch", "own key", watch(OPEN, "")),
        ("etcdserverpb.Watch.Watch", "open end", watch(OPEN, "AA==")),
        ("etcdserverpb.Watch.Watch", "everything", watch("", "AA==")),
        ("etcdserverpb.Cluster.MemberAdd", "wrong address", r#"{"peerURLs":["x"]}"#.to_owned()),
        ("etcdserverpb.Cluster.MemberRemove", "none", lease(1)),
        ("etcdserverpb.Cluster.MemberUpdate", "none", r#"{"ID":"1","peerURLs":["http://a:1"]}"#.to_owned()),
        ("etcdserverpb.Cluster.MemberList", "", none()),
        ("etcdserverpb.Cluster.MemberPromote", "none", lease(1)),
        ("etcdserverpb.Maintenance.Alarm", "get", none()),
        (
            "etcdserverpb.Maintenance.Alarm",
            "clear",
            r#"{"action":"DEACTIVATE","alarm":"NOSPACE"}"#.to_owned(),
        ),
        ("etcdserverpb.Maintenance.Status", "", none()),
        ("etcdserverpb.Maintenance.Defragment", "", none()),
        ("etcdserverpb.Maintenance.Hash", "", none()),
        ("etcdserverpb.Maintenance.HashKV", "", none()),
        ("etcdserverpb.Maintenance.Snapshot", "", none()),
        ("etcdserverpb.Maintenance.MoveLeader", "nobody", r#"{"targetID":"1"}"#.to_owned()),
        (
            "etcdserverpb.Maintenance.Downgrade",
            "nonsense",
            r#"{"action":"VALIDATE","version":"x"}"#.to_owned(),
        ),
        ("etcdserverpb.Auth.AuthEnable", "", none()),
        ("etcdserverpb.Auth.AuthStatus", "", none()),
        ("etcdserverpb.Auth.Authenticate", "wrong", r#"{"name":"alice","password":"x"}"#.to_owned()),
        ("etcdserverpb.Auth.Authenticate", "no password", r#"{"name":"cert","password":"x"}"#.to_owned()),
        ("etcdserverpb.Auth.UserAdd", "there already", r#"{"name":"bob","password":"x"}"#.to_owned()),
        ("etcdserverpb.Auth.UserGet", "alice", name("alice")),
        ("etcdserverpb.Auth.UserGet", "root", name("root")),
        ("etcdserverpb.Auth.UserGet", "none", none()),
        ("etcdserverpb.Auth.UserList", "", none()),
        ("etcdserverpb.Auth.UserDelete", "root", name("root")),
        ("etcdserverpb.Auth.UserChangePassword", "none", r#"{"name":"none","password":"x"}"#.to_owned()),
        ("etcdserverpb.Auth.UserGrantRole", "none", r#"{"user":"alice","role":"none"}"#.to_owned()),
        ("etcdserverpb.Auth.UserRevokeRole", "root", r#"{"name":"root","role":"root"}"#.to_owned()),
        ("etcdserverpb.Auth.RoleAdd", "there already", name("some")),
        ("etcdserverpb.Auth.RoleGet", "some", r#"{"role":"some"}"#.to_owned()),
        ("etcdserverpb.Auth.RoleGet", "root", r#"{"role":"root"}"#.to_owned()),
        ("etcdserverpb.Auth.RoleList", "", none()),
        ("etcdserverpb.Auth.RoleDelete", "root", r#"{"role":"root"}"#.to_owned()),
        ("etcdserverpb.Auth.RoleGrantPermission", "nothing", name("some")),
        (
            "etcdserverpb.Auth.RoleGrantPermission",
            "backwards",
            r#"{"name":"some","perm":{"key":"Yg==","rangeEnd":"YQ=="}}"#.to_owned(),
        ),
        ("etcdserverpb.Auth.RoleRevokePermission", "none", r#"{"role":"some","key":"eA=="}"#.to_owned()),
        ("v3lockpb.Lock.Lock", "other name", r#"{"name":"c2VjcmV0bG9jaw==","lease":"9"}"#.to_owned()),
        ("v3lockpb.Lock.Lock", "own name", r#"{"name":"b3BlbmxvY2s=","lease":"8"}"#.to_owned()),
        ("v3lockpb.Lock.Unlock", "other key", key(KEY)),
        (
            "v3electionpb.Election.Campaign",
            "other name",
            r#"{"name":"c2VjcmV0Y2FtcA==","lease":"8"}"#.to_owned(),
        ),
        ("v3electionpb.Election.Campaign", "own name", r#"{"name":"b3BlbmNhbXA=","lease":"8"}"#.to_owned()),
        ("v3electionpb.Election.Proclaim", "other key", leader(KEY)),
        ("v3electionpb.Election.Leader", "other name", r#"{"name":"c2VjcmV0Y2FtcA=="}"#.to_owned()),
        ("v3electionpb.Election.Observe", "own name", r#"{"name":"b3BlbmNhbXA="}"#.to_owned()),
        ("v3electionpb.Election.Resign", "other key", leader(KEY)),
        ("etcdserverpb.Auth.AuthDisable", "", none()),
    ]
}

/// An answer as the table writes it: what was asked for does not matter, whether it was answered does.
fn written(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Message(message) => match message.get("cancel_reason") {
            Some(reason) => format!("canceled: {}", reason.as_str().expect("text")),
            None => "ok".to_owned(),
        },
        Outcome::Ended => "ended".to_owned(),
        Outcome::Silent => "silent".to_owned(),
        Outcome::Error(refusal) => format!("{} {}", refusal.code, refusal.message),
    }
}

async fn add_user(client: &Client, name: &str, password: Option<&str>, role: Option<&str>) {
    let user = pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: password.unwrap_or_default().to_owned(),
        options: Some(authpb::UserAddOptions { no_password: password.is_none() }),
        ..Default::default()
    };
    client.auth().user_add(user).await.unwrap();
    if let Some(role) = role {
        let grant = pb::AuthUserGrantRoleRequest { user: name.to_owned(), role: role.to_owned() };
        client.auth().user_grant_role(grant).await.unwrap();
    }
}

async fn token(client: &Client, name: &str) -> String {
    let request = pb::AuthenticateRequest { name: name.to_owned(), password: "secret".to_owned() };
    client.auth().authenticate(request).await.unwrap().into_inner().token
}

/// Users, keys and leases, then authentication on.
async fn prepare(client: &Client) {
    for (lease, keys) in [(7, &["held", "openheld"][..]), (8, &["open"]), (9, &[]), (10, &["opened"])] {
        client.lease().lease_grant(pb::LeaseGrantRequest { id: lease, ttl: 600 }).await.unwrap();
        for key in keys {
            let put = pb::PutRequest { key: (*key).into(), lease, ..Default::default() };
            client.kv().put(put).await.unwrap();
        }
    }
    for role in ["root", "some"] {
        client.auth().role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await.unwrap();
    }
    let perm = authpb::Permission { perm_type: 2, key: "open".into(), range_end: "opeo".into() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "some".to_owned(), perm: Some(perm) };
    client.auth().role_grant_permission(grant).await.unwrap();
    add_user(client, "root", Some("secret"), Some("root")).await;
    add_user(client, "alice", Some("secret"), Some("some")).await;
    add_user(client, "bob", Some("secret"), None).await;
    add_user(client, "cert", None, None).await;
    client.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

async fn table(client: &Client) -> String {
    prepare(client).await;
    let tokens = [
        None,
        Some("nonsenseNonsense.1".to_owned()),
        Some(token(client, "bob").await),
        Some(token(client, "alice").await),
        Some(token(client, "root").await),
    ];
    let methods = methods();
    let channel = client.channel();
    let mut table = String::new();
    for (name, what, json) in requests() {
        let method = methods.iter().find(|method| method.full_name() == name).expect("a method");
        writeln!(table, "{}", format!("{name} {what}").trim_end()).unwrap();
        for (who, token) in ["nobody", "wrong token", "no right", "some right", "root"].iter().zip(&tokens) {
            let outcome = call(&channel, method, token.as_deref(), &json).await;
            writeln!(table, "    {who}: {}", written(&outcome)).unwrap();
        }
    }
    table
}

#[tokio::test]
async fn every_method_answers_everybody_as_etcd_does() {
    let asked: BTreeSet<String> = requests().iter().map(|(name, _, _)| (*name).to_owned()).collect();
    let there: BTreeSet<String> = methods().iter().map(|method| method.full_name().to_owned()).collect();
    assert_eq!(asked, there, "every method needs a request in the table");
    let expected = include_str!("auth_table.txt");
    on_each(1, &["--bcrypt-cost=4"], async |cluster| {
        let found = table(&Client::for_streams(&cluster.member(0).client_url())).await;
        if keelson_tests::environment::switch("KEELSON_TEST_RECORD") {
            println!("{found}");
            return;
        }
        for (expected, found) in expected.lines().zip(found.lines()) {
            assert_eq!(expected, found);
        }
        assert_eq!(expected.lines().count(), found.lines().count());
    })
    .await;
}
