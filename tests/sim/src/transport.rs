//! The way to the other members, with the planted bugs of a transport.
//!
//! Owns: the wrapper, put in only where a bug wants it. Called by: [`crate::member`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use keelson_raftstore::MemberId;
use keelson_raftstore::net::message::{self, Kind};
use keelson_raftstore::net::{Answers, Frame, Peer, Route, Transport, TransportError};
use parking_lot::Mutex;

use crate::planted::Bug;

/// `inner` with `bug`, if that is one of a transport.
pub(crate) fn transport(inner: Arc<dyn Transport>, bug: Option<Bug>) -> Arc<dyn Transport> {
    match bug {
        Some(bug @ (Bug::ProposalRetried | Bug::HeartbeatForged)) => {
            Arc::new(Planted { inner, bug, answered: Arc::default() })
        }
        _ => inner,
    }
}

struct Planted {
    inner: Arc<dyn Transport>,
    bug: Bug,
    /// The last answer to a heartbeat and to a question for confirmation, by member.
    answered: Arc<Mutex<BTreeMap<(MemberId, u8), Bytes>>>,
}

impl Transport for Planted {
    fn call(
        &self,
        to: &Peer,
        route: Route,
        request: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let kind = message::opened(request.clone().into_bytes()).map(|(_, kind, _)| kind);
        let (bug, to_id, answered) = (self.bug, to.id, self.answered.clone());
        let call = self.inner.call(to, route, request, timeout);
        async move {
            let result = call.await;
            match (bug, kind, &result) {
                (Bug::ProposalRetried, Ok(Kind::Forward), Err(error)) => {
                    Err(TransportError::Unreachable(error.to_string()))
                }
                (Bug::HeartbeatForged, Ok(kind @ (Kind::Heartbeat | Kind::Confirm)), Ok(answer)) => {
                    answered.lock().insert((to_id, kind as u8), answer.clone());
                    result
                }
                (Bug::HeartbeatForged, Ok(kind @ (Kind::Heartbeat | Kind::Confirm)), Err(_)) => {
                    answered.lock().get(&(to_id, kind as u8)).cloned().map_or(result, Ok)
                }
                _ => result,
            }
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Peer,
        route: Route,
        requests: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Answers, TransportError>> {
        self.inner.stream(to, route, requests)
    }

    fn upload(
        &self,
        to: &Peer,
        route: Route,
        chunks: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        self.inner.upload(to, route, chunks)
    }

    fn forget(&self, id: MemberId) {
        self.inner.forget(id);
    }
}
