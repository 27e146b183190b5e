//! Clients that write, read, compare, hold leases and compact, and record every answer.
//!
//! Owns: the choice of operations and what an error means. Called by: [`crate::run`]. Invariants: a client sends the next
//! request only after the last one ended; nothing is retried; an error that leaves the outcome open is recorded so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_checker::{
    Compare, CompareResult, CompareTarget, Consistency, Delete, KeyRange, Operation, Outcome, Put, Range,
    Record, Response, Time, Txn,
};
use keelson_mvcc::types::Command;
use keelson_raftstore::ProposeError;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::convert;
use crate::planted::Bug;
use crate::random::{draw, percent};
use crate::world::{Running, World};

/// How long a client waits: longer than an election, so that some requests live through one.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Longest pause between two requests of a client.
const PAUSE_US_MAX: u64 = 25_000;

/// See the module.
pub(crate) struct Client {
    world: Arc<World>,
    number: u32,
    sequence: u64,
    lease: i64,
    /// The newest version of a key it has seen, for compare-and-put.
    seen: (Bytes, i64),
}

impl Client {
    /// Client `number`.
    pub(crate) fn new(world: Arc<World>, number: u32) -> Self {
        Client { world, number, sequence: 0, lease: 0, seen: (Bytes::new(), 0) }
    }

    /// Works until the run stops.
    pub(crate) async fn run(mut self) {
        while !self.world.stopping() {
            let members = self.world.members();
            if !members.is_empty() {
                let member = &members[draw(members.len() as u64) as usize];
                self.step(member).await;
            }
            SimRuntime::sleep(Duration::from_micros(draw(PAUSE_US_MAX))).await;
        }
    }

    async fn step(&mut self, member: &Running) {
        // One client mostly reads: those that write wait out their time where there is no leader, and see little of it.
        if self.number == 0 && percent(70) {
            return self.read(member, Consistency::Linearizable).await;
        }
        match draw(100) {
            0..40 => self.put(member).await,
            40..48 => self.delete(member).await,
            48..62 => self.compare_and_put(member).await,
            62..78 => self.read(member, Consistency::Linearizable).await,
            78..88 => self.read(member, Consistency::Serializable).await,
            88..93 => self.grant(member).await,
            93..97 => self.revoke(member).await,
            _ => self.compact(member).await,
        }
    }

    /// A put of its own kind, for the end of a run. True if it was acknowledged.
    pub(crate) async fn last_put(&mut self, member: &Running) -> bool {
        let put = Put { key: self.key(), value: self.value(), lease: 0, prev_kv: true };
        self.write(member, Operation::Put(put)).await
    }

    /// A linearizable read of everything.
    pub(crate) async fn last_read(&mut self, member: &Running) {
        let range = Range { range: KeyRange::all(), limit: 0, revision: 0 };
        self.range(member, range, Consistency::Linearizable).await;
    }

    fn key(&self) -> Bytes {
        Bytes::from(format!("key-{:02}", draw(self.world.plan.keys)))
    }

    /// Unique in the run; now and then large, so that blocks of the WAL span sectors.
    fn value(&mut self) -> Bytes {
        self.sequence += 1;
        let padding = if percent(20) { 200 + draw(1500) as usize } else { 0 };
        Bytes::from(format!("{}-{}-{}", self.number, self.sequence, ".".repeat(padding)))
    }

    async fn put(&mut self, member: &Running) {
        let lease = if percent(20) { self.lease } else { 0 };
        let put = Put { key: self.key(), value: self.value(), lease, prev_kv: percent(50) };
        self.write(member, Operation::Put(put)).await;
    }

    async fn delete(&mut self, member: &Running) {
        let end = if percent(30) { self.key() } else { Bytes::new() };
        let delete = Delete { range: KeyRange { key: self.key(), end }, prev_kv: percent(50) };
        self.write(member, Operation::Delete(delete)).await;
    }

    async fn compare_and_put(&mut self, member: &Running) {
        let (key, seen) = match percent(50) && !self.seen.0.is_empty() {
            true => self.seen.clone(),
            false => (self.key(), 0),
        };
        let compare = Compare {
            range: KeyRange::single(key.clone()),
            target: CompareTarget::Mod(seen),
            result: CompareResult::Equal,
        };
        let put =
            |key: &Bytes, value| Operation::Put(Put { key: key.clone(), value, lease: 0, prev_kv: true });
        let mut success = vec![put(&key, self.value())];
        let other = self.key();
        if other != key {
            success.push(put(&other, self.value()));
        }
        let read = || Operation::Range(Range { range: KeyRange::single(key.clone()), ..Range::default() });
        success.push(read());
        let txn = Txn { compares: vec![compare], success, failure: vec![read()] };
        self.write(member, Operation::Txn(txn)).await;
    }

