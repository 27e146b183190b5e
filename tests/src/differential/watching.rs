//! One watch stream of a session: what was asked, what arrived, and the promises every server must keep by itself.
//!
//! Owns: the stream and the deliveries since the last drain. Invariants checked on each side alone, whatever the other does:
//! no event before the confirmation, revisions in order, a revision never split over two responses unless they are marked
//! as fragments, a header never older than its events. Called by: the session.
//!
//! Two servers may group events into responses differently, so what is compared is the sequence of events per watcher. A
//! drain makes that sequence complete: a progress request is answered only when every watcher of the stream is in step.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::answer::Delivery;
use crate::client::Client;
use crate::clock::Deadline;

/// A watch response that takes longer than this is missing.
const RESPONSE_WAIT: Duration = Duration::from_secs(10);
/// A progress request is repeated after this long: it is not answered while a watcher is behind.
const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
/// Control requests in flight; the session sends one at a time, progress requests may pile up a little.
const REQUEST_QUEUE: usize = 1024;

/// What one watcher got.
#[derive(Debug, Default)]
struct Watcher {
    start: i64,
    deliveries: Vec<Delivery>,
    /// Revision of the last event.
    last: i64,
    /// The last response was a fragment, so the next may go on with the same revision.
    open: bool,
}

/// A watch stream.
pub struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    watchers: BTreeMap<i64, Watcher>,
    /// Watchers that the server cancelled, with what is left to compare.
    ended: BTreeMap<i64, Vec<Delivery>>,
}

