//! What is to be done to replace a member, and when it is refused. Pure.
//!
//! Invariants: at every point of the plan the voters that answer are a majority, also if the old member fails meanwhile; a plan
//! made anew after any of its steps is the rest of it.

/// A member as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// It has no vote yet.
    pub learner: bool,
    /// It answers and knows a leader.
    pub healthy: bool,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The member to go.
    pub old: u64,
    /// The name of the new one.
    pub name: String,
    /// Where the others will reach it.
    pub peer_urls: Vec<String>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the new member without a vote.
    AddLearner,
    /// Give it a vote, once it has caught up.
    Promote {
        /// Of the new member.
        id: u64,
    },
    /// Wait until the new voter answers.
    AwaitHealthy {
        /// Of the new member.
        id: u64,
    },
    /// Remove the old member.
    Remove {
        /// Of the old member.
        id: u64,
    },
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such member.
    #[error("the cluster has no member {0:x}")]
    NotFound(u64),
    /// There is no majority.
    #[error("{healthy} of {voters} voters answer: that is no quorum")]
    NoQuorum {
        /// Voters that answer.
        healthy: usize,
        /// All voters.
        voters: usize,
    },
    /// Another one is in trouble.
    #[error(
        "voter {id:x} ({name}) does not answer; with another change under way the quorum hangs on a single member"
    )]
    Unhealthy {
        /// Which.
        id: u64,
        /// Its name.
        name: String,
    },
    /// The address belongs to the old member.
    #[error("member {0:x} itself is reached at that address")]
    SameAddress(u64),
    /// There is a learner already.
    #[error("member {0:x} is a learner already; one at a time")]
    OtherLearner(u64),
}

impl Refusal {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::NotFound(_) => {
                "see: etcdctl member list; where an earlier run has removed it, give --removed"
            }
            Refusal::NoQuorum { .. } => {
                "bring a quorum back; where members are lost for good, see keelson recover --help"
            }
            Refusal::Unhealthy { .. } => "bring it back first, or replace that one first",
            Refusal::SameAddress(_) => "give the new member another port or host",
            Refusal::OtherLearner(_) => "promote or remove it first",
        }
    }
}

