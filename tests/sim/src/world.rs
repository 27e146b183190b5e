//! What everybody in a run shares: members, network, the record of what happened, and what went wrong.
//!
//! Owns: the list of members, the trace, and the failures found while the run goes on. Called by: all tasks of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_checker::{Event, Record, Time, WatchRecord};
use keelson_mvcc::Store;
use keelson_raftstore::MemberId;
use keelson_raftstore::codec::decode_vote;
use keelson_raftstore::net::memory::MemoryNetwork;
use keelson_wal::Recovered;
use openraft::Instant;
use openraft_rt_sim::{SimInstant, SimRuntime};
use parking_lot::Mutex;

use crate::engine::SimEngine;
use crate::life::Life;
use crate::machine::Machine;
use crate::member::Node;
use crate::plan::Plan;
use crate::planted::Bug;

/// A member that runs.
#[derive(Clone)]
pub(crate) struct Running {
    /// Whose it is.
    pub id: MemberId,
    /// The process.
    pub life: Arc<Life>,
    /// The store.
    pub node: Node,
}

/// What clients and watchers have recorded.
#[derive(Default)]
pub(crate) struct Recorded {
    /// Operations.
    pub records: Vec<Record>,
    /// Watchers that have ended.
    pub watches: Vec<WatchRecord>,
    /// Leases that were asked for.
    pub lease_ids: Vec<i64>,
    /// What any watcher saw, by revision; previous values left out.
    pub log: BTreeMap<i64, (MemberId, Vec<Event>)>,
}

/// See the module.
pub(crate) struct World {
    /// What the run is like.
    pub plan: Plan,
    /// The bug all members have.
    pub bug: Option<Bug>,
    /// The way between members.
    pub network: MemoryNetwork<SimRuntime>,
    /// Disks and engines, of members that run and that do not.
    pub machines: Mutex<BTreeMap<MemberId, Machine>>,
    /// Members that run.
    pub running: Mutex<BTreeMap<MemberId, Running>>,
    /// What was recorded.
    pub recorded: Mutex<Recorded>,
    /// Digest of the applied entries, by position, with the member that showed it first.
    pub digests: Mutex<BTreeMap<(u64, u64), (u64, MemberId)>>,
    /// Who led, by term.
    pub leaders: Mutex<BTreeMap<u64, MemberId>>,
    /// Snapshots installed, by processes that have ended.
    pub snapshots: Mutex<u64>,
    start: SimInstant,
    trace: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
    stopping: AtomicBool,
}

impl World {
    /// An empty world. Inside the runtime only.
    pub(crate) fn new(plan: Plan, bug: Option<Bug>) -> Arc<Self> {
        Arc::new(World {
            plan,
            bug,
            network: MemoryNetwork::default(),
            machines: Mutex::default(),
            running: Mutex::default(),
            recorded: Mutex::default(),
            digests: Mutex::default(),
            leaders: Mutex::default(),
            snapshots: Mutex::default(),
            start: SimInstant::now(),
            trace: Mutex::default(),
            failures: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> Time {
        SimInstant::now().saturating_duration_since(self.start).as_nanos() as Time
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&self, line: impl std::fmt::Display) {
        let now = self.now();
        self.trace.lock().push(format!("{:>8}.{:03} ms  {line}", now / 1_000_000, now / 1_000 % 1_000));
    }

    /// Takes the trace.
    pub(crate) fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.trace.lock())
    }

    /// Notes a broken promise.
    pub(crate) fn fail(&self, what: impl std::fmt::Display) {
        self.trace(format_args!("FAILURE {what}"));
        self.failures.lock().push(what.to_string());
    }

    /// Broken promises so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    /// Ends clients and watchers.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether clients should end.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Members that run, in order of their ids.
    pub(crate) fn members(&self) -> Vec<Running> {
        self.running.lock().values().filter(|running| !running.life.ended()).cloned().collect()
    }

    /// Notes what a watcher saw. Two watchers that saw a revision must have seen the same.
    pub(crate) fn saw(&self, member: MemberId, events: &[Event]) {
        for group in events.chunk_by(|left, right| left.kv.mod_revision == right.kv.mod_revision) {
            let plain: Vec<_> = group.iter().map(|event| Event { prev: None, ..event.clone() }).collect();
            let revision = group[0].kv.mod_revision;
            let mut recorded = self.recorded.lock();
            let (first, known) = recorded.log.entry(revision).or_insert_with(|| (member, plain.clone()));
            if *known != plain {
                let first = *first;
                drop(recorded);
                self.fail(format_args!("members {first} and {member} differ at revision {revision}"));
            }
        }
    }

    /// Revisions up to here are known without a hole.
    pub(crate) fn audited(&self) -> i64 {
        let recorded = self.recorded.lock();
        let mut last = 1;
        for revision in recorded.log.keys() {
            if *revision != last + 1 {
                break;
            }
            last = *revision;
        }
        last
    }

    /// Holds what a start found against what the member had said was durable.
    pub(crate) fn check_recovered(
        &self,
        id: MemberId,
        machine: &Machine,
        found: &Recovered,
        store: &Store<SimEngine>,
    ) {
        let purged = found.purged.as_ref().map(|(purged, _)| *purged);
        let last = found.last_index.or(purged).unwrap_or(0);
        // An installed snapshot takes the place of the log up to its end.
        let last = last.max(store.applied().map_or(0, |applied| applied.index));
        if last < machine.durable_index {
            self.fail(format_args!(
                "the log of member {id} came back to {last}, but was durable to {}",
                machine.durable_index
            ));
        }
        // A leader's vote is saved before its entries are taken, in one log.
        let vote = found.vote.as_ref().and_then(|vote| decode_vote(vote).ok());
        let voted = vote.map_or(0, |vote| vote.leader_id.term);
        if let Some(entry) = found.tail.last()
            && entry.term > voted
        {
            self.fail(format_args!(
                "member {id} holds an entry of term {}, but voted in {voted}",
                entry.term
            ));
        }
        if let (Some(applied), Some(purged)) = (store.applied(), purged)
            && applied.index < purged
        {
            self.fail(format_args!(
                "the log of member {id} is purged to {purged}, its engine came back to {}",
                applied.index
            ));
        }
    }

    /// Checks what must hold at any moment.
    pub(crate) fn check_invariants(&self) {
        for Running { id, node, .. } in self.members() {
            let (status, numbers) = (node.status(), node.diagnostics());
            if status.is_leader {
                let first = *self.leaders.lock().entry(status.term).or_insert(id);
                if first != id {
                    self.fail(format_args!("members {first} and {id} both led term {}", status.term));
                }
            }
            let applied_next = node.reader().view().applied().map_or(0, |applied| applied.index + 1);
            if numbers.log_first > numbers.flushed_index + 1 {
                self.fail(format_args!("member {id} purged beyond its flush: {numbers:?}"));
            }
            if numbers.flushed_index > 0 && numbers.flushed_index >= applied_next {
                self.fail(format_args!("member {id} flushed beyond {applied_next}: {numbers:?}"));
            }
            self.check_digest(id, &node);
            node.hub().validate();
        }
    }

    fn check_digest(&self, id: MemberId, node: &Node) {
        let view = node.reader().view();
        let Some(applied) = view.applied() else { return };
        let digest = view.digest();
        let (known, first) =
            *self.digests.lock().entry((applied.term, applied.index)).or_insert((digest, id));
        if known != digest {
            self.fail(format_args!("members {first} and {id} differ after entry {applied:?}"));
        }
    }
}
