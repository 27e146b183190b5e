//! What the services hold of a member.
//!
//! Owns: the handle, free of the runtime's type, and the implementation of [`Consensus`] on the core. Called by: `api`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_mvcc::types::Command;
use keelson_mvcc::{KvEngine, Reader};
use keelson_watch::Hub;
use openraft::async_runtime::AsyncRuntime;

use crate::consensus::{
    ApplyObserver, CallError, CallHandler, Consensus, Diagnostics, MemberError, Members, NewMember, Proposal,
    ReadIndexError, Status, Stopped, TimeoutCause, TransferError,
};
use crate::lane::Lane;
use crate::net::PeerService;
use crate::net::client::Asked;
use crate::net::message::{MemberChange, Refusal};
use crate::node::Core;
use crate::types::MemberId;

/// A running member. Cheap to clone; dropping it does not stop the member, see [`Consensus::shutdown`].
pub struct Handle<E: KvEngine> {
    consensus: Arc<dyn Consensus>,
    reader: Reader<E>,
    hub: Hub,
    peers: Arc<dyn PeerService>,
}

impl<E: KvEngine> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Handle {
            consensus: self.consensus.clone(),
            reader: self.reader.clone(),
            hub: self.hub.clone(),
            peers: self.peers.clone(),
        }
    }
}

impl<E: KvEngine> Handle<E> {
    pub(crate) fn new<RT: AsyncRuntime>(
        core: Arc<Core<RT, E>>,
        reader: Reader<E>,
        peers: Arc<dyn PeerService>,
    ) -> Self {
        let hub = core.hub.clone();
        Handle { consensus: Arc::new(Member(core)), reader, hub, peers }
    }

    /// Proposals, reads, membership, state.
    pub fn consensus(&self) -> &Arc<dyn Consensus> {
        &self.consensus
    }

    /// The data, as this member has applied it.
    pub fn reader(&self) -> Reader<E> {
        self.reader.clone()
    }

    /// The watch hub.
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Answers messages of other members: what a peer listener serves.
    pub fn peer_service(&self) -> Arc<dyn PeerService> {
        self.peers.clone()
    }
}

impl<E: KvEngine> std::ops::Deref for Handle<E> {
    type Target = dyn Consensus;

    fn deref(&self) -> &Self::Target {
        &*self.consensus
    }
}

struct Member<RT: AsyncRuntime, E: KvEngine>(Arc<Core<RT, E>>);

impl<RT: AsyncRuntime, E: KvEngine> Member<RT, E> {
    fn change(
        &self,
        change: MemberChange,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        let core = self.0.clone();
        async move {
            match RT::timeout(timeout, core.change_member(change, timeout)).await {
                Ok(result) => result,
                Err(_) => Err(MemberError::Timeout(TimeoutCause::Plain)),
            }
        }
        .boxed()
    }
}

impl<RT: AsyncRuntime, E: KvEngine> Consensus for Member<RT, E> {
    fn propose(&self, command: &Command, timeout: Duration, lane: Option<&Lane>) -> Proposal {
        self.0.proposals.propose(command, timeout, lane, self.0.apply_lag())
    }

    fn read_index(&self, timeout: Duration) -> BoxFuture<'static, Result<(), ReadIndexError>> {
        let core = self.0.clone();
        // What a sole voter has acknowledged, it has applied: replies come after the view.
        let facts = &core.facts;
        if core.log.is_sole_voter() && facts.ready.load(Ordering::Acquire) && !facts.is_stopped() {
            return std::future::ready(Ok(())).boxed();
        }
        async move {
            let read = async {
                let next = core.reads.wait().await.ok_or(ReadIndexError::Stopped)?;
                core.applied.wait(next).await;
                Ok(())
            };
            match RT::timeout(timeout, read).await {
                Ok(result) => result,
                Err(_) => {
                    core.facts.reads_failed.fetch_add(1, Ordering::Relaxed);
                    Err(ReadIndexError::Timeout(match core.status().leader {
                        None => TimeoutCause::LeaderFailed,
                        Some(_) => TimeoutCause::Plain,
                    }))
                }
            }
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'static, Result<(), Stopped>> {
        let facts = self.0.facts.clone();
        async move {
            loop {
                let changed = facts.changed();
                if facts.ready.load(Ordering::Acquire) {
                    return Ok(());
                }
                if facts.is_stopped() {
                    return Err(Stopped);
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn status(&self) -> Status {
        self.0.status()
    }

    fn diagnostics(&self) -> Diagnostics {
        let core = &self.0;
        Diagnostics {
            log_first: core.log.purged().map_or(0, |purged| purged.index + 1),
            log_bytes: core.log.len_bytes(),
            durable_index: core.log.durable().next().saturating_sub(1),
            flushed_index: core.flush.flushed_next.load(Ordering::Acquire).saturating_sub(1),
            proposals_waiting: core.proposals.waiting() as u64,
            proposals_failed: core.proposals.failed(),
            reads_failed: core.facts.reads_failed.load(Ordering::Relaxed),
            apply_lag: core.apply_lag(),
            write_age_ms: core.log.stalled_ms(),
            snapshots_installed: core.flush.installed.load(Ordering::Relaxed),
        }
    }

    fn term(&self) -> u64 {
        self.0.facts.term()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.0.facts.changed().boxed()
    }

    fn members(&self) -> Members {
        self.0.facts.members()
    }

    fn add_member(
        &self,
        member: NewMember,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change(MemberChange::Add(member), timeout)
    }

    fn promote_member(
        &self,
        id: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change(MemberChange::Promote(id), timeout)
    }

    fn remove_member(
        &self,
        id: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change(MemberChange::Remove(id), timeout)
    }

    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Members, MemberError>> {
        self.change(MemberChange::Update { id, peer_urls }, timeout)
    }

    fn transfer_leader(
        &self,
        to: MemberId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), TransferError>> {
        let core = self.0.clone();
        async move { core.transfer_leader(to, timeout).await }.boxed()
    }

    fn call(
        &self,
        to: MemberId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let core = self.0.clone();
        async move {
            if to == core.member() {
                let handler = core.call_handler.read().clone();
                let handler = handler.ok_or_else(|| CallError::Refused("no handler yet".into()))?;
                return handler.call(to, kind, body).await.map_err(CallError::Refused);
            }
            if !core.links.knows(to) {
                return Err(CallError::UnknownMember);
            }
            match core.links.call_handler(to, kind, body, timeout).await {
                Asked::Answered(Ok(answer)) => Ok(answer),
                Asked::Answered(Err(Refusal::Handler(text))) => Err(CallError::Refused(text)),
                Asked::Answered(Err(refusal)) => Err(CallError::Unreachable(refusal.to_string())),
                Asked::NotDelivered => Err(CallError::Unreachable("no connection".into())),
                Asked::Unknown => Err(CallError::Timeout),
            }
        }
        .boxed()
    }

    fn serve_calls(&self, handler: Arc<dyn CallHandler>) {
        *self.0.call_handler.write() = Some(handler);
    }

    fn observe_applied(&self, observer: Arc<dyn ApplyObserver>) {
        *self.0.apply_observer.write() = Some(observer);
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let core = self.0.clone();
        async move { core.shutdown().await }.boxed()
    }
}