/// The steps that are left. `removed`: the old member was there and has been removed.
///
/// A member that answers goes last. One that does not goes first: it is of no use to the quorum, and a cluster takes no new
/// member while one is away.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(members: &[Seen], wanted: &Wanted, removed: bool) -> Result<Vec<Step>, Refusal> {
    let new = members.iter().find(|member| member.peer_urls.iter().any(|url| wanted.peer_urls.contains(url)));
    let old = members.iter().find(|member| member.id == wanted.old);
    if old.is_none() && new.is_none() && !removed {
        return Err(Refusal::NotFound(wanted.old));
    }
    if let (Some(old), Some(new)) = (old, new)
        && old.id == new.id
    {
        return Err(Refusal::SameAddress(old.id));
    }
    let is_old = |member: &Seen| member.id == wanted.old;
    let is_new = |member: &Seen| new.is_some_and(|new| new.id == member.id);
    let voters: Vec<_> = members.iter().filter(|member| !member.learner).collect();
    let healthy = voters.iter().filter(|member| member.healthy).count();
    if healthy < voters.len() / 2 + 1 {
        return Err(Refusal::NoQuorum { healthy, voters: voters.len() });
    }
    let ill = voters.iter().find(|member| !member.healthy && !is_old(member) && !is_new(member));
    if let Some(ill) = ill {
        return Err(Refusal::Unhealthy { id: ill.id, name: ill.name.clone() });
    }
    let learner = members.iter().find(|member| member.learner && !is_old(member) && !is_new(member));
    if let (None, Some(learner)) = (new, learner) {
        return Err(Refusal::OtherLearner(learner.id));
    }
    let mut steps = match new {
        None => vec![Step::AddLearner],
        Some(new) if new.learner => vec![Step::Promote { id: new.id }],
        Some(new) if !new.healthy => vec![Step::AwaitHealthy { id: new.id }],
        Some(_) => Vec::new(),
    };
    if let Some(old) = old {
        let remove = Step::Remove { id: old.id };
        if old.healthy { steps.push(remove) } else { steps.insert(0, remove) }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, learner: bool, healthy: bool) -> Seen {
        Seen { id, name: format!("m{id}"), peer_urls: vec![format!("http://m{id}:2380")], learner, healthy }
    }

    fn voters(healthy: &[bool]) -> Vec<Seen> {
        healthy.iter().zip(1..).map(|(healthy, id)| member(id, false, *healthy)).collect()
    }

    fn wanted(old: u64, new: u64) -> Wanted {
        Wanted { old, name: format!("m{new}"), peer_urls: vec![format!("http://m{new}:2380")] }
    }

    #[test]
    fn a_plan_made_anew_is_the_rest_of_it() {
        let mut members = voters(&[true, true, true]);
        let wanted = wanted(3, 4);
        let remove = Step::Remove { id: 3 };
        assert_eq!(plan(&members, &wanted, false), Ok(vec![Step::AddLearner, remove.clone()]));
        members.push(member(4, true, false));
        assert_eq!(plan(&members, &wanted, false), Ok(vec![Step::Promote { id: 4 }, remove.clone()]));
        members[3].learner = false;
        assert_eq!(plan(&members, &wanted, false), Ok(vec![Step::AwaitHealthy { id: 4 }, remove.clone()]));
        members[3].healthy = true;
        assert_eq!(plan(&members, &wanted, false), Ok(vec![remove]));
        members.remove(2);
        assert_eq!(plan(&members, &wanted, false), Ok(vec![]));
    }

    #[test]
    fn a_dead_member_goes_first() {
        let mut members = voters(&[true, true, false]);
        let wanted = wanted(3, 4);
        assert_eq!(plan(&members, &wanted, false), Ok(vec![Step::Remove { id: 3 }, Step::AddLearner]));
        members.remove(2);
        assert_eq!(plan(&members, &wanted, false), Err(Refusal::NotFound(3)));
        assert_eq!(plan(&members, &wanted, true), Ok(vec![Step::AddLearner]));
        members.push(member(4, true, true));
        assert_eq!(plan(&members, &wanted, false), Ok(vec![Step::Promote { id: 4 }]));
    }

    #[test]
    fn what_is_unsafe_is_refused() {
        let check = |members: &[Seen], wanted: Wanted, expected: Refusal| {
            assert_eq!(plan(members, &wanted, false), Err(expected.clone()));
            assert!(!expected.remedy().is_empty());
        };
        check(&voters(&[true, true, true]), wanted(9, 4), Refusal::NotFound(9));
        check(&voters(&[true, true, true]), wanted(1, 1), Refusal::SameAddress(1));
        let lost = Refusal::NoQuorum { healthy: 1, voters: 3 };
        check(&voters(&[true, false, false]), wanted(3, 4), lost);
        // Five members, one of the others is ill as well.
        let ill = Refusal::Unhealthy { id: 2, name: "m2".to_owned() };
        check(&voters(&[true, false, true, true, false]), wanted(5, 6), ill.clone());
        // The old one is well: still not with an ill one beside it.
        check(&voters(&[true, false, true]), wanted(3, 4), ill);
        let mut members = voters(&[true, true, true]);
        members.push(member(7, true, true));
        check(&members, wanted(1, 8), Refusal::OtherLearner(7));
        // A new voter that fell ill is waited for, as long as the rest is a majority.
        let mut members = voters(&[true, true, true]);
        members.push(member(4, false, false));
        assert!(plan(&members, &wanted(3, 4), false).is_ok());
        members[2].healthy = false;
        check(&members, wanted(3, 4), Refusal::NoQuorum { healthy: 2, voters: 4 });
    }

    #[test]
    fn the_only_member_can_be_replaced() {
        assert_eq!(plan(&voters(&[true]), &wanted(1, 2), false).unwrap().len(), 2);
    }
}
