//! The verdict on a run: joins what the watchers saw into one order of changes and gives everything to the checker.
//!
//! Owns: the join, the final reads, and the comparison of the members with each other.
//! Invariant: two watchers of any members that saw a revision saw the same events; otherwise members have diverged.
//! Called by: the crash suite, after the cluster has healed and the clients have stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_checker::{
    Consistency, Event, History, KeyRange, Operation, Outcome, Range, Record, RevisionRecord, Rules, Verdict,
    WatchItem, check,
};
use keelson_proto::etcdserverpb as pb;

use super::convert;
use super::recorder::Recorder;
use super::watchers::Watcher;
use crate::client::Client;
use crate::clock;
use crate::cluster::Cluster;

/// How long members may take to agree once nothing disturbs them.
const CONVERGENCE_WAIT: Duration = Duration::from_secs(20);

/// Checks the whole run.
///
/// # Panics
/// If a promise is broken, members differ, or the order of changes has a hole.
pub async fn verify(cluster: &Cluster, recorder: &Arc<Recorder>, rules: Rules) -> Verdict {
    let clients: Vec<Client> =
        (0..cluster.size()).map(|index| Client::lazy(&cluster.member(index).client_url())).collect();
    let mut last = 0;
    for (member, client) in clients.iter().enumerate() {
        last = last.max(final_read(recorder, client, member as u32).await);
    }
    let mut watches = std::mem::take(&mut *recorder.watches.lock().expect("no recorder panics"));
    let from = (recorder.compaction() + 1).max(2);
    for member in 0..cluster.size() {
        let watcher =
            Watcher::new(cluster.member(member).client_url(), member as u32, 1_000, recorder.clone());
        let mut record = watcher.catch_up(from, last).await;
        record.complete_through = last;
        watches.push(record);
    }
    let log = join(&watches);
    let records = std::mem::take(&mut *recorder.records.lock().expect("no recorder panics"));
    let leases = std::mem::take(&mut *recorder.promises.lock().expect("no recorder panics"));
    let mut lease_ids: Vec<i64> = leases.iter().map(|promise| promise.lease).collect();
    lease_ids.sort_unstable();
    lease_ids.dedup();
    let history =
        History { initial: Vec::new(), initial_revision: 1, log, records, watches, leases, lease_ids };
    let verdict = check(&history, rules);
    assert!(
        verdict.accepted(),
        "{} violations, first: {:#?}",
        verdict.violations.len(),
        verdict.violations.first()
    );
    hashes_agree(&clients).await;
    verdict
}

/// A linearizable read of everything, recorded like any other operation; returns the revision.
async fn final_read(recorder: &Recorder, client: &Client, member: u32) -> i64 {
    let request = pb::RangeRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        ..Default::default()
    };
    let invoked = recorder.now();
    let mut kv = client.kv();
    let answer = kv.range(request).await.expect("a healed cluster answers reads").into_inner();
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    recorder.record(Record {
        client: 1_000 + member,
        member,
        invoked,
        returned: recorder.now(),
        consistency: Consistency::Linearizable,
        operation: Operation::Range(Range { range: KeyRange::all(), ..Range::default() }),
        outcome: Outcome::Ok { revision, response: convert::range_response(&answer) },
    });
    revision
}

/// All revisions that any watcher saw.
fn join(watches: &[keelson_checker::WatchRecord]) -> Vec<RevisionRecord> {
    let mut revisions: BTreeMap<i64, (u32, Vec<Event>)> = BTreeMap::new();
    for watch in watches {
        for item in &watch.items {
            let WatchItem::Events { events, .. } = item else { continue };
            for group in events.chunk_by(|left, right| left.kv.mod_revision == right.kv.mod_revision) {
                // Previous values are compared by the checker; a compaction may have taken them from one of the two.
                let plain: Vec<Event> =
                    group.iter().map(|event| Event { prev: None, ..event.clone() }).collect();
                let revision = group[0].kv.mod_revision;
                let (member, known) =
                    revisions.entry(revision).or_insert_with(|| (watch.member, plain.clone()));
                assert_eq!(
                    *known, plain,
                    "members {member} and {} differ at revision {revision}",
                    watch.member
                );
            }
        }
    }
    revisions.into_iter().map(|(revision, (_, events))| RevisionRecord { revision, events }).collect()
}

/// Waits until all members have the same hash at the same revision.
async fn hashes_agree(clients: &[Client]) {
    let agreed = clock::until(CONVERGENCE_WAIT, || async {
        let mut hashes = Vec::new();
        for client in clients {
            let mut maintenance = client.maintenance();
            match maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    hashes.push((answer.hash_revision, answer.compact_revision, answer.hash));
                }
                Err(status) => return Err(status.to_string()),
            }
        }
        if hashes.iter().all(|hash| *hash == hashes[0]) { Ok(()) } else { Err(format!("{hashes:?}")) }
    });
    if let Err(hashes) = agreed.await {
        panic!("members do not agree (revision, compaction, hash): {hashes}");
    }
}
