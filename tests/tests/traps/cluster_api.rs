//! Membership and leadership.

use super::*;
use keelson_tests::cluster::READY_WAIT;

#[tokio::test]
async fn responses_of_the_cluster_service_carry_revision_0() {
    alone(async |client| {
        put(&client, "a", "1").await;
        for linearizable in [true, false] {
            let answer = client
                .cluster()
                .member_list(pb::MemberListRequest { linearizable })
                .await
                .unwrap()
                .into_inner();
            let header = answer.header.unwrap();
            assert_eq!(header.revision, 0);
            assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
            assert_eq!((answer.members[0].name.as_str(), answer.members[0].is_learner), ("m1", false));
        }
    })
    .await;
}

#[tokio::test]
async fn member_changes_check_their_arguments() {
    alone(async |client| {
        let add = async |urls: &[&str], is_learner| {
            let peer_ur_ls = urls.iter().map(|url| (*url).to_owned()).collect();
            client.cluster().member_add(pb::MemberAddRequest { peer_ur_ls, is_learner }).await
        };
        let bad = "etcdserver: given member URLs are invalid";
        refused(add(&[], false).await, Code::InvalidArgument, bad);
        refused(add(&["nonsense"], false).await, Code::InvalidArgument, bad);
        let own = client
            .cluster()
            .member_list(pb::MemberListRequest { linearizable: true })
            .await
            .unwrap()
            .into_inner();
        let (id, url) = (own.members[0].id, own.members[0].peer_ur_ls[0].clone());
        refused(add(&[&url], false).await, Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
        let gone = "etcdserver: member not found";
        refused(
            client.cluster().member_remove(pb::MemberRemoveRequest { id: 5 }).await,
            Code::NotFound,
            gone,
        );
        refused(
            client.cluster().member_promote(pb::MemberPromoteRequest { id: 5 }).await,
            Code::NotFound,
            gone,
        );
        let update = pb::MemberUpdateRequest { id: 5, peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()] };
        refused(client.cluster().member_update(update).await, Code::NotFound, gone);
        let promote = client.cluster().member_promote(pb::MemberPromoteRequest { id }).await;
        refused(promote, Code::FailedPrecondition, "etcdserver: can only promote a learner member");
    })
    .await;
}

#[tokio::test]
async fn removing_the_last_member_is_refused_with_code_unknown() {
    alone(async |client| {
        let own = client
            .cluster()
            .member_list(pb::MemberListRequest { linearizable: true })
            .await
            .unwrap()
            .into_inner();
        let remove = client.cluster().member_remove(pb::MemberRemoveRequest { id: own.members[0].id }).await;
        refused(
            remove,
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        );
    })
    .await;
}

#[tokio::test]
async fn a_learner_is_listed_and_a_second_one_refused() {
    alone(async |client| {
        let add = |url: &str| pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
        let added = client.cluster().member_add(add("http://127.0.0.1:9")).await.unwrap().into_inner();
        let learner = added.member.unwrap();
        assert!(learner.is_learner && learner.name.is_empty() && added.members.len() == 2);
        assert_eq!(added.header.unwrap().revision, 0);
        let second = client.cluster().member_add(add("http://127.0.0.1:10")).await;
        refused(second, Code::FailedPrecondition, "etcdserver: too many learner members in cluster");
        let promote = client.cluster().member_promote(pb::MemberPromoteRequest { id: learner.id }).await;
        let behind = "etcdserver: can only promote a learner member which is in sync with leader";
        refused(promote, Code::FailedPrecondition, behind);
        let removed = client
            .cluster()
            .member_remove(pb::MemberRemoveRequest { id: learner.id })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(removed.members.len(), 1);
        let again = client.cluster().member_remove(pb::MemberRemoveRequest { id: learner.id }).await;
        refused(again, Code::NotFound, "etcdserver: member not found");
    })
    .await;
}

#[tokio::test]
async fn only_the_leader_hands_leadership_over_and_only_to_a_member() {
    on_each(3, &[], async |cluster| {
        let leader = cluster.leader(READY_WAIT).await.expect("a leader");
        let client = |index: usize| Client::lazy(&cluster.member(index).client_url());
        let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let target = client(other).status().await.unwrap().header.unwrap().member_id;
        let transfer = async |index: usize, target_id| {
            client(index).maintenance().move_leader(pb::MoveLeaderRequest { target_id }).await
        };
        refused(transfer(follower, target).await, Code::FailedPrecondition, "etcdserver: not leader");
        refused(transfer(leader, 5).await, Code::FailedPrecondition, "etcdserver: bad leader transferee");
        let moved = transfer(leader, target).await.unwrap().into_inner();
        assert_eq!(moved.header, None);
        assert_eq!(cluster.leader(READY_WAIT).await.expect("a leader"), other);
    })
    .await;
}
