//! How members reach each other.
//!
//! Owns: the port ([`Transport`] out, [`PeerService`] in), the messages, both ends of them, and two transports: in
//! memory (tests, simulation) and gRPC (feature `grpc`).
//! Invariants: every call, stream and upload begins with the sender's cluster and both ids, and is refused by a
//! receiver that is someone else; refusals and results travel inside the answer, so they do not depend on the
//! transport. Heartbeats, appends, snapshots and everything else use a connection each, so that none waits behind
//! another.
//! Source: the split of connections is the one of etcd's rafthttp (stream, pipeline, snapshot).

pub mod client;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod memory;
pub mod message;
pub mod server;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::types::MemberId;

/// A member and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Peer {
    pub id: MemberId,
    pub urls: Vec<String>,
}

/// Which connection carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Entries.
    Append,
    /// Heartbeats and confirmations of leadership: small, and late ones cost leadership or every reader's time.
    Heartbeat,
    /// Snapshots: large and slow.
    Snapshot,
    /// Votes, forwarded proposals, read indexes, calls.
    Control,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 4] = [Route::Append, Route::Heartbeat, Route::Snapshot, Route::Control];
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The message was certainly not delivered.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time; it may have been delivered.
    #[error("timed out")]
    Timeout,
    /// The connection was lost; it may have been delivered.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Sends messages. One object for all peers; it connects when first needed and reconnects by itself.
///
/// To ensure correctness: the answers of a stream come in the order of its requests, an unanswered stream ends with an
/// error, and [`TransportError::Unreachable`] is given only where nothing was delivered (a proposal is then retried).
pub trait Transport: Send + Sync + 'static {
    /// One message, one answer.
    fn call(
        &self,
        to: &Peer,
        route: Route,
        request: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Many messages, one answer each, in order; dropping the answers ends the stream.
    fn stream(
        &self,
        to: &Peer,
        route: Route,
        requests: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Answers, TransportError>>;

    /// Many messages, one answer at the end.
    fn upload(
        &self,
        to: &Peer,
        route: Route,
        chunks: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// The peer is gone or has moved: its connections are of no use.
    fn forget(&self, id: MemberId);
}

/// What comes back on a stream.
pub type Answers = BoxStream<'static, Result<Bytes, TransportError>>;

/// Messages that come in.
pub type Incoming = BoxStream<'static, Result<Bytes, TransportError>>;

/// Answers messages, whatever transport brought them. Cheap to clone behind an `Arc`.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one message.
    fn call(&self, request: Bytes) -> BoxFuture<'static, Bytes>;
    /// Answers a stream; the stream ends where the answers end.
    fn stream(&self, requests: Incoming) -> BoxStream<'static, Bytes>;
    /// Takes a snapshot.
    fn upload(&self, chunks: Incoming) -> BoxFuture<'static, Bytes>;
}

/// A message as pieces, so that entries are copied once only: into the buffer of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pieces: Vec<Bytes>,
}

impl Frame {
    /// A message of these pieces, in order.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Frame { pieces }
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Bytes of all pieces.
    pub fn len_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        self.pieces.push(piece);
    }

    /// Writes the message.
    pub fn put(&self, out: &mut impl BufMut) {
        self.pieces.iter().for_each(|piece| out.put_slice(piece));
    }

    /// The message in one piece.
    pub fn into_bytes(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.swap_remove(0);
        }
        let mut out = BytesMut::with_capacity(self.len_bytes());
        self.put(&mut out);
        out.freeze()
    }
}

impl From<BytesMut> for Frame {
    fn from(bytes: BytesMut) -> Self {
        Frame { pieces: vec![bytes.freeze()] }
    }
}
