//! The end of a run: everything heals, everybody agrees, and the history is judged.
//!
//! Owns: the waits for agreement with their limits, the last reads, the call of the checker. Called by: [`crate::run`].

use std::sync::Arc;
use std::time::Duration;

use keelson_checker::{History, RevisionRecord, Rules, Summary, check};
use keelson_raftstore::MemberId;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::client::Client;
use crate::nemesis::{CHANGE_MAX, Nemesis};
use crate::watcher::Watcher;
use crate::world::{Running, World};

/// How long a healed cluster may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` is true, and notes a failure if it takes too long.
async fn until(world: &World, what: &str, mut look: impl FnMut() -> bool) -> bool {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if look() {
            return true;
        }
        SimRuntime::sleep(LOOK).await;
    }
    let state: Vec<_> =
        world.members().iter().map(|member| (member.node.status(), member.node.diagnostics())).collect();
    world.fail(format_args!("a healed cluster does not come to: {what}: {state:#?}"));
    false
}

/// The liveness half of a run: what must work once nothing disturbs it. Gives the last revision.
pub(crate) async fn settle(world: &Arc<World>, nemesis: &mut Nemesis) -> Option<i64> {
    nemesis.heal().await;
    let leader = |world: &World| -> Option<Running> {
        world.members().into_iter().find(|member| member.node.status().is_leader)
    };
    if !until(world, "a leader", || leader(world).is_some()).await {
        return None;
    }
    // Changes of the membership that are under way come to their end, here and on the leader.
    SimRuntime::sleep(2 * CHANGE_MAX).await;
    if !until(world, "a leader again", || leader(world).is_some()).await {
        return None;
    }
    let members: Vec<MemberId> =
        leader(world)?.node.members().members.iter().map(|member| member.id).collect();
    nemesis.follow_membership(&members).await;
    let agreed = || {
        let members = world.members();
        let leader = members.first().and_then(|member| member.node.status().leader);
        leader.is_some()
            && members.iter().all(|member| {
                let status = member.node.status();
                status.ready && status.leader == leader
            })
    };
    if !until(world, "everybody ready, with one leader", agreed).await {
        return None;
    }
    for member in world.members() {
        let mut client = Client::new(world.clone(), 100 + member.id as u32);
        let mut acknowledged = false;
        for _ in 0..5 {
            acknowledged = acknowledged || client.last_put(&member).await;
        }
        if !acknowledged {
            world.fail(format_args!("member {} of a healed cluster takes no put", member.id));
        }
    }
    world.stop();
    // Whatever is still on its way arrives or is given up.
    SimRuntime::sleep(Duration::from_millis(700)).await;
    let quiet = || {
        let members = world.members();
        let applied = |member: &Running| member.node.status().applied_index;
        members.iter().all(|member| {
            applied(member) == applied(&members[0]) && member.node.diagnostics().proposals_waiting == 0
        })
    };
    until(world, "everybody has applied the same", quiet).await.then_some(())?;
    world.check_invariants();
    Some(agree(world).await)
}

/// Reads everything from everybody, twice: as state and as events.
async fn agree(world: &Arc<World>) -> i64 {
    let members = world.members();
    let mut hashes = Vec::new();
    let last = members.iter().map(|member| member.node.reader().view().revision()).max().unwrap_or(1);
    let compacted = members.iter().map(|member| member.node.reader().view().compacted()).max().unwrap_or(-1);
    for member in &members {
        Client::new(world.clone(), 200 + member.id as u32).last_read(member).await;
        match member.node.reader().view().hash_kv(0) {
            Ok(hash) => hashes.push((member.id, hash)),
            Err(error) => world.fail(format_args!("hash of member {}: {error}", member.id)),
        }
        Watcher::catch_up(world.clone(), member, compacted.max(1) + 1, last).await;
    }
    if hashes.iter().any(|(_, hash)| *hash != hashes[0].1) {
        world.fail(format_args!("members hold different data: {hashes:?}"));
    }
    last
}

/// Judges what clients and watchers have recorded.
pub(crate) fn judge(world: &World, last: i64) -> Summary {
    let recorded = std::mem::take(&mut *world.recorded.lock());
    let log: Vec<_> =
        recorded.log.into_iter().map(|(revision, (_, events))| RevisionRecord { revision, events }).collect();
    let end = log.last().map_or(1, |record| record.revision);
    if end != last {
        world.fail(format_args!("watchers saw revisions up to {end}, the store is at {last}"));
    }
    let history = History {
        initial: Vec::new(),
        initial_revision: 1,
        log,
        records: recorded.records,
        watches: recorded.watches,
        leases: Vec::new(),
        lease_ids: recorded.lease_ids,
    };
    let verdict = check(&history, Rules { member_revision_monotone: true });
    for violation in verdict.violations.iter().take(5) {
        world.fail(violation);
    }
    verdict.summary
}
