//! Puts and reads of single keys.
//!
//! Owns: encoding their requests ahead. Called by: `workload::run`.
//! Invariants: clients share the key space without overlap; requests are taken in turn from what was encoded.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;

use super::{Seat, path};
use crate::client::{CallError, Connection, Template, frame};
use crate::data::{Random, Shape};
use crate::load::Client;

/// A client that sends prepared requests of one or two kinds.
pub(super) struct Single {
    connection: Connection,
    reads: Option<(Template, Ring)>,
    puts: Option<(Template, Ring)>,
    read_share: f64,
    random: Random,
}

/// A client that puts.
pub(super) fn puts(seat: Seat, shape: Shape) -> Single {
    mixed(seat, shape, 0.0)
}

/// A client that reads.
pub(super) fn reads(seat: Seat, shape: Shape, serializable: bool) -> Single {
    let reads = Ring::of(&seat, shape, |number| range(shape, number, serializable));
    let random = Random::new(seat.number);
    let template = seat.connection.template(path::RANGE);
    Single {
        reads: Some((template, reads)),
        puts: None,
        read_share: 1.0,
        random,
        connection: seat.connection,
    }
}

/// A client that reads in `read_share` of its requests and puts in the others.
pub(super) fn mixed(seat: Seat, shape: Shape, read_share: f64) -> Single {
    let reads = (read_share > 0.0).then(|| {
        (seat.connection.template(path::RANGE), Ring::of(&seat, shape, |number| range(shape, number, false)))
    });
    let puts = (read_share < 1.0)
        .then(|| (seat.connection.template(path::PUT), Ring::of(&seat, shape, |number| put(shape, number))));
    Single { reads, puts, read_share, random: Random::new(seat.number), connection: seat.connection }
}

impl Client for Single {
    async fn operate(&mut self) -> Result<(), CallError> {
        let read = match (&self.reads, &self.puts) {
            (Some(_), Some(_)) => self.random.chance(self.read_share),
            (reads, _) => reads.is_some(),
        };
        let chosen = if read { &mut self.reads } else { &mut self.puts };
        let (template, requests) = chosen.as_mut().expect("a client has requests of some kind");
        self.connection.call(template, requests.next_frame()).await.map(drop)
    }
}

/// Encoded requests, taken in turn, starting again at the end.
struct Ring {
    frames: Vec<Bytes>,
    next: usize,
}

impl Ring {
    /// Encodes the requests for the client's share of the key space.
    fn of(seat: &Seat, shape: Shape, encode: impl Fn(u64) -> Bytes) -> Self {
        // All clients together keep at most this many bytes of values ready.
        const READY_BYTES_MAX: u64 = 256 << 20;
        let share = (shape.key_space / seat.of).max(1);
        let affordable = READY_BYTES_MAX / (seat.of * (shape.value_bytes as u64 + 200));
        let count = share.min(affordable.max(1));
        let frames =
            (0..count).map(|turn| encode((seat.number + turn * seat.of) % shape.key_space)).collect();
        Ring { frames, next: 0 }
    }

    fn next_frame(&mut self) -> Bytes {
        let frame = self.frames[self.next].clone();
        self.next = (self.next + 1) % self.frames.len();
        frame
    }
}

fn put(shape: Shape, number: u64) -> Bytes {
    frame(&pb::PutRequest { key: shape.key(number), value: shape.value(number, 1), ..Default::default() })
}

fn range(shape: Shape, number: u64, serializable: bool) -> Bytes {
    frame(&pb::RangeRequest { key: shape.key(number), serializable, ..Default::default() })
}
