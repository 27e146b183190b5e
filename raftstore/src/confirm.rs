//! Does this leader still lead? A round of one small question to each voter.
//!
//! Owns: the rounds, and the questions under way. Called by: `read_index`. The answering side is `net::server`, which
//! looks at the vote of its log and needs neither the runtime nor the core of Raft there: two thread switches less per
//! member and read than a heartbeat through openraft costs.
//!
//! # Why a round confirms
//! A voter says yes only while its last promise is the asking leader's. A later leader needs promises of a quorum, which
//! meets every quorum of this round in a voter that gave its promise after it said yes, hence after the round began.
//!
//! # Invariants
//! - An answer counts in the round in which it was asked for, so answers delayed by a stopped process confirm nothing.
//! - One question at a time to each voter: one that does not answer costs one question per time limit.
//! - No more voters are asked than are needed, those first that said yes last; once one says no or [`PATIENCE`] is over,
//!   others are asked too, so a member that stops delays readers by that much, once.
//! - In a joint membership each half needs its own majority.
//!
//! Source: Raft dissertation section 6.4, step 3, with a message of its own in place of heartbeats.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::AsyncRuntime;
use openraft::{Instant, Membership, Node};

use crate::types::MemberId;

/// After this time without a quorum everybody is asked: many times what an answer takes within a data centre, and little
/// beside what one takes between two.
const PATIENCE: Duration = Duration::from_millis(5);

/// What came of one question.
struct Answer {
    voter: MemberId,
    round: u64,
    yes: bool,
}

/// Rounds of questions, one at a time.
#[derive(Default)]
pub(crate) struct Confirmations {
    round: u64,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    busy: BTreeSet<MemberId>,
    /// Who said yes, the last one first: asked first the next time.
    willing: Vec<MemberId>,
}

impl Confirmations {
    /// Runs a round for `leader`: true once a quorum of `membership`, with the leader, has said yes within `limit`.
    /// `ask` puts the question to a voter and must end within a limit of its own.
    pub(crate) async fn round<RT, N>(
        &mut self,
        leader: MemberId,
        membership: &Membership<MemberId, N>,
        limit: Duration,
        ask: impl Fn(MemberId) -> BoxFuture<'static, bool>,
    ) -> bool
    where
        RT: AsyncRuntime,
        N: Node,
    {
        self.round += 1;
        let begun = RT::Instant::now();
        let mut confirmed = BTreeSet::from([leader]);
        let mut hoped_for = confirmed.clone();
        let mut unasked = self.by_willingness(leader, membership);
        let mut all = false;
        while !is_quorum(membership, &confirmed) {
            while let Some(at) = unasked.iter().position(|voter| !self.busy.contains(voter))
                && (all || !is_quorum(membership, &hoped_for))
            {
                let voter = unasked.remove(at);
                hoped_for.insert(voter);
                self.ask(voter, &ask);
            }
            let patience = if all { limit } else { PATIENCE.min(limit) };
            match RT::timeout_at(begun + patience, self.asked.next()).await {
                Ok(Some(answer)) => {
                    self.busy.remove(&answer.voter);
                    if answer.round < self.round {
                        continue;
                    }
                    self.willing.retain(|voter| *voter != answer.voter);
                    if answer.yes {
                        confirmed.insert(answer.voter);
                        self.willing.insert(0, answer.voter);
                    } else {
                        hoped_for.remove(&answer.voter);
                    }
                }
                Err(_) if !all => all = true,
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// The voters beside `leader`, those that are likely to answer soonest first.
    fn by_willingness<N: Node>(
        &mut self,
        leader: MemberId,
        membership: &Membership<MemberId, N>,
    ) -> Vec<MemberId> {
        let others: BTreeSet<_> = membership.voter_ids().filter(|voter| *voter != leader).collect();
        self.willing.retain(|voter| others.contains(voter));
        let rest = others.into_iter().filter(|voter| !self.willing.contains(voter));
        self.willing.iter().copied().chain(rest).collect()
    }

    fn ask(&mut self, voter: MemberId, ask: impl Fn(MemberId) -> BoxFuture<'static, bool>) {
        let (round, question) = (self.round, ask(voter));
        self.busy.insert(voter);
        self.asked.push(Box::pin(async move { Answer { voter, round, yes: question.await } }));
    }
}

fn is_quorum<N: Node>(membership: &Membership<MemberId, N>, members: &BTreeSet<MemberId>) -> bool {
    let majority = |voters: &BTreeSet<MemberId>| 2 * voters.intersection(members).count() > voters.len();
    membership.get_joint_config().iter().all(majority)
}

#[cfg(test)]
#[path = "confirm_test.rs"]
mod confirm_test;
