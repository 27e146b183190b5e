//! Keep-alives.
//!
//! Owns: one lease and one stream per client. Called by: `workload::run`.
//! Invariants: a client's keep-alives go one by one over a stream that stays open, as clients of the API do it.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;

use super::{Seat, path};
use crate::client::{CallError, Stream, decode, frame};
use crate::load::Client;

/// Long enough that no lease ends during a run.
const TTL_S: i64 = 3600;

/// Keeps one lease alive.
pub(super) struct KeepAlive {
    stream: Stream,
    request: Bytes,
}

impl KeepAlive {
    /// Grants the lease and opens the stream.
    pub(super) async fn open(mut seat: Seat) -> Result<Self, CallError> {
        let grant = seat.connection.template(path::LEASE_GRANT);
        let request = pb::LeaseGrantRequest { ttl: TTL_S, id: 0 };
        let granted: pb::LeaseGrantResponse =
            decode(path::LEASE_GRANT, seat.connection.call(&grant, frame(&request)).await?)?;
        let request = frame(&pb::LeaseKeepAliveRequest { id: granted.id });
        let template = seat.connection.template(path::LEASE_KEEP_ALIVE);
        let stream = seat.connection.stream(&template, request.clone(), false).await?;
        let mut client = KeepAlive { stream, request };
        client.answer().await?;
        Ok(client)
    }

    async fn answer(&mut self) -> Result<(), CallError> {
        let failed = |reason: &str| CallError::Answer { path: path::LEASE_KEEP_ALIVE, reason: reason.into() };
        let answer = self.stream.answers.message().await?.ok_or_else(|| failed("the stream ended"))?;
        let answer: pb::LeaseKeepAliveResponse = decode(path::LEASE_KEEP_ALIVE, answer)?;
        if answer.ttl == TTL_S { Ok(()) } else { Err(failed("the lease has ended")) }
    }
}

impl Client for KeepAlive {
    async fn operate(&mut self) -> Result<(), CallError> {
        self.stream.send(self.request.clone())?;
        self.answer().await
    }
}