/// What went wrong on one side alone.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream ended.
    #[error("the watch stream ended: {0}")]
    Ended(Status),
    /// Nothing came in time.
    #[error("no {0} within {RESPONSE_WAIT:?}")]
    Missing(&'static str),
    /// A promise is broken.
    #[error("{0}")]
    Broken(String),
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

impl Stream {
    /// Opens a stream with its first watcher: servers send headers only with the first response.
    ///
    /// # Errors
    /// The server's refusal of the stream.
    pub async fn open(
        client: &Client,
        first: Request<pb::WatchCreateRequest>,
    ) -> Result<(Self, pb::WatchResponse), StreamError> {
        let (metadata, extensions, create) = first.into_parts();
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let sent = requests.send(request(RequestUnion::CreateRequest(create.clone()))).await;
        assert!(sent.is_ok(), "the queue was just made");
        let call = Request::from_parts(metadata, extensions, ReceiverStream::new(queue));
        let mut watch = client.watch();
        let opened = tokio::time::timeout(RESPONSE_WAIT, watch.watch(call)).await;
        let responses =
            opened.map_err(|_| StreamError::Missing("stream"))?.map_err(StreamError::Ended)?.into_inner();
        let mut stream = Self { requests, responses, watchers: BTreeMap::new(), ended: BTreeMap::new() };
        let created = stream.await_created(create.start_revision).await?;
        Ok((stream, created))
    }

    /// Creates one more watcher and waits for the answer.
    ///
    /// # Errors
    /// If none comes.
    pub async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<pb::WatchResponse, StreamError> {
        let start = create.start_revision;
        self.send(RequestUnion::CreateRequest(create)).await?;
        self.await_created(start).await
    }

    async fn send(&mut self, union: RequestUnion) -> Result<(), StreamError> {
        self.requests.send(request(union)).await.map_err(|_| StreamError::Missing("open stream"))
    }

    async fn await_created(&mut self, start: i64) -> Result<pb::WatchResponse, StreamError> {
        let deadline = Deadline::after(RESPONSE_WAIT);
        loop {
            let response = self.next(deadline).await?.ok_or(StreamError::Missing("created response"))?;
            if !response.created {
                self.absorb(response)?;
                continue;
            }
            if !response.canceled {
                let watcher = Watcher { start, ..Watcher::default() };
                if self.watchers.insert(response.watch_id, watcher).is_some() {
                    return Err(StreamError::Broken(format!("watch id {} given twice", response.watch_id)));
                }
            }
            return Ok(response);
        }
    }

    async fn next(&mut self, deadline: Deadline) -> Result<Option<pb::WatchResponse>, StreamError> {
        match tokio::time::timeout(deadline.left(), self.responses.message()).await {
            Err(_) => Ok(None),
            Ok(Ok(Some(response))) => Ok(Some(response)),
            Ok(Ok(None)) => Err(StreamError::Ended(Status::ok("end of stream"))),
            Ok(Err(status)) => Err(StreamError::Ended(status)),
        }
    }

    /// Waits for the cancellation of a watcher whose start is compacted, and tells the server that it is gone: etcd keeps
    /// such a watcher in the stream's table, and then answers no progress request any more.
    ///
    /// # Errors
    /// If no cancellation comes.
    pub async fn await_compacted(&mut self, id: i64) -> Result<(), StreamError> {
        let deadline = Deadline::after(RESPONSE_WAIT);
        while self.watchers.contains_key(&id) {
            let response =
                self.next(deadline).await?.ok_or(StreamError::Missing("cancellation for compaction"))?;
            self.absorb(response)?;
        }
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })).await
    }

    /// Cancels a watcher; one that is not there is ignored by the server.
    ///
    /// # Errors
    /// If the cancellation is not confirmed.
    pub async fn cancel(&mut self, id: i64) -> Result<(), StreamError> {
        let known = self.watchers.contains_key(&id);
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })).await?;
        let deadline = Deadline::after(RESPONSE_WAIT);
        while known && self.watchers.contains_key(&id) {
            let response =
                self.next(deadline).await?.ok_or(StreamError::Missing("confirmation of a cancellation"))?;
            self.absorb(response)?;
        }
        Ok(())
    }

    /// Waits until everything up to `current` has arrived. `None` if the stream cannot be drained: it has no watcher, or
    /// one that starts in the future, for which etcd answers no progress request.
    ///
    /// # Errors
    /// If the server does not get in step in time, or breaks a promise.
    pub async fn drain(&mut self, current: i64) -> Result<Option<BTreeMap<i64, Vec<Delivery>>>, StreamError> {
        let waiting = self.watchers.values().any(|watcher| watcher.start > current);
        if waiting {
            return Ok(None);
        }
        if !self.watchers.is_empty() {
            self.await_progress(current).await?;
        }
        let mut collected = std::mem::take(&mut self.ended);
        for (id, watcher) in &mut self.watchers {
            collected.entry(*id).or_default().append(&mut watcher.deliveries);
        }
        Ok(Some(collected))
    }

    async fn await_progress(&mut self, current: i64) -> Result<(), StreamError> {
        let deadline = Deadline::after(RESPONSE_WAIT);
        loop {
            if deadline.passed() {
                return Err(StreamError::Missing("progress notification"));
            }
            self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await?;
            let again = Deadline::after(PROGRESS_PAUSE);
            while let Some(response) = self.next(again).await? {
                let progress = response.watch_id == -1 && !response.created && response.events.is_empty();
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                if !progress {
                    self.absorb(response)?;
                } else if revision >= current {
                    return Ok(());
                }
            }
        }
    }

    /// Files one response under its watcher.
    fn absorb(&mut self, response: pb::WatchResponse) -> Result<(), StreamError> {
        let id = response.watch_id;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if id == -1 && response.events.is_empty() {
            return Ok(()); // A late answer to a repeated progress request.
        }
        if response.canceled && !self.watchers.contains_key(&id) {
            return Ok(()); // The confirmation of `await_compacted`.
        }
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Err(StreamError::Broken(format!(
                "a response for watcher {id}, which does not exist: {response:?}"
            )));
        };
        for event in &response.events {
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let splits = at == watcher.last && !watcher.open && event == &response.events[0];
            if at < watcher.last || splits || at > revision || at < watcher.start {
                let last = watcher.last;
                return Err(StreamError::Broken(format!(
                    "watcher {id}: event at {at} after {last}, header {revision}, start {}",
                    watcher.start
                )));
            }
            watcher.last = at;
        }
        watcher.open = response.fragment;
        watcher.deliveries.extend(response.events.iter().cloned().map(Delivery::Event));
        if response.canceled {
            let mut deliveries = std::mem::take(&mut watcher.deliveries);
            deliveries.push(Delivery::Canceled(response));
            self.ended.entry(id).or_default().append(&mut deliveries);
            self.watchers.remove(&id);
        }
        Ok(())
    }
}
