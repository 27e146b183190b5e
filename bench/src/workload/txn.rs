//! The two transactions with which kube-apiserver writes.
//!
//! Owns: their shape. Called by: `workload::run`.
//! Invariants: both compare the modification revision of one key, put on success and read on failure; values are made
//! before the clock starts, the rest of a request depends on what the server answered and is encoded as it goes.
//! Source: etcd's `kubernetes` client, `OptimisticPut`.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use pb::{compare, request_op, response_op};

use super::{Seat, path};
use crate::client::{CallError, Connection, Template, decode, frame};
use crate::data::Shape;
use crate::load::Client;

/// Values that a client puts in turn.
const VALUES_PER_CLIENT: u64 = 8;

/// Creates new keys.
pub(super) struct Create {
    connection: Connection,
    template: Template,
    shape: Shape,
    values: Vec<Bytes>,
    next: u64,
    step: u64,
}

impl Create {
    pub(super) fn new(seat: Seat, shape: Shape) -> Self {
        Create {
            template: seat.connection.template(path::TXN),
            values: values(&seat, shape),
            next: seat.number,
            step: seat.of,
            connection: seat.connection,
            shape,
        }
    }
}

impl Client for Create {
    async fn operate(&mut self) -> Result<(), CallError> {
        let value = self.values[(self.next / self.step) as usize % self.values.len()].clone();
        let request = guarded_put(self.shape.key(self.next), 0, value);
        self.next += self.step;
        let answer = self.connection.call(&self.template, frame(&request)).await?;
        let answer: pb::TxnResponse = decode(path::TXN, answer)?;
        if answer.succeeded {
            return Ok(());
        }
        Err(CallError::Answer {
            path: path::TXN,
            reason: "the key exists: start with an empty server".into(),
        })
    }
}

/// Updates its share of the keys, each as it was last seen.
pub(super) struct Update {
    connection: Connection,
    template: Template,
    keys: Vec<(Bytes, i64)>,
    values: Vec<Bytes>,
    turn: usize,
}

impl Update {
    pub(super) fn new(seat: Seat, shape: Shape) -> Self {
        let share = (shape.key_space / seat.of).max(1);
        let keys = (0..share).map(|turn| (shape.key(seat.number + turn * seat.of), 0)).collect();
        Update {
            template: seat.connection.template(path::TXN),
            values: values(&seat, shape),
            keys,
            turn: 0,
            connection: seat.connection,
        }
    }
}

impl Client for Update {
    async fn operate(&mut self) -> Result<(), CallError> {
        let at = self.turn % self.keys.len();
        let value = self.values[self.turn % self.values.len()].clone();
        self.turn += 1;
        let (key, seen) = &mut self.keys[at];
        let request = guarded_put(key.clone(), *seen, value);
        let answer = self.connection.call(&self.template, frame(&request)).await?;
        let answer: pb::TxnResponse = decode(path::TXN, answer)?;
        *seen = match (answer.succeeded, answer.responses.into_iter().next().and_then(|op| op.response)) {
            (true, _) => answer.header.map_or(0, |header| header.revision),
            (false, Some(response_op::Response::ResponseRange(range))) => {
                range.kvs.first().map_or(0, |kv| kv.mod_revision)
            }
            (false, _) => 0,
        };
        Ok(())
    }
}

fn values(seat: &Seat, shape: Shape) -> Vec<Bytes> {
    (0..VALUES_PER_CLIENT).map(|version| shape.value(seat.number, version)).collect()
}

fn guarded_put(key: Bytes, seen: i64, value: Bytes) -> pb::TxnRequest {
    let guard = pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(seen)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.clone(), value, ..Default::default() };
    let range = pb::RangeRequest { key, ..Default::default() };
    pb::TxnRequest {
        compare: vec![guard],
        success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) }],
    }
}
