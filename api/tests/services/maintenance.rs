//! Status, alarms, quota, hashes, leadership and downgrades.

use keelson_api::errors;
use keelson_proto::etcdserverpb::{self as pb, AlarmMember, AlarmRequest};
use sha2::{Digest, Sha256};

use crate::kit::*;

fn alarm(action: i32, member_id: u64, alarm: i32) -> AlarmRequest {
    AlarmRequest { action, member_id, alarm }
}

async fn alarms(member: &Member, request: AlarmRequest) -> Vec<AlarmMember> {
    let response = member.maintenance().alarm(request).await.unwrap().into_inner();
    assert_eq!(response.header, member.header(member.cluster.revision()));
    response.alarms
}

#[tokio::test]
async fn status_tells_what_this_member_knows() {
    let member = Member::alone().await;
    member.put("a", "1").await;
    let status = member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.header, status.version.as_str()), (member.header(2), "3.7.3"));
    assert_eq!(
        (status.leader, status.raft_term, status.raft_index, status.raft_applied_index),
        (1, TERM, 1, 1)
    );
    assert_eq!((status.storage_version.as_str(), status.db_size_quota), ("3.7.0", 2 << 30));
    assert_eq!(status.downgrade_info, Some(pb::DowngradeInfo::default()));
    assert!(status.db_size > 0 && status.db_size_in_use > 0);
    assert!(status.errors.is_empty() && !status.is_learner);

    alarms(&member, alarm(1, 1, 1)).await;
    alarms(&member, alarm(1, 0, 1)).await;
    member.control().leader = None;
    let status = member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.leader, 0);
    // A zero is not printed.
    assert_eq!(status.errors, ["etcdserver: no leader", "alarm:NOSPACE ", "memberID:1 alarm:NOSPACE "]);
}

#[tokio::test]
async fn alarms_are_raised_listed_and_cleared_exactly() {
    let member = Member::alone().await;
    let nospace = AlarmMember { member_id: 5, alarm: 1 };
    let corrupt = AlarmMember { member_id: 6, alarm: 2 };
    assert_eq!(alarms(&member, alarm(1, 5, 1)).await, [nospace]);
    assert_eq!(alarms(&member, alarm(1, 5, 1)).await, [nospace], "raising twice answers the same");
    assert_eq!(alarms(&member, alarm(1, 5, 0)).await, []);
    assert_eq!(alarms(&member, alarm(1, 6, 2)).await, [corrupt]);
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await, [nospace, corrupt]);
    assert_eq!(alarms(&member, alarm(0, 0, 2)).await, [corrupt]);
    assert_eq!(alarms(&member, alarm(2, 6, 1)).await, [], "clearing needs member and kind");
    assert_eq!(alarms(&member, alarm(2, 0, 0)).await, [], "there is no wildcard");
    assert_eq!(alarms(&member, alarm(9, 5, 1)).await, []);
    assert_eq!(alarms(&member, alarm(1, 5, 9)).await, []);
    assert_eq!(alarms(&member, alarm(2, 6, 2)).await, [corrupt]);
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await, [nospace]);
}

#[tokio::test]
async fn a_full_member_raises_the_alarm_through_the_log() {
    let member = Member::alone_with(|options| options.quota_bytes = 2000).await;
    member.put("a", "1").await;
    let large: &'static str = "x".repeat(1800).leak();
    let put = |key: &'static str, value: &'static str| {
        let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let mut kv = member.kv();
        async move { kv.put(request).await }
    };
    assert_error(put("b", large).await, errors::NO_SPACE);
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await, [AlarmMember { member_id: 1, alarm: 1 }]);
    assert_error(put("b", "small").await, errors::NO_SPACE);
    assert_error(put("", large).await, errors::NO_SPACE);
    let grant = pb::LeaseGrantRequest { ttl: 10, id: 0 };
    assert_error(member.lease().lease_grant(grant).await, errors::NO_SPACE);
    // What gives space back goes on.
    assert_eq!(member.get("a").await.count, 1);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(member.kv().delete_range(delete).await.unwrap().into_inner().deleted, 1);
    member.kv().compact(pb::CompactionRequest { revision: 3, physical: false }).await.unwrap();
    alarms(&member, alarm(2, 1, 1)).await;
    put("b", "small").await.unwrap();
}

