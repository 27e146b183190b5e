//! Clients that write, read, compare and hold leases as fast as one request at a time allows.
//!
//! Owns: the choice of operations and the classification of errors. Invariants: a client sends the next request only after
//! the last one ended; nothing is retried; an error that leaves the outcome open is recorded as such, never as a refusal.
//! Called by: the crash suite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_checker::{
    Compare, CompareResult, CompareTarget, Consistency, Delete, KeyRange, LeasePromise, Operation, Outcome,
    Put, Range, Record, Response, Txn,
};
use keelson_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use super::convert;
use super::recorder::Recorder;
use crate::client::Client;
use crate::clock;
use crate::random::Random;

/// A request that takes longer has an unknown outcome.
const REQUEST_WAIT: Duration = Duration::from_secs(3);
/// The pause after a refused connection: the member is down, and spinning would take the processor from its restart.
const DOWN_PAUSE: Duration = Duration::from_millis(10);
/// Few keys, so that clients meet.
const KEYS: usize = 12;
/// Compactions stay this far behind, so that a watcher that reconnects still finds its history.
const COMPACTION_LAG: i64 = 3_000;
/// Leases short enough to expire within a run.
const LEASE_TTL_S: i64 = 2;

/// One client, always of the same member.
pub struct Worker {
    client: Client,
    member: u32,
    number: u32,
    random: Random,
    recorder: Arc<Recorder>,
    sequence: u64,
    /// The last mod revision seen per key, for compare-and-set.
    seen: Vec<i64>,
    /// The lease to attach to and when it was granted.
    lease: i64,
}

impl Worker {
    /// A client of the member at `url`.
    pub fn new(url: &str, member: u32, number: u32, seed: u64, recorder: Arc<Recorder>) -> Self {
        Self {
            client: Client::lazy(url),
            member,
            number,
            random: Random::new(seed ^ (u64::from(number) << 32)),
            recorder,
            sequence: 0,
            seen: vec![0; KEYS],
            lease: 0,
        }
    }

    /// Works until the run is stopped.
    pub async fn run(mut self) {
        while !self.recorder.stopped() {
            let outcome = match self.random.weighted(&[45, 8, 12, 15, 12, 3, 3, 1]) {
                0 => self.put().await,
                1 => self.delete().await,
                2 => self.compare_and_set().await,
                3 => self.read(Consistency::Linearizable).await,
                4 => self.read(Consistency::Serializable).await,
                5 => self.grant().await,
                6 => self.keep_alive().await,
                _ => self.compact().await,
            };
            if let Err(Down) = outcome {
                clock::pause(DOWN_PAUSE).await;
            }
        }
    }

    fn key(&mut self) -> (usize, Bytes) {
        let index = self.random.below(KEYS);
        (index, Bytes::from(format!("key{index:02}")))
    }

    fn value(&mut self) -> Bytes {
        self.sequence += 1;
        Bytes::from(format!("{}-{}", self.number, self.sequence))
    }

    async fn put(&mut self) -> Result<(), Down> {
        let lease = if self.random.percent(15) { self.lease } else { 0 };
        let put = Put { key: self.key().1, value: self.value(), lease, prev_kv: self.random.percent(50) };
        self.execute(Operation::Put(put), Consistency::Linearizable).await
    }

    async fn delete(&mut self) -> Result<(), Down> {
        let key = self.key().1;
        let end = if self.random.percent(20) { self.key().1 } else { Bytes::new() };
        let delete = Delete { range: KeyRange { key, end }, prev_kv: self.random.percent(50) };
        self.execute(Operation::Delete(delete), Consistency::Linearizable).await
    }

    async fn compare_and_set(&mut self) -> Result<(), Down> {
        let (index, key) = self.key();
        let other = self.key().1;
        let compare = Compare {
            range: KeyRange::single(key.clone()),
            target: CompareTarget::Mod(self.seen[index]),
            result: CompareResult::Equal,
        };
        let put = |key: Bytes, value| Operation::Put(Put { key, value, lease: 0, prev_kv: true });
        let mut success = vec![put(key.clone(), self.value())];
        if other != key {
            success.push(put(other, self.value()));
        }
        success.push(Operation::Range(Range { range: KeyRange::single(key.clone()), ..Range::default() }));
        let failure = vec![Operation::Range(Range { range: KeyRange::single(key), ..Range::default() })];
        let txn = Txn { compares: vec![compare], success, failure };
        self.execute(Operation::Txn(txn), Consistency::Linearizable).await
    }

    async fn read(&mut self, consistency: Consistency) -> Result<(), Down> {
        let key = self.key().1;
        let end = if self.random.percent(30) { Bytes::from_static(b"\0") } else { Bytes::new() };
        let limit = if self.random.percent(30) { 3 } else { 0 };
        self.execute(
            Operation::Range(Range { range: KeyRange { key, end }, limit, revision: 0 }),
            consistency,
        )
        .await
    }

    async fn grant(&mut self) -> Result<(), Down> {
        let sent = self.recorder.now();
        let mut lease = self.client.lease();
        let request = pb::LeaseGrantRequest { ttl: LEASE_TTL_S, id: 0 };
        let answer = within(lease.lease_grant(request)).await;
        let answer = self.note(
            sent,
            Operation::Other,
            Consistency::Linearizable,
            answer,
            |answer: &pb::LeaseGrantResponse| (&answer.header, Response::Other),
        )?;
        if let Some(answer) = answer {
            self.lease = answer.id;
            self.promise(sent, answer.id, answer.ttl);
        }
        Ok(())
    }

