//! Disturbances: what is done to which members, and when the cluster counts as healed.
//!
//! Owns: the cycle "disturb, let it hurt, heal, wait until every member serves". Invariant: each cycle's disturbance took
//! place (the process was running before) and at least one operation succeeded between two disturbances.
//! Called by: the crash suite.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::recorder::Recorder;
use crate::clock;
use crate::cluster::{Cluster, READY_WAIT};
use crate::random::Random;

/// What happens in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// SIGKILL one member.
    KillOne,
    /// SIGKILL the leader.
    KillLeader,
    /// SIGKILL all members at once.
    KillAll,
    /// SIGTERM one member.
    Terminate,
    /// SIGSTOP the leader for longer than an election takes, then SIGCONT.
    FreezeLeader,
}

/// What was done in a run.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Cycles.
    pub cycles: usize,
    /// The time from a disturbance to the next acknowledged operation of any client, per cycle.
    pub outages: Vec<Duration>,
}

/// Disturbs the cluster `cycles` times.
///
/// # Panics
/// If the cluster does not heal.
pub async fn torment(
    cluster: &mut Cluster,
    recorder: &Recorder,
    random: &mut Random,
    choices: &[Disturbance],
    cycles: usize,
) -> Done {
    let mut done = Done::default();
    for cycle in 0..cycles {
        work_goes_on(recorder, cycle).await;
        // Somewhere in the middle of whatever the server is doing.
        clock::pause(Duration::from_micros(random.bits() % 60_000)).await;
        let choice = *random.pick(choices);
        let before = recorder.acknowledged();
        let start = clock::now();
        disturb(cluster, random, choice, cycle).await;
        if let Err(error) = cluster.wait_ready(READY_WAIT).await {
            panic!("cycle {cycle}, {choice:?}: the cluster does not heal: {error}");
        }
        let again = clock::until(READY_WAIT, || async {
            if recorder.acknowledged() > before { Ok(()) } else { Err(()) }
        });
        assert!(again.await.is_ok(), "cycle {cycle}, {choice:?}: no client got an answer again");
        done.outages.push(start.elapsed());
        done.cycles += 1;
    }
    done
}

/// Waits until clients have had a number of operations acknowledged since the last disturbance.
async fn work_goes_on(recorder: &Recorder, cycle: usize) {
    const OPERATIONS_BETWEEN: u64 = 30;
    let target = recorder.acknowledged() + OPERATIONS_BETWEEN;
    let working = clock::until(READY_WAIT, || async {
        if recorder.acknowledged() >= target { Ok(()) } else { Err(()) }
    });
    assert!(working.await.is_ok(), "cycle {cycle}: the clients get no work done");
}

async fn disturb(cluster: &mut Cluster, random: &mut Random, choice: Disturbance, cycle: usize) {
    let size = cluster.size();
    let election = Duration::from_millis(cluster.options().election_ms);
    match choice {
        Disturbance::KillOne | Disturbance::KillLeader | Disturbance::KillAll => {
            let victims: Vec<usize> = match choice {
                Disturbance::KillOne => vec![random.below(size)],
                Disturbance::KillLeader => vec![leader(cluster, cycle).await],
                _ => (0..size).collect(),
            };
            for index in &victims {
                let exited = cluster.member_mut(*index).exited();
                assert!(exited.is_none(), "cycle {cycle}: a member had ended by itself: {exited:?}");
                cluster.member_mut(*index).kill();
            }
            // The others may notice, elect, and write on.
            if random.percent(50) {
                clock::pause(Duration::from_millis(random.bits() % (2 * election.as_millis() as u64))).await;
            }
            for index in victims {
                cluster.member_mut(index).start().expect("the process starts again");
            }
        }
        Disturbance::Terminate => {
            let index = random.below(size);
            let status = cluster.member_mut(index).terminate(Duration::from_secs(20));
            // etcd raises the signal again after its orderly stop; a program may also exit with 0.
            let orderly = |status: &ExitStatus| status.success() || status.signal() == Some(libc::SIGTERM);
            assert!(status.as_ref().is_ok_and(orderly), "cycle {cycle}: SIGTERM ended with {status:?}");
            cluster.member_mut(index).start().expect("the process starts again");
        }
        Disturbance::FreezeLeader => {
            let index = leader(cluster, cycle).await;
            cluster.member(index).freeze();
            clock::pause(election * 2 + Duration::from_millis(random.bits() % 500)).await;
            cluster.member(index).thaw();
        }
    }
}

async fn leader(cluster: &Cluster, cycle: usize) -> usize {
    match cluster.leader(READY_WAIT).await {
        Ok(index) => index,
        Err(status) => panic!("cycle {cycle}: no leader: {status}"),
    }
}
