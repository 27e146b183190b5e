//! One client's stream: the reader that takes frames, and handles that make requests.
//!
//! Owns: waking and waiting. Called by: `api`, one stream per gRPC call; in-process readers.
//! Invariants: one reader; after a frame `Canceled` nothing comes for that watcher; dropping the reader removes its
//! watchers. Source: own design; the seam is poll-based so that an HTTP body can be the reader without a task.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::catch_up::CatchUp;
use crate::frame::{Frame, WatchId, WatchRequest};
use crate::gather::Budget;
use crate::hub::Shared;
use crate::state::{State, StreamKey};

/// Watchers removed under one hold of the lock when a stream goes away.
const CLOSE_STEP: usize = 256;

/// Why a stream yields nothing more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// The hub was closed.
    #[error("watch hub is closed")]
    Closed,
    /// Old events could not be read. Nothing was skipped: the client may resume elsewhere after its last event.
    #[error("read old events for a watch: {0}")]
    Source(String),
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too many replies wait to be read; see [`WatchControl::ready`].
    #[error("too many watch replies are waiting")]
    Full,
    /// The stream or the hub is closed.
    #[error("watch stream is closed")]
    Closed,
}

/// The reading side of a stream.
pub struct WatchStream {
    shared: Arc<Shared>,
    key: StreamKey,
    catch_up: CatchUp,
    ended: Option<StreamEnd>,
}

impl WatchStream {
    pub(crate) fn new(shared: Arc<Shared>, key: StreamKey) -> Self {
        WatchStream { shared, key, catch_up: CatchUp::new(), ended: None }
    }

    /// A handle for requests.
    pub fn control(&self) -> WatchControl {
        WatchControl { shared: self.shared.clone(), key: self.key }
    }

