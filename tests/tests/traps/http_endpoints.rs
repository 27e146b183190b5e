//! Health, version, metrics and the JSON gateway on the client port.

use super::*;
use keelson_tests::clock;
use keelson_tests::http::{get, request};

#[tokio::test]
async fn health_has_etcds_exact_texts() {
    on_each(1, &[], async |cluster| {
        let address = cluster.member(0).client_address();
        let client = Client::lazy(&cluster.member(0).client_url());
        let healthy = get(&address, "/health").await.unwrap();
        assert_eq!((healthy.status, healthy.body.as_str()), (200, r#"{"health":"true","reason":""}"#));
        let serializable = get(&address, "/health?serializable=true").await.unwrap();
        assert_eq!(
            (serializable.status, serializable.body.as_str()),
            (200, r#"{"health":"true","reason":""}"#)
        );
        assert_eq!(request(&address, "POST", "/health", "").await.unwrap().status, 405);
        let own = client.status().await.unwrap().header.unwrap().member_id;
        client.maintenance().alarm(pb::AlarmRequest { action: 1, member_id: own, alarm: 1 }).await.unwrap();
        let alarmed = get(&address, "/health").await.unwrap();
        // Only the unhealthy answer ends with a line feed.
        assert_eq!(
            (alarmed.status, alarmed.body.as_str()),
            (503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n")
        );
        let excluded = get(&address, "/health?exclude=NOSPACE").await.unwrap();
        assert_eq!((excluded.status, excluded.body.as_str()), (200, r#"{"health":"true","reason":""}"#));
    })
    .await;
}

#[tokio::test]
async fn livez_and_readyz_name_their_checks() {
    on_each(1, &[], async |cluster| {
        let address = cluster.member(0).client_address();
        for path in [
            "/livez",
            "/readyz",
            "/livez/serializable_read",
            "/readyz/linearizable_read",
            "/readyz?exclude=data_corruption",
        ] {
            let answer = get(&address, path).await.unwrap();
            assert_eq!((answer.status, answer.body.trim()), (200, "ok"), "{path}");
        }
        let verbose = get(&address, "/readyz?verbose").await.unwrap().body;
        for check in ["data_corruption", "serializable_read", "linearizable_read", "non_learner"] {
            assert!(verbose.contains(&format!("[+]{check} ok")), "{verbose}");
        }
        println!("{verbose}");
        assert_eq!(get(&address, "/readyz/nonsense").await.unwrap().status, 404);
    })
    .await;
}

#[tokio::test]
async fn the_version_endpoint_names_server_cluster_and_storage() {
    on_each(1, &[], async |cluster| {
        let address = cluster.member(0).client_address();
        let decided = clock::until(Duration::from_secs(15), || async {
            let answer = get(&address, "/version").await.map_err(|error| error.to_string())?;
            let version: serde_json::Value =
                serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            if version["storage"] == "3.7.0" && version["etcdcluster"] == "3.7.0" {
                Ok(version)
            } else {
                Err(answer.body)
            }
        });
        let version = decided.await.expect("decided versions");
        assert!(version["etcdserver"].as_str().is_some_and(|text| text.starts_with("3.7.")), "{version}");
    })
    .await;
}

#[tokio::test]
async fn metrics_carry_the_names_dashboards_use() {
    on_each(1, &[], async |cluster| {
        let client = Client::lazy(&cluster.member(0).client_url());
        put(&client, "a", "1").await;
        let metrics = get(&cluster.member(0).client_address(), "/metrics").await.unwrap();
        assert_eq!(metrics.status, 200);
        for name in [
            "etcd_server_has_leader 1",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_proposals_pending",
            "etcd_server_leader_changes_seen_total",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_server_quota_backend_bytes",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_disk_backend_commit_duration_seconds_bucket",
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "grpc_server_started_total",
            "grpc_server_handled_total",
            "process_resident_memory_bytes",
        ] {
            assert!(metrics.body.contains(name), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_json_gateway_speaks_base64_and_strings_for_long_numbers() {
    on_each(1, &[], async |cluster| {
        if lacks(cluster, Feature::Gateway).await {
            return;
        }
        let address = cluster.member(0).client_address();
        let post = async |path: &str, body: &str| request(&address, "POST", path, body).await.unwrap();
        // "foo" and "bar" in base64.
        let put = post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","unknown_field":1}"#).await;
        assert_eq!(put.status, 200, "{}", put.body);
        let header: serde_json::Value = serde_json::from_str(&put.body).unwrap();
        assert_eq!(header["header"]["revision"], "2");
        let read = post("/v3/kv/range", r#"{"key":"Zm9v"}"#).await;
        let read: serde_json::Value = serde_json::from_str(&read.body).unwrap();
        assert_eq!((&read["kvs"][0]["value"], &read["count"]), (&"YmFy".into(), &"1".into()));
        assert_eq!(read["kvs"][0]["create_revision"], "2");
        assert!(read.get("more").is_none(), "zero values are left out");
        let missing = post("/v3/kv/range", "{}").await;
        assert_eq!(missing.status, 400);
        let error: serde_json::Value = serde_json::from_str(&missing.body).unwrap();
        assert_eq!(
            (&error["code"], &error["message"]),
            (&3.into(), &"etcdserver: key is not provided".into())
        );
        assert_eq!(post("/v3/kv/nonsense", "{}").await.status, 404);
        let status = post("/v3/maintenance/status", "").await;
        println!("a body of nothing: {} {}", status.status, status.body);
    })
    .await;
}

#[tokio::test]
async fn the_json_gateway_streams_watches_as_lines() {
    on_each(1, &[], async |cluster| {
        if lacks(cluster, Feature::Gateway).await {
            return;
        }
        let address = cluster.member(0).client_address();
        let client = Client::lazy(&cluster.member(0).client_url());
        put(&client, "foo", "bar").await;
        let body = r#"{"create_request":{"key":"Zm9v","start_revision":"1"}}"#;
        let head = format!(
            "POST /v3/watch HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer =
            keelson_tests::http::raw(&address, head.as_bytes(), Duration::from_secs(1)).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(r#""created":true"#), "{text}");
        assert!(text.contains(r#""events":[{"kv":{"#), "{text}");
        assert!(text.contains(r#""result""#), "{text}");
    })
    .await;
}
