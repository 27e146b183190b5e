//! A network in memory: for tests and the simulation.
//!
//! Owns: who can be reached, which links are cut, how long a message takes and how many are lost. Called by: tests, `tests/sim`.
//! Messages are encoded and decoded as on a real network. A message to a member that is not there was certainly not
//! delivered; one over a cut link waits until the link is whole again, as TCP does, or until its sender gives up.
//! Invariants: messages of one stream stay in order; under the simulation's runtime one seed gives one run, because
//! delays are drawn from the runtime's generator.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use openraft::async_runtime::AsyncRuntime;
use parking_lot::Mutex;
use rand::Rng;

use super::{Answers, Frame, Peer, PeerService, Route, Transport, TransportError};
use crate::types::MemberId;

/// Messages of a stream that may be under way at once.
const STREAM_WINDOW: usize = 64;
/// How often a message looks whether its link is whole again.
const CUT_PAUSE: Duration = Duration::from_millis(10);

/// The network all members of a test share.
pub struct MemoryNetwork<RT> {
    shared: Arc<Shared>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT> Clone for MemoryNetwork<RT> {
    fn clone(&self) -> Self {
        MemoryNetwork { shared: self.shared.clone(), runtime: PhantomData }
    }
}

impl<RT> Default for MemoryNetwork<RT> {
    fn default() -> Self {
        MemoryNetwork { shared: Arc::default(), runtime: PhantomData }
    }
}

#[derive(Default)]
struct Shared {
    members: Mutex<BTreeMap<MemberId, Arc<dyn PeerService>>>,
    /// How often each member has left: of an earlier life nothing is heard, and nothing reaches it.
    lives: Mutex<BTreeMap<MemberId, u64>>,
    /// From, to: one direction each.
    cut: Mutex<BTreeSet<(MemberId, MemberId)>>,
    delay_us_max: AtomicU64,
    /// Of a million messages so many break their connection.
    loss_ppm: AtomicU32,
}

impl<RT: AsyncRuntime> MemoryNetwork<RT> {
    /// Makes a member reachable.
    pub fn join(&self, id: MemberId, service: Arc<dyn PeerService>) {
        self.shared.members.lock().insert(id, service);
    }

    /// A member is gone: new messages to it fail at once, and what is left of it reaches nobody.
    pub fn leave(&self, id: MemberId) {
        self.shared.members.lock().remove(&id);
        *self.shared.lives.lock().entry(id).or_default() += 1;
    }

    /// The way out of `from`, until it leaves.
    pub fn transport(&self, from: MemberId) -> Arc<dyn Transport> {
        Arc::new(MemoryTransport { network: self.clone(), from: self.party(from) })
    }

    fn life(&self, id: MemberId) -> u64 {
        self.shared.lives.lock().get(&id).copied().unwrap_or(0)
    }

    /// Nothing passes from `from` to `to` any more.
    pub fn cut(&self, from: MemberId, to: MemberId) {
        self.shared.cut.lock().insert((from, to));
    }

    /// Cuts a member off, both ways.
    pub fn isolate(&self, id: MemberId, others: impl IntoIterator<Item = MemberId>) {
        for other in others.into_iter().filter(|other| *other != id) {
            self.cut(id, other);
            self.cut(other, id);
        }
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.shared.cut.lock().clear();
    }

    /// Each message takes up to this long, drawn at random.
    pub fn set_delay_max(&self, delay: Duration) {
        self.shared.delay_us_max.store(delay.as_micros() as u64, Ordering::Relaxed);
    }

    /// Of a million messages so many are lost and break their connection; whether the message had arrived, its sender
    /// does not know.
    pub fn set_loss(&self, ppm: u32) {
        self.shared.loss_ppm.store(ppm, Ordering::Relaxed);
    }

    /// One message's way. Lost if either side has died: nobody answers for the dead, and nobody waits in their name.
    async fn pass(&self, from: Party, to: Party) -> Result<(), TransportError> {
        self.alive(from, to)?;
        while self.shared.cut.lock().contains(&(from.id, to.id)) {
            RT::sleep(CUT_PAUSE).await;
        }
        let max_us = self.shared.delay_us_max.load(Ordering::Relaxed);
        if max_us > 0 {
            let delay_us = RT::thread_rng().next_u64() % max_us;
            RT::sleep(Duration::from_micros(delay_us)).await;
        }
        let loss_ppm = u64::from(self.shared.loss_ppm.load(Ordering::Relaxed));
        if loss_ppm > 0 && RT::thread_rng().next_u64() % 1_000_000 < loss_ppm {
            return Err(TransportError::Lost("the connection broke".into()));
        }
        self.alive(from, to)
    }

    fn alive(&self, from: Party, to: Party) -> Result<(), TransportError> {
        let alive = self.life(from.id) == from.life && self.life(to.id) == to.life;
        if alive { Ok(()) } else { Err(TransportError::Lost("the other side has died".into())) }
    }

    fn party(&self, id: MemberId) -> Party {
        Party { id, life: self.life(id) }
    }

    fn member(&self, from: Party, id: MemberId) -> Result<(Arc<dyn PeerService>, Party), TransportError> {
        let member = self.shared.members.lock().get(&id).cloned().filter(|_| self.life(from.id) == from.life);
        let member =
            member.ok_or_else(|| TransportError::Unreachable(format!("member {id:x} is not there")))?;
        Ok((member, self.party(id)))
    }
}

#[derive(Clone, Copy)]
struct Party {
    id: MemberId,
    life: u64,
}

struct MemoryTransport<RT> {
    network: MemoryNetwork<RT>,
    from: Party,
}

impl<RT: AsyncRuntime> Transport for MemoryTransport<RT> {
    fn call(
        &self,
        to: &Peer,
        _route: Route,
        request: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (network, from, to) = (self.network.clone(), self.from, to.id);
        async move {
            let exchange = async {
                let (member, to) = network.member(from, to)?;
                network.pass(from, to).await?;
                let answer = member.call(request.into_bytes()).await;
                network.pass(to, from).await?;
                Ok(answer)
            };
            RT::timeout(timeout, exchange).await.unwrap_or(Err(TransportError::Timeout))
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Peer,
        _route: Route,
        requests: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Answers, TransportError>> {
        let (network, from, to) = (self.network.clone(), self.from, to.id);
        async move {
            let (member, to) = network.member(from, to)?;
            let there = network.clone();
            let incoming = requests
                .map(move |request| {
                    let network = there.clone();
                    async move {
                        network.pass(from, to).await?;
                        Ok(request.into_bytes())
                    }
                })
                .buffered(STREAM_WINDOW);
            let answers = member.stream(incoming.boxed()).map(move |answer| {
                let network = network.clone();
                async move {
                    network.pass(to, from).await?;
                    Ok(answer)
                }
            });
            Ok(answers.buffered(STREAM_WINDOW).boxed())
        }
        .boxed()
    }

    fn upload(
        &self,
        to: &Peer,
        _route: Route,
        chunks: BoxStream<'static, Frame>,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (network, from, to) = (self.network.clone(), self.from, to.id);
        async move {
            let (member, to) = network.member(from, to)?;
            let there = network.clone();
            let incoming = chunks.then(move |chunk| {
                let network = there.clone();
                async move {
                    network.pass(from, to).await?;
                    Ok(chunk.into_bytes())
                }
            });
            let answer = member.upload(incoming.boxed()).await;
            network.pass(to, from).await?;
            Ok(answer)
        }
        .boxed()
    }

    fn forget(&self, _id: MemberId) {}
}