    fn promise(&self, sent: u64, lease: i64, ttl_s: i64) {
        let until = sent + Duration::from_secs(ttl_s as u64).as_nanos() as u64;
        let promise = LeasePromise { lease, until, made: self.recorder.now() };
        self.recorder.promises.lock().expect("no recorder panics").push(promise);
    }

    async fn keep_alive(&mut self) -> Result<(), Down> {
        if self.lease == 0 {
            return Ok(());
        }
        let sent = self.recorder.now();
        let request = pb::LeaseKeepAliveRequest { id: self.lease };
        let mut client = self.client.lease();
        let answer = within(async {
            let mut stream = client.lease_keep_alive(tokio_stream::once(request)).await?.into_inner();
            stream.message().await
        });
        match answer.await {
            Ok(Some(answer)) if answer.ttl > 0 => self.promise(sent, answer.id, answer.ttl),
            // Expired: attach to nothing until the next grant.
            Ok(_) => self.lease = 0,
            Err(status) if refused_connection(&status) => return Err(Down),
            Err(_) => {}
        }
        Ok(())
    }

    async fn compact(&mut self) -> Result<(), Down> {
        let revision = self.seen.iter().copied().max().unwrap_or(0) - COMPACTION_LAG;
        if revision <= self.recorder.compaction() {
            return Ok(());
        }
        let mut kv = self.client.kv();
        let request = pb::CompactionRequest { revision, physical: self.random.percent(30) };
        match within(kv.compact(request)).await {
            Err(status) if refused_connection(&status) => Err(Down),
            // Also after an error: it may have happened.
            Ok(_) | Err(_) => {
                self.recorder.compacted(revision);
                Ok(())
            }
        }
    }

    async fn execute(&mut self, operation: Operation, consistency: Consistency) -> Result<(), Down> {
        use pb::request_op::Request;
        let sent = self.recorder.now();
        let mut kv = self.client.kv();
        match convert::request_op(&operation).request {
            Some(Request::RequestPut(request)) => {
                let answer = within(kv.put(request)).await;
                self.note(sent, operation, consistency, answer, |answer: &pb::PutResponse| {
                    (&answer.header, convert::put_response(answer))
                })?;
            }
            Some(Request::RequestDeleteRange(request)) => {
                let answer = within(kv.delete_range(request)).await;
                self.note(sent, operation, consistency, answer, |answer: &pb::DeleteRangeResponse| {
                    (&answer.header, convert::delete_response(answer))
                })?;
            }
            Some(Request::RequestTxn(request)) => {
                let answer = within(kv.txn(request)).await;
                self.note(sent, operation, consistency, answer, |answer: &pb::TxnResponse| {
                    (&answer.header, convert::txn_response(answer))
                })?;
            }
            Some(Request::RequestRange(mut request)) => {
                request.serializable = consistency == Consistency::Serializable;
                let answer = within(kv.range(request)).await;
                let answer =
                    self.note(sent, operation, consistency, answer, |answer: &pb::RangeResponse| {
                        (&answer.header, convert::range_response(answer))
                    })?;
                for kv in answer.iter().flat_map(|answer| &answer.kvs) {
                    if let Some(index) =
                        std::str::from_utf8(&kv.key[3..]).ok().and_then(|text| text.parse::<usize>().ok())
                    {
                        self.seen[index] = kv.mod_revision;
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Records the end of a request; gives the answer back, or says that the member is down.
    fn note<T>(
        &self,
        invoked: u64,
        operation: Operation,
        consistency: Consistency,
        answer: Result<T, Status>,
        read: impl Fn(&T) -> (&Option<pb::ResponseHeader>, Response),
    ) -> Result<Option<T>, Down> {
        let returned = self.recorder.now();
        let outcome = match &answer {
            Ok(answer) => {
                let (header, response) = read(answer);
                Outcome::Ok { revision: header.as_ref().map_or(0, |header| header.revision), response }
            }
            Err(status) if refused_connection(status) => return Err(Down),
            Err(status) => match status.code() {
                Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
                    Outcome::Rejected
                }
                _ => Outcome::Unknown,
            },
        };
        let record = Record {
            client: self.number,
            member: self.member,
            invoked,
            returned,
            consistency,
            operation,
            outcome,
        };
        self.recorder.record(record);
        Ok(answer.ok())
    }
}

/// The member is not listening; nothing was sent.
struct Down;

fn refused_connection(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("connect error")
}

async fn within<T: Unwrap>(call: impl Future<Output = Result<T, Status>>) -> Result<T::Inner, Status> {
    match tokio::time::timeout(REQUEST_WAIT, call).await {
        Ok(answer) => answer.map(T::unwrap),
        Err(_) => Err(Status::deadline_exceeded("no answer to the test's client")),
    }
}

/// Takes the message out of a response.
trait Unwrap {
    type Inner;
    fn unwrap(self) -> Self::Inner;
}

impl<T> Unwrap for tonic::Response<T> {
    type Inner = T;
    fn unwrap(self) -> T {
        self.into_inner()
    }
}

impl<T> Unwrap for Option<T> {
    type Inner = Option<T>;
    fn unwrap(self) -> Self {
        self
    }
}
