//! Tests of the core of the proposer: no Raft, a clock set by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use keelson_mvcc::types::{Outcome, Put};

use super::*;
use crate::batch;

struct Fixture {
    proposals: Arc<Proposals>,
    now_ms: Arc<AtomicU64>,
}

fn fixture(options: ProposerOptions) -> Fixture {
    let now_ms = Arc::new(AtomicU64::new(0));
    let clock = Clock::by_hand(now_ms.clone());
    Fixture { proposals: Proposals::new(1, 77, options, clock), now_ms }
}

impl Fixture {
    fn put(&self, key: &'static str) -> Proposal {
        let put = Put { key: Bytes::from_static(key.as_bytes()), ..Put::default() };
        self.proposals.propose(&Command::Put(put), Duration::from_secs(5), None, 0)
    }

    fn advance(&self, by_ms: u64) {
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.proposals.expire();
    }

    fn apply(&self, batch: &Batch, first_revision: i64) {
        let (id, commands) = batch::decode(&batch.0).expect("our own batch");
        let replies = (0..commands.len() as i64).map(|offset| reply(first_revision + offset)).collect();
        self.proposals.applied([(id, replies)]);
    }
}

fn reply(revision: i64) -> Reply {
    Reply { revision, outcome: Ok(Outcome::Put { prev: None }) }
}

#[test]
fn what_is_queued_becomes_one_entry_and_each_command_gets_its_own_reply() {
    let fixture = fixture(ProposerOptions::default());
    let (a, b) = (fixture.put("a"), fixture.put("b"));
    let (_, batch) = fixture.proposals.take().expect("one batch");
    assert!(fixture.proposals.take().is_none());
    fixture.apply(&batch, 10);
    assert_eq!(a.now_or_never().expect("answered"), Ok(reply(10)));
    assert_eq!(b.now_or_never().expect("answered"), Ok(reply(11)));
    assert_eq!(fixture.proposals.waiting(), 0);
}

#[test]
fn beyond_the_window_a_batch_waits_for_company_or_a_completion() {
    let fixture = fixture(ProposerOptions { window_min: 1, ..ProposerOptions::default() });
    let _a = fixture.put("a");
    let (_, first) = fixture.proposals.take().expect("the window is empty");
    let _b = fixture.put("b");
    let _c = fixture.put("c");
    assert!(fixture.proposals.take().is_none(), "one is under way");
    fixture.apply(&first, 2);
    let (_, second) = fixture.proposals.take().expect("the window has room again");
    assert_eq!(batch::decode(&second.0).expect("decodes").1.len(), 2);
}

#[test]
fn replies_of_an_earlier_life_or_another_member_go_to_nobody() {
    let fixture = fixture(ProposerOptions::default());
    let mut a = fixture.put("a");
    let (sequence, batch) = fixture.proposals.take().expect("one batch");
    for (proposer, incarnation) in [(2, 77), (1, 76)] {
        fixture.proposals.applied([(BatchId { proposer, incarnation, sequence }, vec![reply(1)])]);
    }
    assert!((&mut a).now_or_never().is_none());
    fixture.apply(&batch, 5);
    assert_eq!(a.now_or_never().expect("answered"), Ok(reply(5)));
}

/// Rule 2: only proof that an entry was not appended leads to a second sending.
#[test]
fn rule_2_only_what_was_certainly_not_appended_is_sent_again() {
    let fixture = fixture(ProposerOptions::default());
    let a = fixture.put("a");
    let (sequence, batch) = fixture.proposals.take().expect("one batch");
    fixture.proposals.not_appended(sequence);
    assert!(fixture.proposals.take().is_none(), "after a pause only");
    fixture.advance(2);
    let (again, same) = fixture.proposals.take().expect("sent again");
    assert_eq!((again, &same), (sequence, &batch));

    // The connection breaks: nothing is known, so nothing is sent, however long it takes.
    fixture.proposals.connection_lost(sequence);
    fixture.advance(4000);
    assert!(fixture.proposals.take().is_none());
    fixture.advance(1000);
    assert_eq!(a.now_or_never().expect("answered"), Err(ProposeError::Timeout(TimeoutCause::ConnectionLost)));

    // An entry that left the log is reported as unknown, at once, and not sent again.
    let b = fixture.put("b");
    let (sequence, _) = fixture.proposals.take().expect("one batch");
    fixture.proposals.discarded(sequence);
    assert_eq!(b.now_or_never().expect("answered"), Err(ProposeError::LeaderChanged));
    fixture.advance(1000);
    assert!(fixture.proposals.take().is_none());
}

#[test]
fn a_batch_nobody_waits_for_is_not_sent_again() {
    let fixture = fixture(ProposerOptions::default());
    let a = fixture.put("a");
    let (sequence, _) = fixture.proposals.take().expect("one batch");
    fixture.proposals.leaderless();
    fixture.proposals.not_appended(sequence);
    fixture.advance(6000);
    assert!(fixture.proposals.take().is_none());
    // The clock stood at the start of the request when the leader was found missing.
    assert_eq!(a.now_or_never().expect("answered"), Err(ProposeError::Timeout(TimeoutCause::LeaderFailed)));
    assert_eq!(fixture.proposals.waiting(), 0);
    assert_eq!(fixture.proposals.pause_ms(50), None);
}