#[tokio::test]
async fn hashes_cover_the_asked_history() {
    let member = Member::alone().await;
    for value in ["1", "2", "3"] {
        member.put("a", value).await;
    }
    let hash = |revision| {
        let mut client = member.maintenance();
        async move { client.hash_kv(pb::HashKvRequest { revision }).await.map(|response| response.into_inner()) }
    };
    let newest = hash(0).await.unwrap();
    assert_eq!((newest.header, newest.compact_revision, newest.hash_revision), (member.header(4), -1, 4));
    assert_eq!(hash(4).await.unwrap(), newest);
    assert_ne!(hash(3).await.unwrap().hash, newest.hash);
    assert_error(hash(5).await, errors::FUTURE_REVISION);
    member.kv().compact(pb::CompactionRequest { revision: 3, physical: false }).await.unwrap();
    assert_error(hash(2).await, errors::COMPACTED);
    assert_eq!(hash(3).await.unwrap().compact_revision, 3);
    let whole = member.maintenance().hash(pb::HashRequest {}).await.unwrap().into_inner();
    assert_eq!(whole.header, member.header(4));
}

#[tokio::test]
async fn leadership_moves_only_from_the_leader_to_a_voter() {
    let cluster = Cluster::new(&[1, 2]);
    let (leader, follower) = (cluster.serve(1, |_| {}).await, cluster.serve(2, |_| {}).await);
    let target = |target_id| pb::MoveLeaderRequest { target_id };
    assert_error(follower.maintenance().move_leader(target(2)).await, errors::NOT_LEADER);
    assert_error(leader.maintenance().move_leader(target(9)).await, errors::BAD_LEADER_TRANSFEREE);
    let moved = leader.maintenance().move_leader(target(2)).await.unwrap().into_inner();
    assert_eq!(moved.header, None);
    assert_eq!(cluster.control.lock().leader, Some(2));
}

#[tokio::test]
async fn defragmentation_is_done_at_once() {
    let member = Member::alone().await;
    let done = member.maintenance().defragment(pb::DefragmentRequest {}).await.unwrap().into_inner();
    assert_eq!(done.header, None);
}

/// Pages of a database, then their SHA-256; what is written meanwhile is not in it.
#[tokio::test]
async fn a_snapshot_is_one_view_in_pieces_with_their_digest() {
    let member = Member::alone().await;
    for _ in 0..40 {
        let value = "v".repeat(10_000).into();
        member.kv().put(pb::PutRequest { key: "a".into(), value, ..Default::default() }).await.unwrap();
    }
    let mut stream = member.maintenance().snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let mut pieces = vec![soon(stream.message()).await.unwrap().unwrap()];
    member.put("afterwards", "x").await;
    while let Some(piece) = soon(stream.message()).await.unwrap() {
        pieces.push(piece);
    }
    let digest = pieces.pop().unwrap();
    let file: Vec<u8> = pieces.iter().flat_map(|piece| piece.blob.to_vec()).collect();
    assert_eq!(digest.blob, Sha256::digest(&file).to_vec());
    assert!(file.len() > 400_000 && file.len().is_multiple_of(4096), "every version, in whole pages");
    let mut left = file.len();
    for piece in &pieces {
        left -= piece.blob.len();
        assert_eq!((piece.remaining_bytes, piece.version.as_str()), (left as u64, "3.7.0"));
        assert!(piece.blob.len() == 32 << 10 || left == 0);
    }
    assert_eq!((left, digest.remaining_bytes), (0, 0));
    assert!(!file.windows(10).any(|bytes| bytes == b"afterwards"));
}

#[tokio::test]
async fn a_downgrade_goes_one_minor_version_back() {
    let member = Member::alone().await;
    let ask = |action, version: &str| {
        let request = pb::DowngradeRequest { action, version: version.into() };
        let mut client = member.maintenance();
        async move { client.downgrade(request).await.map(|response| response.into_inner()) }
    };
    let expected = pb::DowngradeResponse { header: member.header(1), version: "3.7".into() };
    assert_eq!(ask(0, "3.6.0").await.unwrap(), expected);
    assert_error(ask(0, "three").await, errors::WRONG_DOWNGRADE_VERSION_FORMAT);
    assert_error(ask(0, "3.5").await, errors::INVALID_DOWNGRADE_TARGET_VERSION);
    assert_error(ask(7, "3.6").await, errors::UNKNOWN_METHOD);
    assert_eq!(ask(1, "3.6").await.unwrap(), expected);
    assert_error(ask(1, "3.6").await, errors::DOWNGRADE_IN_PROCESS);
    let status = member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        status.downgrade_info,
        Some(pb::DowngradeInfo { enabled: true, target_version: "3.6.0".into() })
    );
    assert_eq!(ask(2, "").await.unwrap(), expected);
    assert_eq!(ask(2, "").await.unwrap(), expected, "nothing to cancel is no error");
    ask(0, "3.6").await.unwrap();
}

