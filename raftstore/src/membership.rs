//! Whether a change of the membership may be made, and what it makes of the membership. Pure.
//!
//! Owns: the checks and their order. Called by: `node` on the leader, which supplies what it sees of the others.
//!
//! A member added as a voter enters as a learner marked `joining`: it is listed as a voter, and the leader promotes it
//! once it has caught up. So adding a member that never starts does not cost the quorum, and the call returns before
//! the member is started, as clients of etcd expect. The checks count joining members as voters, as etcd does.
//!
//! Source: etcd server/etcdserver/server.go (`mayAddMember`, `mayPromoteMember`, `mayRemoveMember`) and
//! server/etcdserver/api/membership/cluster.go (`IsReadyTo...`) for checks and numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::MembershipRow;
use crate::consensus::{MemberError, NewMember};
use crate::net::message::MemberChange;
use crate::options::MembershipOptions;
use crate::types::{MemberId, MemberNode, Membership};

/// How the leader sees another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Its log matches up to this index plus one, as far as this leader knows; `None` before its first answer.
    pub(crate) matched_next: Option<u64>,
    /// It has acknowledged something within an election timeout.
    pub(crate) connected: bool,
}

/// What a change is checked against.
pub(crate) struct Scene<'a> {
    /// The leader itself.
    pub(crate) leader: MemberId,
    /// The effective membership.
    pub(crate) membership: &'a Membership,
    /// What was applied last, for the ids that were removed.
    pub(crate) row: &'a MembershipRow,
    /// Everybody but the leader.
    pub(crate) sights: &'a BTreeMap<MemberId, Sight>,
    /// Index of the leader's last entry plus one.
    pub(crate) last_next: u64,
}

/// What to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// This membership, in one entry: at most one voter differs.
    Append(Membership),
    /// New facts about a member.
    SetNode(MemberId, MemberNode),
}

impl Scene<'_> {
    fn node(&self, id: MemberId) -> Result<&MemberNode, MemberError> {
        self.membership.get_node(&id).ok_or(MemberError::NotFound)
    }

    fn is_voter(&self, id: MemberId) -> bool {
        self.membership.voter_ids().any(|voter| voter == id)
    }

    /// Voters and those on their way to it.
    fn voting(&self) -> Vec<MemberId> {
        let nodes = self.membership.nodes().filter(|(id, node)| node.joining || self.is_voter(**id));
        nodes.map(|(id, _)| *id).collect()
    }

    /// It has been part of the cluster: a voter always has, as for etcd a first member has.
    fn started(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.sights.get(&id).is_some_and(|sight| sight.matched_next.is_some())
    }

    fn connected(&self, id: MemberId) -> bool {
        id == self.leader || self.sights.get(&id).is_some_and(|sight| sight.connected)
    }

    fn check_urls_are_free(&self, id: MemberId, urls: &[String]) -> Result<(), MemberError> {
        let mut others = self.membership.nodes().filter(|(other, _)| **other != id);
        let taken = others.any(|(_, node)| node.peer_urls.iter().any(|url| urls.contains(url)));
        if taken { Err(MemberError::PeerUrlExists) } else { Ok(()) }
    }

    fn check_in_sync(&self, id: MemberId) -> Result<(), MemberError> {
        let matched = self.sights.get(&id).and_then(|sight| sight.matched_next).unwrap_or(0);
        if matched * 10 < self.last_next * 9 || matched == 0 {
            Err(MemberError::LearnerNotReady)
        } else {
            Ok(())
        }
    }

    /// A majority of `voting` and `extra` more has started; `extra_started` of those more count as started.
    fn check_majority_started(
        &self,
        voting: &[MemberId],
        extra: usize,
        extra_started: usize,
    ) -> Result<(), MemberError> {
        let members = voting.len() + extra;
        let started = voting.iter().filter(|id| self.started(**id)).count() + extra_started;
        if started < members / 2 + 1 { Err(MemberError::NotEnoughStarted) } else { Ok(()) }
    }
}

/// Checks `change` and gives what to propose for it.
pub(crate) fn plan(
    scene: &Scene<'_>,
    change: &MemberChange,
    options: &MembershipOptions,
) -> Result<Plan, MemberError> {
    match change {
        MemberChange::Add(member) => add(scene, member, options),
        MemberChange::Promote(id) => promote(scene, *id, options),
        MemberChange::Remove(id) => remove(scene, *id, options),
        MemberChange::Update { id, peer_urls } => {
            let node = scene.node(*id)?;
            scene.check_urls_are_free(*id, peer_urls)?;
            Ok(Plan::SetNode(*id, MemberNode { peer_urls: sorted(peer_urls), joining: node.joining }))
        }
    }
}

