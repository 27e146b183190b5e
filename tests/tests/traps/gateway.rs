//! The JSON gateway beside etcd's, field by field: the same requests, the same statuses and the same JSON.

use super::*;
use keelson_tests::http::{Answer, raw, request};
use serde_json::Value;

/// Fields whose values belong to one server: shown as there, not compared.
const OWN: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "leader",
    "dbSize",
    "dbSizeInUse",
    "ID",
    "peerURLs",
    "clientURLs",
    "token",
    "hash",
];

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if OWN.contains(&name.as_str()) {
                    *value = Value::from("*");
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

/// The headers a gateway sets itself, in order.
fn headers(answer: &Answer) -> Vec<String> {
    let wanted = ["content-type:", "grpc-metadata-", "www-authenticate:", "access-control-"];
    let mut headers: Vec<String> = answer
        .headers
        .lines()
        .map(str::to_ascii_lowercase)
        .filter(|line| wanted.iter().any(|wanted| line.starts_with(wanted)))
        .collect();
    headers.sort();
    headers
}

/// An answer in one line; texts of the JSON reader are its own.
fn written(path: &str, body: &str, answer: &Answer) -> String {
    let mut lines: Vec<Value> = serde_json::Deserializer::from_str(&answer.body)
        .into_iter()
        .map(|value| value.unwrap_or_else(|_| Value::from(answer.body.clone())))
        .collect();
    for line in &mut lines {
        mask(line);
        if line["message"].as_str().is_some_and(|text| text.starts_with("proto:")) {
            line["message"] = Value::from("proto: *");
        }
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    format!("{path} {body}\n    {} {:?}\n    {}", answer.status, headers(answer), lines.join("\n    "))
}

async fn transcript(cluster: &Cluster) -> Vec<String> {
    let address = cluster.member(0).client_address();
    let mut transcript = Vec::new();
    for (method, path, body) in [
        ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","unknown":1}"#),
        ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true,"lease":"0"}"#),
        ("POST", "/v3/kv/put", r#"{"key":"Zm9v","lease":"77"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("POST", "/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","sortOrder":"DESCEND","limit":"5"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v","sort_order":"NONSENSE"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v","sort_order":7}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v","count_only":true,"revision":null}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v","revision":99}"#),
        ("POST", "/v3/kv/range", "{}"),
        ("POST", "/v3/kv/range", ""),
        ("POST", "/v3/kv/range", r#"{"key":5}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v"}{"#),
        ("POST", "/v3/kv/range", r#"{"key":"#),
        ("POST", "/v3/kv/range", r#"{"key":"*"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"-_8"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v","limit":"x"}"#),
        ("POST", "/v3/kv/range", "[]"),
        ("GET", "/v3/kv/range", ""),
        ("PUT", "/v3/kv/range", "{}"),
        ("OPTIONS", "/v3/kv/range", ""),
        ("POST", "/v3/kv/nonsense", "{}"),
        ("POST", "/v3/", "{}"),
        (
            "POST",
            "/v3/kv/txn",
            r#"{"compare":[{"result":"EQUAL","target":"VERSION","key":"Zm9v","version":"2"}],
               "success":[{"request_put":{"key":"Zm9v","value":"eA"}},{"requestRange":{"key":"Zm9v"}},
                          {"request_delete_range":{"key":"bm9uZQ=="}},{"request_txn":{}}]}"#,
        ),
        ("POST", "/v3/kv/txn", "{}"),
        ("POST", "/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
        ("POST", "/v3/kv/compaction", r#"{"revision":"2"}"#),
        ("POST", "/v3/kv/compaction", r#"{"revision":"2"}"#),
        ("POST", "/v3/lease/grant", r#"{"ID":"7","TTL":"600"}"#),
        ("POST", "/v3/lease/timetolive", r#"{"ID":"8"}"#),
        ("POST", "/v3/kv/lease/timetolive", r#"{"ID":"8","keys":true}"#),
        ("POST", "/v3/lease/leases", "{}"),
        ("POST", "/v3/kv/lease/leases", ""),
        ("POST", "/v3/lease/keepalive", r#"{"ID":"7"}"#),
        ("POST", "/v3/lease/keepalive", r#"{"ID":"7"}{"ID":"9"}"#),
        ("POST", "/v3/kv/lease/revoke", r#"{"ID":7}"#),
        ("POST", "/v3/lease/revoke", r#"{"ID":7}"#),
        ("POST", "/v3/cluster/member/list", "{}"),
        ("POST", "/v3/cluster/member/add", r#"{"peerURLs":["x"]}"#),
        ("POST", "/v3/cluster/member/remove", r#"{"ID":"1"}"#),
        ("POST", "/v3/cluster/member/promote", r#"{"ID":"1"}"#),
        ("POST", "/v3/maintenance/status", "{}"),
        ("POST", "/v3/maintenance/alarm", r#"{"action":"GET"}"#),
        ("POST", "/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"5","alarm":"CORRUPT"}"#),
        ("POST", "/v3/maintenance/alarm", r#"{"action":2,"memberID":"5","alarm":2}"#),
        ("POST", "/v3/maintenance/defragment", "{}"),
        ("POST", "/v3/maintenance/hash", "{}"),
        ("POST", "/v3/maintenance/hashkv", "{}"),
        ("POST", "/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
        ("POST", "/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"x"}"#),
        ("POST", "/v3/lock/lock", r#"{"name":"bg==","lease":"55"}"#),
        ("POST", "/v3/lock/unlock", "{}"),
        ("POST", "/v3/election/leader", r#"{"name":"bg=="}"#),
        ("POST", "/v3/election/proclaim", "{}"),
        ("POST", "/v3/election/resign", r#"{"leader":{"name":"bg==","key":"bi83","rev":"5","lease":"7"}}"#),
        ("POST", "/v3/auth/status", "{}"),
        ("POST", "/v3/auth/enable", "{}"),
        ("POST", "/v3/auth/user/add", r#"{"name":"root","password":"pw"}"#),
        ("POST", "/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("POST", "/v3/auth/user/get", r#"{"name":"root"}"#),
        ("POST", "/v3/auth/user/list", "{}"),
        ("POST", "/v3/auth/role/add", r#"{"name":"r"}"#),
        (
            "POST",
            "/v3/auth/role/grant",
            r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#,
        ),
        ("POST", "/v3/auth/role/get", r#"{"role":"r"}"#),
        ("POST", "/v3/auth/role/list", ""),
        ("POST", "/v3/auth/enable", "{}"),
        ("POST", "/v3/auth/authenticate", r#"{"name":"root","password":"pw"}"#),
        ("POST", "/v3/auth/authenticate", r#"{"name":"root","password":"wrong"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ] {
        let answer = request(&address, method, path, body).await.expect("an answer");
        transcript.push(written(&format!("{method} {path}"), body, &answer));
    }
    let login =
        request(&address, "POST", "/v3/auth/authenticate", r#"{"name":"root","password":"pw"}"#).await;
    let login: Value = serde_json::from_str(&login.unwrap().body).expect("JSON");
    let token = login["token"].as_str().expect("a token");
    for authorization in [token.to_owned(), format!("Bearer {token}"), "nonsense".to_owned()] {
        let body = r#"{"key":"Zm9v"}"#;
        let head = format!(
            "POST /v3/kv/range HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: {authorization}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&address, head.as_bytes(), Duration::from_secs(5)).await.unwrap();
        let text = String::from_utf8_lossy(&answer).replace(token, "*");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let mut body: Value = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        mask(&mut body);
        let authenticate = head.lines().map(str::to_ascii_lowercase).find(|line| line.starts_with("www-"));
        transcript.push(format!("authorized: {:?} {authenticate:?} {body}", head.lines().next()));
    }
    transcript
}

#[tokio::test]
async fn the_gateway_answers_as_etcds_does() {
    let mut first: Option<Vec<String>> = None;
    for kind in Kind::each(&[]) {
        let options = Options::new(kind, 1).quick().flag("--log-level=error").flag("--bcrypt-cost=4");
        let cluster = Cluster::start(options).await.expect("the server starts");
        // The version of the cluster shows in the status, and is settled some time after the start.
        let settled = keelson_tests::clock::until(TEST_WAIT, || async {
            let answer =
                keelson_tests::http::get(&cluster.member(0).client_address(), "/version").await.unwrap();
            if answer.body.contains("not_decided") { Err(answer.body) } else { Ok(()) }
        });
        settled.await.expect("a version");
        let found = transcript(&cluster).await;
        match &first {
            None => first = Some(found),
            Some(first) => {
                for (etcd, subject) in first.iter().zip(&found) {
                    assert_eq!(etcd, subject);
                }
                println!("{} equal answers", found.len());
            }
        }
    }
}