/// Moves the clock by seconds, and lets everybody who waits for it look.
async fn pass(member: &Member, seconds: u32) {
    for _ in 0..seconds {
        member.cluster.clock.advance(std::time::Duration::from_secs(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

async fn fill(member: &Member) {
    let put = || pb::PutRequest { key: "k".into(), value: vec![b'x'; 300].into(), ..Default::default() };
    while member.kv().put(put()).await.is_ok() {
        // The size is sampled.
        pass(member, 1).await;
    }
    assert_eq!(alarms(member, alarm(0, 0, 0)).await, [AlarmMember { member_id: 1, alarm: 1 }]);
}

async fn make_room(member: &Member) {
    let revision = member.cluster.revision();
    member.kv().compact(pb::CompactionRequest { revision, physical: false }).await.unwrap();
    member.cluster.settle_compaction();
}

#[tokio::test]
async fn the_space_alarm_goes_by_itself_once_there_is_ample_room() {
    let member = Member::alone_with(|options| options.quota_bytes = 6000).await;
    fill(&member).await;
    pass(&member, 10).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await.len(), 1, "there is no room yet");
    member.state.note_disk(true);
    make_room(&member).await;
    pass(&member, 10).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await.len(), 1, "the disk is full");
    member.state.note_disk(false);
    pass(&member, 1).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await.len(), 1, "one look is not enough");
    pass(&member, 2).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await, []);
    member.put("k", "v").await;
    // And again: it is not remembered as somebody's.
    fill(&member).await;
    make_room(&member).await;
    pass(&member, 4).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await, []);
}

#[tokio::test]
async fn a_space_alarm_of_a_client_or_without_leave_stays() {
    let member = Member::alone().await;
    alarms(&member, alarm(1, 1, 1)).await;
    pass(&member, 10).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await.len(), 1, "a client raised it");

    let off = |options: &mut keelson_api::ApiOptions| {
        (options.quota_bytes, options.no_space_clears_itself) = (6000, false);
    };
    let member = Member::alone_with(off).await;
    fill(&member).await;
    make_room(&member).await;
    pass(&member, 10).await;
    assert_eq!(alarms(&member, alarm(0, 0, 0)).await.len(), 1, "switched off");
    // Once a client has disarmed it, one that a client raises is not taken for this member's.
    alarms(&member, alarm(2, 1, 1)).await;
    pass(&member, 10).await;
    let row = keelson_api::backend::View::meta(&*member.state.view(), b"alarm/nospace/0000000000000001");
    assert_eq!(row.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_member_of_several_answers_no_reads_and_gives_leadership_away() {
    let cluster = Cluster::new(&[1, 2]);
    let (damaged, sound) = (cluster.serve(1, |_| {}).await, cluster.serve(2, |_| {}).await);
    damaged.put("a", "1").await;
    let (ask, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut keep_alive = damaged.lease().lease_keep_alive(requests).await.unwrap().into_inner();
    alarms(&sound, alarm(1, 1, 2)).await;
    assert_error(damaged.kv().range(range("a", "")).await, errors::CORRUPT);
    assert_error(damaged.kv().txn(pb::TxnRequest::default()).await, errors::CORRUPT);
    assert_eq!(sound.get("a").await.count, 1);
    pass(&sound, 2).await;
    assert_eq!(cluster.control.lock().leader, Some(2));
    assert_error(soon(keep_alive.message()).await, errors::CORRUPT);
    drop(ask);
    // The operator's tools go on, and disarming ends it.
    damaged.maintenance().status(pb::StatusRequest {}).await.unwrap();
    alarms(&damaged, alarm(2, 1, 2)).await;
    assert_eq!(damaged.get("a").await.count, 1);
}