    /// The next frames, never none, of bounded size; they are to be sent in this order.
    ///
    /// # Errors
    /// The stream has ended; asking again gives the same answer.
    /// # Cancel safety
    /// Frames are taken only when they are returned.
    pub async fn next(&mut self) -> Result<Vec<Frame>, StreamEnd> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`WatchStream::next`]. One call reads at most one piece of the past.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<Frame>, StreamEnd>> {
        if let Some(end) = &self.ended {
            return Poll::Ready(Err(end.clone()));
        }
        let options = &self.shared.options;
        let mut budget = Budget { bytes: options.batch_bytes_soft, frames: options.batch_frames_soft };
        let mut frames = Vec::new();
        let mut wakes = Vec::new();
        let idle = {
            let mut state = self.shared.lock();
            if state.closed {
                drop(state);
                return Poll::Ready(Err(self.end(StreamEnd::Closed)));
            }
            let mut fresh = Vec::new();
            state.gather(self.key.slot, &mut budget, &mut frames, &mut fresh, &mut wakes);
            self.catch_up.admit(fresh);
            let idle = frames.is_empty() && self.catch_up.is_empty() && !state.has_work(self.key.slot);
            if idle {
                // Under the same lock as the look: a publication after it finds the waker.
                let waker = &mut state.streams[self.key.slot].waker;
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
            }
            idle
        };
        wakes.into_iter().for_each(Waker::wake);
        if idle {
            return Poll::Pending;
        }
        if !self.catch_up.is_empty() {
            // The past gets a share of its own: live events must not starve it.
            let mut budget = Budget { bytes: options.batch_bytes_soft, frames: options.batch_frames_soft };
            if let Err(end) = self.catch_up.step(&self.shared, self.key.slot, &mut budget, &mut frames) {
                let end = self.end(end);
                if frames.is_empty() {
                    return Poll::Ready(Err(end));
                }
            }
        }
        if frames.is_empty() {
            // A piece of the past without a matching event: let others run before the next one.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(frames))
    }

    fn end(&mut self, end: StreamEnd) -> StreamEnd {
        self.ended = Some(end.clone());
        end
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        loop {
            let mut wakes = Vec::new();
            let Some(mut state) = self.shared.lock_unless_broken() else { return };
            let gone = state.close_step(self.key, CLOSE_STEP, &mut wakes);
            drop(state);
            wakes.into_iter().for_each(Waker::wake);
            if gone {
                return;
            }
        }
    }
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream")
            .field("key", &self.key)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The requesting side of a stream. Requests take effect in the order in which they are made; each reply comes out
/// of the reader. A handle does not keep the stream open.
#[derive(Clone)]
pub struct WatchControl {
    shared: Arc<Shared>,
    key: StreamKey,
}

impl WatchControl {
    /// Creates a watcher; `None` if it is refused. Either way the reply is a frame. Waits while replies are not read.
    ///
    /// A negative `start` is refused before anything else, so callers that check permissions do so only for
    /// requests with `start >= 0`, and answer with [`WatchControl::refuse`].
    /// # Errors
    /// `Closed` only.
    /// # Cancel safety
    /// Either nothing happened or the watcher exists.
    pub async fn create(&self, request: &WatchRequest) -> Result<Option<WatchId>, ControlError> {
        self.when_ready(|| self.try_create(request)).await
    }

    /// As [`WatchControl::create`], without waiting.
    pub fn try_create(&self, request: &WatchRequest) -> Result<Option<WatchId>, ControlError> {
        self.with_room(|state, slot| state.create(slot, request))
    }

    /// Cancels a watcher. An id that does not exist (any more) is ignored: false, and no reply.
    pub async fn cancel(&self, id: WatchId) -> Result<bool, ControlError> {
        self.when_ready(|| self.try_cancel(id)).await
    }

    /// As [`WatchControl::cancel`], without waiting.
    pub fn try_cancel(&self, id: WatchId) -> Result<bool, ControlError> {
        self.with_room(|state, slot| state.cancel(slot, id))
    }

    /// Queues the refusal of a request that never reaches the hub, because the client may not watch the range.
    pub async fn refuse(&self, reason: impl Into<Cow<'static, str>>) -> Result<(), ControlError> {
        let reason = reason.into();
        self.when_ready(|| self.try_refuse(reason.clone())).await
    }

    /// As [`WatchControl::refuse`], without waiting.
    pub fn try_refuse(&self, reason: impl Into<Cow<'static, str>>) -> Result<(), ControlError> {
        let reason = reason.into();
        self.with_room(|state, slot| state.refuse(slot, reason))
    }

    /// Asks for one progress frame for all watchers of the stream (id -1), to come when all of them have everything.
    /// Requests made before the answer are answered by it; no watcher or one of a future revision: no answer.
    pub fn progress(&self) -> Result<(), ControlError> {
        let mut wakes = Vec::new();
        {
            let mut state = self.shared.lock();
            let stream = state.stream(self.key).ok_or(ControlError::Closed)?;
            stream.progress_asked = true;
            stream.wake(&mut wakes);
        }
        wakes.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits until a request can be taken.
    /// # Errors
    /// `Closed` only.
    pub async fn ready(&self) -> Result<(), ControlError> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), ControlError>> {
        let controls_max = self.shared.options.controls_max;
        let mut state = self.shared.lock();
        let Some(stream) = state.stream(self.key) else { return Poll::Ready(Err(ControlError::Closed)) };
        if stream.controls.len() < controls_max {
            return Poll::Ready(Ok(()));
        }
        if !stream.room.iter().any(|waker| waker.will_wake(context.waker())) {
            stream.room.push(context.waker().clone());
        }
        Poll::Pending
    }

    async fn when_ready<T>(&self, request: impl Fn() -> Result<T, ControlError>) -> Result<T, ControlError> {
        loop {
            self.ready().await?;
            match request() {
                Err(ControlError::Full) => {}
                result => return result,
            }
        }
    }

    fn with_room<T>(&self, request: impl FnOnce(&mut State, u32) -> T) -> Result<T, ControlError> {
        let mut wakes = Vec::new();
        let result = {
            let mut state = self.shared.lock();
            let stream = state.stream(self.key).ok_or(ControlError::Closed)?;
            if stream.controls.len() >= self.shared.options.controls_max {
                return Err(ControlError::Full);
            }
            let result = request(&mut state, self.key.slot);
            state.streams[self.key.slot].wake(&mut wakes);
            result
        };
        wakes.into_iter().for_each(Waker::wake);
        Ok(result)
    }
}

impl std::fmt::Debug for WatchControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchControl").field("key", &self.key).finish_non_exhaustive()
    }
}
