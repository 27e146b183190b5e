//! Tests of the checks, after the tables in etcd's own tests of its strict checks.

use super::*;

struct World {
    membership: Membership,
    row: MembershipRow,
    sights: BTreeMap<MemberId, Sight>,
}

/// Voters, joining, learners; `up` of them are connected and in sync. Member 1 leads.
fn world(voters: &[u64], joining: &[u64], learners: &[u64], up: &[u64]) -> World {
    let node = |id: u64, joining| (id, MemberNode { peer_urls: vec![format!("http://{id}")], joining });
    let nodes = voters.iter().map(|id| node(*id, false)).chain(joining.iter().map(|id| node(*id, true)));
    let nodes: BTreeMap<_, _> = nodes.chain(learners.iter().map(|id| node(*id, false))).collect();
    let membership = Membership::new(vec![voters.iter().copied().collect()], nodes).expect("valid");
    let sights = membership.nodes().filter(|(id, _)| **id != 1).map(|(id, _)| {
        let up = up.contains(id);
        (*id, Sight { matched_next: up.then_some(100), connected: up })
    });
    World { sights: sights.collect(), row: MembershipRow::default(), membership }
}

fn check(world: &World, change: MemberChange) -> Result<Plan, MemberError> {
    let scene = Scene {
        leader: 1,
        membership: &world.membership,
        row: &world.row,
        sights: &world.sights,
        last_next: 100,
    };
    plan(&scene, &change, &MembershipOptions::default())
}

fn add_member(id: u64, learner: bool) -> MemberChange {
    MemberChange::Add(NewMember { id, peer_urls: vec![format!("http://{id}")], learner })
}

fn voters(plan: Plan) -> Vec<u64> {
    let Plan::Append(membership) = plan else { panic!("an entry") };
    membership.voter_ids().collect()
}

#[test]
fn a_new_voter_joins_first_and_a_new_learner_stays_one() {
    let Ok(Plan::Append(membership)) = check(&world(&[1], &[], &[], &[]), add_member(2, false)) else {
        panic!("allowed");
    };
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [1]);
    assert!(membership.get_node(&2).expect("listed").joining);
    let Ok(Plan::Append(membership)) = check(&world(&[1], &[], &[], &[]), add_member(2, true)) else {
        panic!("allowed");
    };
    assert!(!membership.get_node(&2).expect("listed").joining);
}

#[test]
fn adding_needs_a_majority_that_is_up_and_everybody_connected() {
    assert_eq!(check(&world(&[1, 2, 3], &[], &[], &[2]), add_member(4, false)), Err(MemberError::Unhealthy));
    assert_eq!(check(&world(&[1, 2, 3], &[], &[], &[2]), add_member(4, true)), Err(MemberError::Unhealthy));
    assert!(check(&world(&[1, 2, 3], &[], &[], &[2, 3]), add_member(4, false)).is_ok());
    // A joining member counts as a voter that is not there.
    assert_eq!(check(&world(&[1], &[2], &[], &[]), add_member(3, false)), Err(MemberError::NotEnoughStarted));
}

#[test]
fn ids_urls_and_learners_are_checked() {
    let world = world(&[1, 2], &[], &[3], &[2, 3]);
    assert_eq!(check(&world, add_member(2, false)), Err(MemberError::Exists));
    assert_eq!(check(&world, add_member(4, true)), Err(MemberError::TooManyLearners));
    let taken = NewMember { id: 9, peer_urls: vec!["http://2".into()], learner: false };
    assert_eq!(check(&world, MemberChange::Add(taken)), Err(MemberError::PeerUrlExists));
    let moved = |id, url: &str| MemberChange::Update { id, peer_urls: vec![url.into()] };
    assert_eq!(check(&world, moved(2, "http://3")), Err(MemberError::PeerUrlExists));
    assert_eq!(check(&world, moved(8, "http://8")), Err(MemberError::NotFound));
    assert!(matches!(check(&world, moved(2, "http://2b")), Ok(Plan::SetNode(2, _))));
}

#[test]
fn a_removed_id_is_not_found_for_ever() {
    let mut world = world(&[1], &[], &[], &[]);
    world.row.removed.insert(5);
    assert_eq!(check(&world, add_member(5, false)), Err(MemberError::NotFound));
}

#[test]
fn promotion_needs_a_learner_in_sync() {
    let mut world = world(&[1, 2], &[], &[3], &[2, 3]);
    assert_eq!(check(&world, MemberChange::Promote(9)), Err(MemberError::NotFound));
    assert_eq!(check(&world, MemberChange::Promote(2)), Err(MemberError::NotLearner));
    assert_eq!(voters(check(&world, MemberChange::Promote(3)).expect("in sync")), [1, 2, 3]);
    world.sights.get_mut(&3).expect("seen").matched_next = Some(89);
    assert_eq!(check(&world, MemberChange::Promote(3)), Err(MemberError::LearnerNotReady));
    world.sights.get_mut(&3).expect("seen").matched_next = None;
    assert_eq!(check(&world, MemberChange::Promote(3)), Err(MemberError::LearnerNotReady));
}

#[test]
fn removal_protects_the_quorum_and_allows_the_repair() {
    assert_eq!(
        check(&world(&[1], &[], &[], &[]), MemberChange::Remove(1)),
        Err(MemberError::NotEnoughStarted)
    );
    assert_eq!(
        voters(check(&world(&[1, 2, 3], &[], &[], &[2, 3]), MemberChange::Remove(3)).expect("allowed")),
        [1, 2]
    );
    // The one that is down may go, one that is up may not.
    let degraded = world(&[1, 2, 3], &[], &[], &[2]);
    assert!(check(&degraded, MemberChange::Remove(3)).is_ok());
    assert_eq!(check(&degraded, MemberChange::Remove(2)), Err(MemberError::Unhealthy));
    // Learners never count.
    assert!(check(&world(&[1, 2, 3], &[], &[4], &[2]), MemberChange::Remove(4)).is_ok());
    assert_eq!(check(&degraded, MemberChange::Remove(8)), Err(MemberError::NotFound));
}

#[test]
fn a_joining_member_becomes_a_voter_when_it_is_in_sync() {
    let scene_of = |world: &World| {
        let scene = Scene {
            leader: 1,
            membership: &world.membership,
            row: &world.row,
            sights: &world.sights,
            last_next: 100,
        };
        joined(&scene).map(|membership| membership.voter_ids().collect::<Vec<_>>())
    };
    assert_eq!(scene_of(&world(&[1], &[2], &[3], &[3])), None);
    assert_eq!(scene_of(&world(&[1], &[2], &[3], &[2, 3])), Some(vec![1, 2]));
}