fn add(scene: &Scene<'_>, member: &NewMember, options: &MembershipOptions) -> Result<Plan, MemberError> {
    if options.strict {
        let voting = scene.voting();
        // One member is up and grows to two: the start of every cluster that is grown one by one.
        let first_growth = voting.len() == 1;
        if !member.learner && !first_growth {
            scene.check_majority_started(&voting, 1, 0)?;
        }
        if !voting.iter().all(|id| scene.connected(*id)) {
            return Err(MemberError::Unhealthy);
        }
    }
    if scene.row.removed.contains(&member.id) {
        return Err(MemberError::NotFound);
    }
    if scene.membership.get_node(&member.id).is_some() {
        return Err(MemberError::Exists);
    }
    scene.check_urls_are_free(member.id, &member.peer_urls)?;
    if member.learner {
        let learners = scene
            .membership
            .learner_ids()
            .filter(|id| scene.membership.get_node(id).is_some_and(|node| !node.joining));
        if learners.count() >= options.learners_max {
            return Err(MemberError::TooManyLearners);
        }
    }
    let node = MemberNode { peer_urls: sorted(&member.peer_urls), joining: !member.learner };
    Ok(Plan::Append(with(scene.membership, |_, nodes| {
        nodes.insert(member.id, node);
    })))
}

fn promote(scene: &Scene<'_>, id: MemberId, options: &MembershipOptions) -> Result<Plan, MemberError> {
    let node = scene.node(id)?;
    if scene.is_voter(id) || node.joining {
        return Err(MemberError::NotLearner);
    }
    scene.check_in_sync(id)?;
    if options.strict {
        scene.check_majority_started(&scene.voting(), 1, 1)?;
    }
    Ok(Plan::Append(with(scene.membership, |voters, _| {
        voters.insert(id);
    })))
}

fn remove(scene: &Scene<'_>, id: MemberId, options: &MembershipOptions) -> Result<Plan, MemberError> {
    let node = scene.node(id)?;
    let voting = scene.is_voter(id) || node.joining;
    if options.strict && voting {
        let others: Vec<_> = scene.voting().into_iter().filter(|other| *other != id).collect();
        scene.check_majority_started(&others, 0, 0)?;
        // One that is down is not part of what keeps the cluster alive: removing it is the repair.
        if scene.connected(id) {
            let members = scene.voting();
            let active = members.iter().filter(|member| scene.connected(**member)).count();
            if active - 1 < 1 + (members.len() - 1) / 2 {
                return Err(MemberError::Unhealthy);
            }
        }
    }
    if scene.is_voter(id) && scene.membership.voter_ids().count() == 1 {
        return Err(MemberError::NotEnoughStarted);
    }
    Ok(Plan::Append(with(scene.membership, |voters, nodes| {
        voters.remove(&id);
        nodes.remove(&id);
    })))
}

/// The joining member to make a voter next, if one is in sync.
pub(crate) fn joined(scene: &Scene<'_>) -> Option<Membership> {
    let mut joining = scene
        .membership
        .nodes()
        .filter(|(id, node)| node.joining && !scene.is_voter(**id))
        .map(|(id, _)| *id);
    let id = joining.find(|id| scene.connected(*id) && scene.check_in_sync(*id).is_ok())?;
    Some(with(scene.membership, |voters, _| {
        voters.insert(id);
    }))
}

/// The voter that is best placed to take over: connected, with the longest matching log.
pub(crate) fn successor(scene: &Scene<'_>) -> Option<MemberId> {
    let others = scene.membership.voter_ids().filter(|id| *id != scene.leader && scene.connected(*id));
    others
        .max_by_key(|id| (scene.sights.get(id).and_then(|sight| sight.matched_next), std::cmp::Reverse(*id)))
}

fn with(
    membership: &Membership,
    change: impl FnOnce(&mut BTreeSet<MemberId>, &mut BTreeMap<MemberId, MemberNode>),
) -> Membership {
    let mut voters: BTreeSet<_> = membership.get_joint_config().last().cloned().unwrap_or_default();
    let mut nodes: BTreeMap<_, _> = membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
    change(&mut voters, &mut nodes);
    Membership::new(vec![voters], nodes).expect("voters are nodes, and there is one")
}

pub(crate) fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

#[cfg(test)]
mod membership_test;
