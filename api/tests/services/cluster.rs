//! Members: what clients are told and what is asked of the consensus.

use keelson_api::{
    errors,
    members::{self, MemberAttributes},
};
use keelson_proto::etcdserverpb as pb;
use keelson_raftstore::consensus::{MemberError, ReadIndexError, TimeoutCause};

use crate::kit::*;

fn urls(list: &[&str]) -> Vec<String> {
    list.iter().map(|url| (*url).to_owned()).collect()
}

async fn list(member: &Member) -> pb::MemberListResponse {
    let request = pb::MemberListRequest { linearizable: true };
    member.cluster_client().member_list(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_member_is_nameless_until_it_publishes_itself() {
    let member = Member::alone().await;
    let before = list(&member).await;
    assert_eq!(before.header, member.header(0), "headers of this service have no revision");
    assert_eq!(
        before.members,
        [pb::Member { id: 1, peer_ur_ls: urls(&["http://m1:2380"]), ..Default::default() }]
    );
    let attributes = MemberAttributes { name: "one".into(), client_urls: urls(&["http://m1:2379"]) };
    soon(members::publish(member.state.clone(), attributes.clone())).await;
    let after = list(&member).await;
    assert_eq!(
        (after.members[0].name.as_str(), &after.members[0].client_ur_ls),
        ("one", &urls(&["http://m1:2379"]))
    );
    let proposed = member.control().proposed.len();
    soon(members::publish(member.state.clone(), attributes)).await;
    assert_eq!(member.control().proposed.len(), proposed, "nothing is published twice");
}

#[tokio::test]
async fn members_come_change_and_go() {
    let member = Member::alone().await;
    let mut client = member.cluster_client();
    let add = pb::MemberAddRequest { peer_ur_ls: urls(&["http://b:1", "http://a:1"]), is_learner: true };
    let added = client.member_add(add).await.unwrap().into_inner();
    let new = added.member.unwrap();
    assert_eq!(
        (added.header, &new.peer_ur_ls, new.is_learner),
        (member.header(0), &urls(&["http://a:1", "http://b:1"]), true)
    );
    assert_eq!((new.name.as_str(), added.members.len()), ("", 2));
    assert!(added.members.contains(&new));

    let promoted = client.member_promote(pb::MemberPromoteRequest { id: new.id }).await.unwrap().into_inner();
    assert!(promoted.members.iter().all(|member| !member.is_learner));
    let update = pb::MemberUpdateRequest { id: new.id, peer_ur_ls: urls(&["http://c:1"]) };
    let updated = client.member_update(update).await.unwrap().into_inner();
    let changed = updated.members.iter().find(|member| member.id == new.id).unwrap();
    assert_eq!(changed.peer_ur_ls, urls(&["http://c:1"]));
    let removed = client.member_remove(pb::MemberRemoveRequest { id: new.id }).await.unwrap().into_inner();
    assert_eq!((removed.header, removed.members.len()), (member.header(0), 1));
}

#[tokio::test]
async fn the_same_urls_at_another_time_are_another_member() {
    let member = Member::alone().await;
    let add = || pb::MemberAddRequest { peer_ur_ls: urls(&["http://a:1"]), is_learner: false };
    let first = member.cluster_client().member_add(add()).await.unwrap().into_inner().member.unwrap().id;
    member.cluster.clock.advance(std::time::Duration::from_secs(1));
    let second = member.cluster_client().member_add(add()).await.unwrap().into_inner().member.unwrap().id;
    assert_ne!(first, second);
}

#[tokio::test]
async fn refusals_have_their_own_errors() {
    let member = Member::alone().await;
    let mut client = member.cluster_client();
    let bad = pb::MemberAddRequest { peer_ur_ls: urls(&["nonsense"]), is_learner: false };
    assert_error(client.member_add(bad).await, errors::MEMBER_BAD_URLS);
    assert_error(client.member_add(pb::MemberAddRequest::default()).await, errors::MEMBER_BAD_URLS);
    for (cause, expected) in [
        (MemberError::NotFound, errors::MEMBER_NOT_FOUND),
        (MemberError::Exists, errors::MEMBER_EXISTS),
        (MemberError::PeerUrlExists, errors::PEER_URL_EXISTS),
        (MemberError::TooManyLearners, errors::TOO_MANY_LEARNERS),
        (MemberError::NotEnoughStarted, errors::MEMBER_NOT_ENOUGH_STARTED),
        (MemberError::Unhealthy, errors::UNHEALTHY),
        (MemberError::NotLearner, errors::MEMBER_NOT_LEARNER),
        (MemberError::LearnerNotReady, errors::LEARNER_NOT_READY),
        (MemberError::Timeout(TimeoutCause::Plain), errors::TIMEOUT),
        (MemberError::Stopped, errors::STOPPED),
    ] {
        member.control().member_error = Some(cause);
        assert_error(client.member_remove(pb::MemberRemoveRequest { id: 1 }).await, expected);
    }
    member.control().read_index = Some(ReadIndexError::Timeout(TimeoutCause::Plain));
    let linearizable = pb::MemberListRequest { linearizable: true };
    assert_error(client.member_list(linearizable).await, errors::TIMEOUT);
    client.member_list(pb::MemberListRequest { linearizable: false }).await.unwrap();
}
