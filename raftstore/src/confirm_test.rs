//! Rounds of questions on openraft's simulated runtime; the voters are futures that the tests complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;

const LIMIT: Duration = Duration::from_millis(500);
const LEADER: MemberId = 1;

/// Voters that answer when told to.
#[derive(Clone, Default)]
struct Voters(Arc<Mutex<BTreeMap<MemberId, Vec<oneshot::Sender<bool>>>>>);

impl Voters {
    fn ask(&self) -> impl Fn(MemberId) -> BoxFuture<'static, bool> + use<> {
        let voters = self.clone();
        move |voter| {
            let (sender, answer) = oneshot::channel();
            voters.0.lock().entry(voter).or_default().push(sender);
            async move { answer.await.unwrap_or(false) }.boxed()
        }
    }

    /// The oldest question to `voter` that has no answer yet gets one.
    fn answer(&self, voter: MemberId, yes: bool) {
        let question = self.0.lock().get_mut(&voter).expect("was asked").remove(0);
        let _ = question.send(yes);
    }

    fn unanswered(&self, voter: MemberId) -> usize {
        self.0.lock().get(&voter).map_or(0, Vec::len)
    }
}

fn membership(configs: &[&[MemberId]]) -> Membership<MemberId, ()> {
    let configs: Vec<BTreeSet<_>> = configs.iter().map(|config| config.iter().copied().collect()).collect();
    let nodes: BTreeSet<_> = configs.iter().flatten().copied().collect();
    Membership::new(configs, nodes).expect("valid")
}

fn run<T>(test: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(1).block_on(test)
}

/// A round that has asked its questions and waits.
macro_rules! begun {
    ($confirmations:ident, $membership:expr, $voters:expr) => {{
        let mut round =
            Box::pin($confirmations.round::<SimRuntime, _>(LEADER, $membership, LIMIT, $voters.ask()));
        assert_eq!(round.as_mut().now_or_never(), None, "nobody has answered");
        round
    }};
}

/// A round that is still open when its patience is over, by the clock of the simulation.
macro_rules! stays_open {
    ($round:ident) => {
        let waited = SimRuntime::timeout(2 * PATIENCE, $round.as_mut()).await;
        assert!(waited.is_err(), "nobody has answered, and the limit is far");
    };
}

#[test]
fn a_sole_voter_asks_nobody() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let alone = membership(&[&[LEADER]]);
        assert!(confirmations.round::<SimRuntime, _>(LEADER, &alone, LIMIT, voters.ask()).await);
    });
}

#[test]
fn one_yes_of_two_is_enough_and_two_noes_are_not() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let three = membership(&[&[1, 2, 3]]);
        let mut round = begun!(confirmations, &three, voters);
        assert_eq!(voters.unanswered(3), 0, "2 may be enough");
        voters.answer(2, false);
        assert_eq!(round.as_mut().now_or_never(), None, "2 is not enough");
        voters.answer(3, true);
        assert!(round.await);
        let mut round = begun!(confirmations, &three, voters);
        assert_eq!((voters.unanswered(2), voters.unanswered(3)), (0, 1), "who was willing is asked first");
        voters.answer(3, false);
        assert_eq!(round.as_mut().now_or_never(), None, "2 is left");
        voters.answer(2, false);
        assert!(!round.await);
    });
}

#[test]
fn no_more_are_asked_than_needed_until_patience_is_over() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let five = membership(&[&[1, 2, 3, 4, 5]]);
        let asked = || [2, 3, 4, 5].map(|voter| voters.unanswered(voter));
        let mut round = begun!(confirmations, &five, voters);
        assert_eq!(asked(), [1, 1, 0, 0]);
        voters.answer(2, true);
        assert_eq!(round.as_mut().now_or_never(), None);
        stays_open!(round);
        assert_eq!(asked(), [0, 1, 1, 1]);
        voters.answer(5, true);
        assert!(round.await);
        let _round = begun!(confirmations, &five, voters);
        assert_eq!(asked(), [1, 1, 1, 1], "2 and 5 again; 3 and 4 are still to answer the first round");
    });
}

#[test]
fn an_answer_to_an_earlier_round_confirms_nothing() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let three = membership(&[&[1, 2, 3]]);
        let mut round = begun!(confirmations, &three, voters);
        stays_open!(round);
        voters.answer(3, true);
        assert!(round.await, "2 is still busy with this one");
        let mut round = begun!(confirmations, &three, voters);
        stays_open!(round);
        assert_eq!(voters.unanswered(2), 1, "one question at a time");
        voters.answer(2, true);
        assert_eq!(round.as_mut().now_or_never(), None, "that was the first round's answer");
        assert_eq!(voters.unanswered(2), 1, "asked again, for this round");
        voters.answer(2, true);
        assert!(round.await);
    });
}

#[test]
fn both_halves_of_a_joint_membership_are_asked() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let joint = membership(&[&[1, 2, 3], &[1, 4, 5]]);
        let mut round = begun!(confirmations, &joint, voters);
        assert_eq!([2, 3, 4, 5].map(|voter| voters.unanswered(voter)), [1, 1, 1, 0]);
        voters.answer(2, true);
        voters.answer(3, true);
        assert_eq!(round.as_mut().now_or_never(), None, "the new half has not confirmed");
        voters.answer(4, true);
        assert!(round.await);
    });
}

#[test]
fn silence_ends_the_round() {
    run(async {
        let (voters, mut confirmations) = (Voters::default(), Confirmations::default());
        let three = membership(&[&[1, 2, 3]]);
        assert!(!confirmations.round::<SimRuntime, _>(LEADER, &three, LIMIT, voters.ask()).await);
        assert_eq!((voters.unanswered(2), voters.unanswered(3)), (1, 1));
        assert!(!confirmations.round::<SimRuntime, _>(LEADER, &three, LIMIT, voters.ask()).await);
        assert_eq!((voters.unanswered(2), voters.unanswered(3)), (1, 1), "not one question more");
    });
}
