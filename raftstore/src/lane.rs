//! Replies travel to a waiting runtime in one piece, however many requests they answer.
//!
//! Owns: the lane. Called by: `api` (one lane per runtime that serves requests), `pending` (delivery).
//! Why: waking a task of another thread's runtime costs a system call each; a group of N replies through a lane costs
//! one, and the N tasks are then woken from inside their own runtime.

use std::sync::Arc;

use keelson_mvcc::types::Reply;
use tokio::sync::{mpsc, oneshot};

use crate::consensus::ProposeError;

pub(crate) type ReplySender = oneshot::Sender<Result<Reply, ProposeError>>;
pub(crate) type Delivery = Vec<(ReplySender, Result<Reply, ProposeError>)>;

/// The way of replies into one runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lane {
    sender: Arc<mpsc::UnboundedSender<Delivery>>,
}

/// The end of a lane; [`LaneEnd::run`] must be running for replies to arrive.
#[derive(Debug)]
pub struct LaneEnd {
    receiver: mpsc::UnboundedReceiver<Delivery>,
}

impl Lane {
    /// A lane and its end. Unbounded, because what can be in it is bounded by the proposals under way.
    pub fn new() -> (Lane, LaneEnd) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Lane { sender: Arc::new(sender) }, LaneEnd { receiver })
    }

    /// Which lane this is.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.sender) as usize
    }

    /// If the end is gone, the requests that waited behind it are gone too.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        if let Err(mpsc::error::SendError(delivery)) = self.sender.send(delivery) {
            hand_out(delivery);
        }
    }
}

impl LaneEnd {
    #[cfg(test)]
    pub(crate) fn try_next(&mut self) -> Option<Delivery> {
        self.receiver.try_recv().ok()
    }

    /// Hands replies to their tasks until every [`Lane`] is dropped. Spawn it on the runtime that serves the requests.
    pub async fn run(mut self) {
        while let Some(delivery) = self.receiver.recv().await {
            hand_out(delivery);
        }
    }
}

pub(crate) fn hand_out(delivery: Delivery) {
    for (sender, reply) in delivery {
        // A request that gave up has dropped its end; nobody is left to tell.
        let _ = sender.send(reply);
    }
}
