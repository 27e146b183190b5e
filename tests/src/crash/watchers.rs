//! Watchers that come back after every interruption where they left off.
//!
//! Owns: one watcher per connection, recorded as it was. Called by: the crash suite; the verdict joins what they saw into the
//! store's own order of changes.

use std::sync::Arc;
use std::time::Duration;

use keelson_checker::{KeyRange, WatchItem, WatchRecord};
use keelson_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::convert;
use super::recorder::Recorder;
use crate::client::Client;
use crate::clock;

/// How often a waiting watcher looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);
/// A frozen server keeps the connection open; after this long without a message the watcher connects anew.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// A watcher of all keys on one member, for the length of a run.
pub struct Watcher {
    url: String,
    member: u32,
    number: u32,
    recorder: Arc<Recorder>,
}

impl Watcher {
    /// A watcher of the member at `url`.
    pub fn new(url: String, member: u32, number: u32, recorder: Arc<Recorder>) -> Self {
        Self { url, member, number, recorder }
    }

    /// Watches from the first revision until the run is stopped.
    pub async fn run(self) {
        let client = Client::for_streams(&self.url);
        let mut next = 2;
        while !self.recorder.stopped() {
            let record = watch(&client, &self, next, None).await;
            next = next.max(next_revision(&record));
            if !record.items.is_empty() {
                self.recorder.watches.lock().expect("no recorder panics").push(record);
            }
            clock::pause(Duration::from_millis(5)).await;
        }
    }

    /// Reads everything from `from` through `through`, at the end of a run.
    pub async fn catch_up(&self, from: i64, through: i64) -> WatchRecord {
        watch(&Client::for_streams(&self.url), self, from, Some(through)).await
    }
}

/// Where a resumed watcher goes on.
fn next_revision(record: &WatchRecord) -> i64 {
    let mut next = record.start_revision;
    for item in &record.items {
        match item {
            WatchItem::Events { events, .. } => {
                next = next.max(events.last().map_or(0, |event| event.kv.mod_revision) + 1);
            }
            WatchItem::Progress { revision } => next = next.max(revision + 1),
            WatchItem::Compacted { compact_revision } => next = next.max(*compact_revision),
            WatchItem::Created { .. } => {}
        }
    }
    next
}

/// One connection: until it breaks, the run is stopped, or `through` has been reached.
async fn watch(client: &Client, watcher: &Watcher, from: i64, through: Option<i64>) -> WatchRecord {
    let mut record = WatchRecord {
        client: watcher.number,
        member: watcher.member,
        range: KeyRange::all(),
        start_revision: from,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        items: Vec::new(),
        complete_through: 0,
    };
    let (requests, queue) = mpsc::channel(16);
    let create = pb::WatchCreateRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        start_revision: from,
        prev_kv: true,
        progress_notify: true,
        fragment: true,
        ..Default::default()
    };
    let request = |union| pb::WatchRequest { request_union: Some(union) };
    if requests.send(request(RequestUnion::CreateRequest(create))).await.is_err() {
        return record;
    }
    let mut service = client.watch();
    let opened = tokio::time::timeout(SILENCE_MAX, service.watch(ReceiverStream::new(queue))).await;
    let Ok(Ok(stream)) = opened else { return record };
    let mut stream = stream.into_inner();
    let mut silence = clock::Deadline::after(SILENCE_MAX);
    let mut fragments = Vec::new();
    loop {
        let reached = through.is_some_and(|through| next_revision(&record) > through);
        if reached || (through.is_none() && watcher.recorder.stopped()) || silence.passed() {
            return record;
        }
        let response = match tokio::time::timeout(LOOK, stream.message()).await {
            Ok(Ok(Some(response))) => response,
            Ok(Ok(None) | Err(_)) => return record,
            Err(_) => {
                // Progress shows that a silent stream is alive; the channel is wide enough for the rest of a silence.
                if requests
                    .try_send(request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})))
                    .is_err()
                {
                    return record;
                }
                continue;
            }
        };
        silence = clock::Deadline::after(SILENCE_MAX);
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        fragments.extend(response.events.iter().map(convert::event));
        if response.fragment {
            continue;
        }
        let received = watcher.recorder.now();
        let events = std::mem::take(&mut fragments);
        let item = match (response.created, response.canceled, events.is_empty()) {
            (true, _, _) => WatchItem::Created { revision },
            (_, true, _) => WatchItem::Compacted { compact_revision: response.compact_revision },
            (_, _, true) => WatchItem::Progress { revision },
            (_, _, false) => WatchItem::Events { revision, received, events },
        };
        let ended = matches!(item, WatchItem::Compacted { .. });
        record.items.push(item);
        if ended {
            return record;
        }
    }
}
