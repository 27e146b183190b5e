//! Status, alarms, snapshots, defragmentation.

use super::*;
use keelson_tests::clock;

/// The status once the cluster has agreed on its version, some seconds after etcd starts serving.
async fn settled(client: &Client) -> pb::StatusResponse {
    let status = clock::until(Duration::from_secs(20), || async {
        let status = client.status().await.map_err(|error| error.to_string())?;
        if status.storage_version.starts_with("3.7") { Ok(status) } else { Err(format!("{status:?}")) }
    });
    status.await.expect("a storage version")
}

#[tokio::test]
async fn the_status_looks_like_a_modern_etcd() {
    alone(async |client| {
        let status = settled(&client).await;
        assert!(status.version.starts_with("3.7."), "{}", status.version);
        assert_eq!((status.storage_version.as_str(), status.db_size_quota), ("3.7.0", 2 << 30));
        assert_eq!(status.leader, status.header.as_ref().unwrap().member_id);
        assert!(
            status.db_size > 0
                && status.db_size_in_use > 0
                && status.raft_index > 0
                && status.raft_applied_index > 0
        );
        assert!(status.errors.is_empty() && !status.is_learner);
        assert_eq!(
            status.downgrade_info,
            Some(pb::DowngradeInfo { enabled: false, target_version: String::new() })
        );
        assert_eq!(revision(&status.header), 1);
    })
    .await;
}

#[tokio::test]
async fn a_defragmentation_has_no_header() {
    alone(async |client| {
        put(&client, "a", "1").await;
        let answer = client.maintenance().defragment(pb::DefragmentRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.header, None);
        assert_eq!(range(&client, key("a")).await.unwrap().count, 1);
    })
    .await;
}

/// The errors of the status. etcd prints a protobuf message, whose spacing differs between builds by design.
async fn errors(client: &Client) -> Vec<String> {
    let errors = client.status().await.unwrap().errors;
    errors.iter().map(|error| error.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn an_alarm_blocks_what_needs_space_until_exactly_it_is_disarmed() {
    alone(async |client| {
        put(&client, "a", "1").await;
        put(&client, "b", "1").await;
        let own = client.status().await.unwrap().header.unwrap().member_id;
        let alarm = async |action, member_id, alarm| {
            client
                .maintenance()
                .alarm(pb::AlarmRequest { action, member_id, alarm })
                .await
                .unwrap()
                .into_inner()
                .alarms
        };
        assert_eq!(alarm(1, own, 1).await, [pb::AlarmMember { member_id: own, alarm: 1 }]);
        let space = "etcdserver: mvcc: database space exceeded";
        let request = pb::PutRequest { key: "c".into(), ..Default::default() };
        refused(client.kv().put(request).await, Code::ResourceExhausted, space);
        refused(txn(&client, success(vec![put_op("c", "")])).await, Code::ResourceExhausted, space);
        let lease = client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 0 }).await;
        refused(lease, Code::ResourceExhausted, space);
        assert_eq!(range(&client, all()).await.unwrap().count, 2);
        assert_eq!(delete(&client, "a").await, 4);
        assert!(txn(&client, success(vec![delete_op("b", "")])).await.is_ok());
        assert!(client.kv().compact(pb::CompactionRequest { revision: 4, physical: false }).await.is_ok());
        assert_eq!(errors(&client).await, [format!("memberID:{own} alarm:NOSPACE")]);
        // No wildcards: neither member 0 nor type NONE disarms anything.
        assert_eq!(alarm(2, 0, 1).await, []);
        assert_eq!(alarm(2, own, 0).await, []);
        assert_eq!(alarm(0, 0, 0).await.len(), 1);
        assert_eq!(alarm(0, 0, 1).await.len(), 1);
        assert_eq!(alarm(0, 0, 2).await.len(), 0);
        assert_eq!(alarm(2, own, 1).await, [pb::AlarmMember { member_id: own, alarm: 1 }]);
        assert_eq!(alarm(0, 0, 0).await, []);
        put(&client, "c", "1").await;
    })
    .await;
}

#[tokio::test]
async fn a_corrupt_alarm_refuses_writes_with_data_loss() {
    alone(async |client| {
        put(&client, "a", "1").await;
        let own = client.status().await.unwrap().header.unwrap().member_id;
        let raise = pb::AlarmRequest { action: 1, member_id: own, alarm: 2 };
        client.maintenance().alarm(raise).await.unwrap();
        let corrupt = "etcdserver: corrupt cluster";
        let request = pb::PutRequest { key: "c".into(), ..Default::default() };
        refused(client.kv().put(request).await, Code::DataLoss, corrupt);
        let request = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
        refused(client.kv().delete_range(request).await, Code::DataLoss, corrupt);
        refused(txn(&client, success(vec![put_op("c", "")])).await, Code::DataLoss, corrupt);
        refused(
            client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 0 }).await,
            Code::DataLoss,
            corrupt,
        );
        let compaction = client.kv().compact(pb::CompactionRequest { revision: 2, physical: false }).await;
        refused(compaction, Code::DataLoss, corrupt);
        assert_eq!(range(&client, key("a")).await.unwrap().count, 1);
        assert_eq!(errors(&client).await, [format!("memberID:{own} alarm:CORRUPT")]);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_ends_with_the_hash_of_a_whole_file() {
    alone(async |client| {
        settled(&client).await;
        for number in 0..50 {
            put(&client, &format!("k{number}"), &"v".repeat(1000)).await;
        }
        let mut stream = client.maintenance().snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            chunks.push(chunk);
        }
        let bytes: usize = chunks.iter().map(|chunk| chunk.blob.len()).sum();
        assert_eq!(bytes % 512, 32, "a database in pages and a hash of 32 bytes");
        let last = chunks.last().expect("a last chunk");
        assert_eq!((last.blob.len(), last.remaining_bytes), (32, 0));
        assert!(chunks.windows(2).all(|pair| pair[0].remaining_bytes >= pair[1].remaining_bytes));
        assert!(chunks.iter().all(|chunk| chunk.blob.len() <= 32 * 1024 && chunk.header.is_none()));
        assert_eq!(chunks[0].version, "3.7.0");
    })
    .await;
}
