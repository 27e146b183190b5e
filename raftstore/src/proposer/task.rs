//! Sends batches: to this member's Raft if it leads, to the leader otherwise.
//!
//! Owns: one task per member. Called by: `node`. The decisions are in [`Proposals`]; this shows the order: expire, send
//! what may be sent, sleep until something happens.

use std::sync::Arc;
use std::time::Duration;

use keelson_mvcc::KvEngine;
use openraft::async_runtime::AsyncRuntime;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;

use super::Proposals;
use crate::node::Core;
use crate::types::{Batch, Callback, Types};

/// Runs until [`Proposals::stop`].
pub(crate) async fn run<RT: AsyncRuntime, E: KvEngine>(core: Arc<Core<RT, E>>) {
    let proposals = core.proposals.clone();
    while !proposals.is_stopped() {
        proposals.expire();
        while let Some((sequence, batch)) = proposals.take() {
            send(&core, sequence, batch).await;
        }
        match proposals.pause_ms(core.options.timing.sweep_ms) {
            None => proposals.woken().await,
            Some(pause_ms) => {
                RT::select2(proposals.woken(), RT::sleep(Duration::from_millis(pause_ms))).await;
            }
        }
    }
}

async fn send<RT: AsyncRuntime, E: KvEngine>(core: &Arc<Core<RT, E>>, sequence: u64, batch: Batch) {
    match core.leader_hint() {
        Some(leader) if leader == core.member() => {
            // A slow disk slows proposals down here, where they are counted and refused, and not openraft's core.
            core.log.admitted().await;
            let proposals = core.proposals.clone();
            let write = core
                .raft
                .write(batch)
                .responder(Callback::new(move |result| returned(&proposals, sequence, result)));
            if write.await.is_err() {
                core.stop_now();
            }
        }
        Some(leader) => {
            let core = core.clone();
            drop(RT::spawn(async move { forward(core, leader, sequence, batch).await }));
        }
        None => {
            core.proposals.leaderless();
            core.proposals.not_appended(sequence);
        }
    }
}

/// openraft is through with an entry. Replies were delivered by the apply before.
fn returned<RT: AsyncRuntime>(proposals: &Proposals, sequence: u64, result: ClientWriteResult<Types<RT>>) {
    match result {
        Ok(_) => {}
        Err(ClientWriteError::LogEntryDiscarded(_)) => proposals.discarded(sequence),
        // Refused before an index was given to it: not the leader, lease expired, or leadership is on its way elsewhere.
        Err(_) => proposals.not_appended(sequence),
    }
}

async fn forward<RT: AsyncRuntime, E: KvEngine>(
    core: Arc<Core<RT, E>>,
    leader: u64,
    sequence: u64,
    batch: Batch,
) {
    use crate::net::client::Asked;
    use crate::net::message::Forwarded;
    match core.links.forward(leader, batch, core.options.timing.forward_timeout()).await {
        Asked::Answered(Forwarded::Applied(log_id)) => core.proposals.applied_there(sequence, log_id.index),
        Asked::Answered(Forwarded::NotAppended { .. }) => core.proposals.not_appended(sequence),
        Asked::Answered(Forwarded::Discarded) => core.proposals.discarded(sequence),
        Asked::NotDelivered => core.proposals.not_appended(sequence),
        Asked::Unknown => core.proposals.connection_lost(sequence),
    }
}
