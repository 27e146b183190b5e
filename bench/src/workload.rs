//! What is asked of the server: pre-encoded requests, one stream of them per client.
//!
//! Owns: key and value shapes. Called by: `load`.
//! Invariants: the same options give the same requests for every server, so both sides of a comparison do the same
//! work; no request is encoded while the clock runs.

use bytes::Bytes;
use clap::ValueEnum;
use keelson_proto::etcdserverpb as pb;

use crate::client::frame;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Put of one key.
    Put,
    /// Linearizable read of one key.
    Range,
    /// Serializable read of one key.
    RangeSerializable,
    /// Compare-and-put as kube-apiserver does it: create if the key does not exist, else read it.
    Txn,
}

impl Kind {
    /// The gRPC path.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Put => "/etcdserverpb.KV/Put",
            Kind::Range | Kind::RangeSerializable => "/etcdserverpb.KV/Range",
            Kind::Txn => "/etcdserverpb.KV/Txn",
        }
    }

    /// True if the keys must exist before the run.
    pub fn needs_keys(self) -> bool {
        matches!(self, Kind::Range | Kind::RangeSerializable)
    }
}

/// Sizes and counts of a workload.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Shape {
    /// Bytes per key, at least 8.
    pub key_bytes: usize,
    /// Bytes per value.
    pub value_bytes: usize,
    /// Number of different keys.
    pub key_space: u64,
}

/// Requests of one client, taken in turn, starting again at the end.
pub struct Requests {
    frames: Vec<Bytes>,
    next: usize,
}

impl Requests {
    /// Encodes the requests of client `client` of `clients`: its share of the key space in a scattered order.
    pub fn encode(kind: Kind, shape: Shape, client: u64, clients: u64) -> Self {
        // A client that cycles through at least this many different requests never meets a warm single key only.
        const REQUESTS_PER_CLIENT_MAX: u64 = 2_000;
        let share = (shape.key_space / clients).clamp(1, REQUESTS_PER_CLIENT_MAX);
        let value = Bytes::from(pattern(shape.value_bytes));
        let frames = (0..share)
            .map(|turn| {
                let number = (client + turn * clients) % shape.key_space;
                request(kind, key(shape.key_bytes, number), value.clone())
            })
            .collect();
        Requests { frames, next: 0 }
    }

    /// The next request.
    pub fn next_frame(&mut self) -> Bytes {
        let frame = self.frames[self.next].clone();
        self.next = (self.next + 1) % self.frames.len();
        frame
    }
}

/// The key with a number, of exactly `bytes` bytes.
pub fn key(bytes: usize, number: u64) -> Bytes {
    // A multiplicative hash scatters neighbours, as names of real objects do.
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = format!("{scattered:016x}").into_bytes();
    key.resize(bytes.max(8), b'k');
    Bytes::from(key)
}

/// A put of key `number`, for filling the store before a read workload.
pub fn preload(shape: Shape, number: u64) -> Bytes {
    request(Kind::Put, key(shape.key_bytes, number), Bytes::from(pattern(shape.value_bytes)))
}

fn request(kind: Kind, key: Bytes, value: Bytes) -> Bytes {
    match kind {
        Kind::Put => frame(&pb::PutRequest { key, value, ..Default::default() }),
        Kind::Range => frame(&pb::RangeRequest { key, ..Default::default() }),
        Kind::RangeSerializable => frame(&pb::RangeRequest { key, serializable: true, ..Default::default() }),
        Kind::Txn => {
            use pb::{compare, request_op};
            let compare = pb::Compare {
                result: compare::CompareResult::Equal as i32,
                target: compare::CompareTarget::Mod as i32,
                key: key.clone(),
                target_union: Some(compare::TargetUnion::ModRevision(0)),
                ..Default::default()
            };
            let put = pb::PutRequest { key: key.clone(), value, ..Default::default() };
            let range = pb::RangeRequest { key, ..Default::default() };
            frame(&pb::TxnRequest {
                compare: vec![compare],
                success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
                failure: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) }],
            })
        }
    }
}

/// Bytes that a compressor cannot fold to nothing: half pseudo-random, half text.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..bytes)
        .map(|position| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if position % 2 == 0 { (state >> 32) as u8 } else { b'a' + (position % 26) as u8 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_of_the_asked_size() {
        let keys: BTreeSet<Bytes> = (0..10_000).map(|number| key(16, number)).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == 16));
    }

    #[test]
    fn clients_share_the_key_space_without_overlap() {
        let shape = Shape { key_bytes: 16, value_bytes: 4, key_space: 100 };
        let frames: BTreeSet<Bytes> =
            (0..10).flat_map(|client| Requests::encode(Kind::Put, shape, client, 10).frames).collect();
        assert_eq!(frames.len(), 100);
    }
}