#[test]
fn too_much_waiting_is_refused_and_room_comes_back_with_replies() {
    let fixture = fixture(ProposerOptions { commands_max: 2, ..ProposerOptions::default() });
    let (_a, _b) = (fixture.put("a"), fixture.put("b"));
    assert_eq!(fixture.put("c").now_or_never().expect("refused"), Err(ProposeError::Overloaded));
    let (_, batch) = fixture.proposals.take().expect("one batch");
    fixture.apply(&batch, 2);
    assert!(fixture.put("d").now_or_never().is_none());
}

#[test]
fn lag_and_size_are_refused() {
    let fixture = fixture(ProposerOptions { batch_bytes_max: 64, ..ProposerOptions::default() });
    let large = Command::Put(Put { value: Bytes::from(vec![0; 100]), ..Put::default() });
    let refused = fixture.proposals.propose(&large, Duration::from_secs(1), None, 0).now_or_never();
    assert_eq!(refused, Some(Err(ProposeError::TooLarge)));
    let small = Command::Compact { revision: 1 };
    let refused = fixture.proposals.propose(&small, Duration::from_secs(1), None, 5001).now_or_never();
    assert_eq!(refused, Some(Err(ProposeError::Overloaded)));
}

#[test]
fn batches_are_cut_at_their_size() {
    let fixture = fixture(ProposerOptions { batch_bytes_max: 100, ..ProposerOptions::default() });
    let proposals: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(|key| fixture.put(key)).collect();
    let mut commands = 0;
    let mut batches = 0;
    while let Some((_, batch)) = fixture.proposals.take() {
        assert!(batch.0.len() <= 100);
        commands += batch::decode(&batch.0).expect("decodes").1.len();
        batches += 1;
    }
    assert_eq!(commands, proposals.len());
    assert!(batches > 1);
}

#[test]
fn a_lane_gets_the_replies_of_a_group_in_one_piece() {
    let fixture = fixture(ProposerOptions::default());
    let (lane, mut end) = Lane::new();
    let put = Command::Put(Put { key: Bytes::from_static(b"k"), ..Put::default() });
    let mut waiting: Vec<_> =
        (0..3).map(|_| fixture.proposals.propose(&put, Duration::from_secs(5), Some(&lane), 0)).collect();
    let (_, batch) = fixture.proposals.take().expect("one batch");
    fixture.apply(&batch, 2);
    assert!((&mut waiting[0]).now_or_never().is_none(), "the lane's end has not run yet");
    let delivery = end.try_next().expect("one delivery");
    assert_eq!(delivery.len(), 3);
    hand_out(delivery);
    assert!(end.try_next().is_none());
    assert!(waiting.into_iter().all(|waiting| waiting.now_or_never().is_some()));
}

/// Found by the simulation: a member that forwarded a put and then got a snapshot instead of the entry waited for its
/// reply until the deadline.
#[test]
fn replies_that_a_snapshot_has_swallowed_are_not_waited_for() {
    let fixture = fixture(ProposerOptions { window_min: 8, ..ProposerOptions::default() });
    let mut proposals = Vec::new();
    for (key, index) in [("a", 4), ("b", 5), ("c", 9)] {
        let proposal = fixture.put(key);
        let (sequence, batch) = fixture.proposals.take().expect("one batch");
        proposals.push((proposal, sequence, batch, index));
    }
    fixture.proposals.applied_there(proposals[0].1, 4);
    fixture.proposals.applied_there(proposals[2].1, 9);
    fixture.proposals.installed(6);
    // The leader's word comes late for this one.
    fixture.proposals.applied_there(proposals[1].1, 5);
    let [a, b, c] = <[_; 3]>::try_from(proposals).map_err(drop).expect("three");
    assert_eq!(a.0.now_or_never().expect("answered"), Err(ProposeError::LeaderChanged));
    assert_eq!(b.0.now_or_never().expect("answered"), Err(ProposeError::LeaderChanged));
    fixture.apply(&c.2, 7);
    assert_eq!(c.0.now_or_never().expect("answered"), Ok(reply(7)), "it is above the snapshot");
}

#[test]
fn stopping_answers_everybody() {
    let fixture = fixture(ProposerOptions::default());
    let a = fixture.put("a");
    fixture.proposals.take().expect("one batch");
    let b = fixture.put("b");
    fixture.proposals.stop();
    assert_eq!(a.now_or_never().expect("answered"), Err(ProposeError::Stopped));
    assert_eq!(b.now_or_never().expect("answered"), Err(ProposeError::Stopped));
    assert_eq!(fixture.put("c").now_or_never().expect("refused"), Err(ProposeError::Stopped));
}