    async fn grant(&mut self, member: &Running) {
        self.sequence += 1;
        let id = i64::from(self.number + 1) << 32 | self.sequence as i64;
        self.world.recorded.lock().lease_ids.push(id);
        if self.propose(member, &Command::LeaseGrant { id, ttl_s: 60 }, Operation::Other).await {
            self.lease = id;
        }
    }

    async fn revoke(&mut self, member: &Running) {
        if self.lease != 0 {
            let lease = std::mem::take(&mut self.lease);
            self.write(member, Operation::LeaseRevoke(lease)).await;
        }
    }

    /// Only what some watcher has seen is compacted, so that the order of changes is known without a hole.
    async fn compact(&mut self, member: &Running) {
        let audited = self.world.audited();
        let revision = audited - draw(20) as i64;
        if revision > 1 {
            self.propose(member, &Command::Compact { revision }, Operation::Other).await;
        }
    }

    async fn read(&mut self, member: &Running, consistency: Consistency) {
        let end = if percent(40) { Bytes::from_static(b"\0") } else { Bytes::new() };
        let limit = if percent(30) { 2 } else { 0 };
        // History, sometimes compacted.
        let revision = if percent(20) { (self.world.audited() - draw(10) as i64).max(0) } else { 0 };
        let range = Range { range: KeyRange { key: self.key(), end }, limit, revision };
        self.range(member, range, consistency).await;
    }

    async fn range(&mut self, member: &Running, range: Range, consistency: Consistency) {
        let invoked = self.world.now();
        let confirmed = consistency == Consistency::Serializable || self.world.bug == Some(Bug::StaleRead);
        let read = async {
            let node = &member.node;
            if !confirmed {
                node.read_index(TIMEOUT).await.ok()?;
            } else if !node.status().ready {
                return None;
            }
            let view = node.reader().view();
            let reply = view.range(&convert::range_options(&range)).ok()?;
            Some((view.revision(), convert::range_response(&reply)))
        };
        // A read has no effect: one without an answer says nothing.
        let Some(Some((revision, response))) = member.life.during(read).await else { return };
        if let Response::Range { kvs, .. } = &response
            && let Some(kv) = kvs.first()
        {
            self.seen = (kv.key.clone(), kv.mod_revision);
        }
        let outcome = Outcome::Ok { revision, response };
        self.record(member, invoked, consistency, Operation::Range(range), outcome);
    }

    async fn write(&mut self, member: &Running, operation: Operation) -> bool {
        let command = convert::command(&operation);
        self.propose(member, &command, operation).await
    }

    /// True if it was acknowledged and accepted.
    async fn propose(&mut self, member: &Running, command: &Command, operation: Operation) -> bool {
        let invoked = self.world.now();
        let answer = member.life.during(member.node.propose(command, TIMEOUT, None)).await;
        let outcome = match answer {
            Some(Ok(reply)) => match &reply.outcome {
                Ok(outcome) => Outcome::Ok { revision: reply.revision, response: convert::response(outcome) },
                Err(_) => Outcome::Rejected,
            },
            Some(Err(ProposeError::TooLarge | ProposeError::Overloaded)) => Outcome::Rejected,
            Some(Err(_)) | None => Outcome::Unknown,
        };
        let acknowledged = matches!(outcome, Outcome::Ok { .. });
        self.record(member, invoked, Consistency::Linearizable, operation, outcome);
        acknowledged
    }

    fn record(
        &self,
        member: &Running,
        invoked: Time,
        consistency: Consistency,
        operation: Operation,
        outcome: Outcome,
    ) {
        let said = match &outcome {
            Outcome::Ok { revision, .. } => format!("ok at {revision}"),
            other => format!("{other:?}"),
        };
        self.world.trace(format_args!(
            "client {} asked member {}: {}: {said}",
            self.number,
            member.id,
            short(&operation)
        ));
        let returned = self.world.now();
        let record = Record {
            client: self.number,
            member: member.id as u32,
            invoked,
            returned,
            consistency,
            operation,
            outcome,
        };
        self.world.recorded.lock().records.push(record);
    }
}

fn short(operation: &Operation) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
    match operation {
        Operation::Put(put) => format!("put {} = {}", text(&put.key), text(&put.value)),
        Operation::Delete(delete) => {
            format!("delete {}..{}", text(&delete.range.key), text(&delete.range.end))
        }
        Operation::Range(range) => format!("read {} at {}", text(&range.range.key), range.revision),
        Operation::Txn(txn) => format!("compare {} and put", text(&txn.compares[0].range.key)),
        Operation::LeaseRevoke(lease) => format!("revoke {lease:x}"),
        Operation::Other => "grant or compact".into(),
    }
}
