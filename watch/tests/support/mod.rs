//! A small store with a hub on it, and a reader that polls by hand.
//!
//! Owns: the test world. Called by: the tests of this folder. Source: own.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, Bytes, BytesMut};
use keelson_mvcc::types::{Event, EventKind, KeyRange, KeyValue, Revision, RevisionEvents};
use keelson_watch::memory::{MemorySource, PlainCodec};
use keelson_watch::{
    EventBatch, EventSource, Frame, FrameCodec, Hub, HubOptions, SourceError, StreamEnd, WatchId,
    WatchRequest, WatchStream,
};

/// One change of one key: a value puts, `None` deletes.
pub type Change = (String, Option<String>);

pub struct World {
    pub source: Arc<MemorySource>,
    pub hooked: Arc<HookedSource>,
    pub hub: Hub,
    pub codec: Arc<CountingCodec>,
    pub live: BTreeMap<String, KeyValue>,
    pub revision: Revision,
    /// Everything ever written, compacted or not.
    pub history: Vec<Arc<RevisionEvents>>,
}

impl World {
    pub fn new() -> Self {
        World::with(HubOptions::default())
    }

    pub fn with(options: HubOptions) -> Self {
        let source = Arc::new(MemorySource::default());
        let codec = Arc::new(CountingCodec::default());
        let hooked = Arc::new(HookedSource { inner: source.clone(), hook: Mutex::default() });
        let hub = Hub::new(options, hooked.clone(), codec.clone());
        World { source, hooked, hub, codec, live: BTreeMap::new(), revision: 1, history: Vec::new() }
    }

    /// Writes one revision into the source only. Deletions of missing keys are left out; nothing left, no revision.
    pub fn write(&mut self, changes: &[Change]) -> Option<Arc<RevisionEvents>> {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        for (key, value) in changes {
            if events.iter().any(|event: &Event| event.kv.key == key.as_bytes()) {
                continue;
            }
            let prev = self.live.remove(key);
            let sub = events.len() as u32;
            match value {
                Some(value) => {
                    let kv = KeyValue {
                        key: key.clone().into(),
                        value: value.clone().into(),
                        create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
                        mod_revision: revision,
                        version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                        lease: 0,
                    };
                    self.live.insert(key.clone(), kv.clone());
                    events.push(Event { kind: EventKind::Put, kv, prev, sub });
                }
                None if prev.is_some() => {
                    let kv =
                        KeyValue { key: key.clone().into(), mod_revision: revision, ..KeyValue::default() };
                    events.push(Event { kind: EventKind::Delete, kv, prev, sub });
                }
                None => {}
            }
        }
        if events.is_empty() {
            return None;
        }
        self.revision = revision;
        let events = Arc::new(RevisionEvents { revision, events });
        self.source.append(events.clone());
        self.history.push(events.clone());
        Some(events)
    }

    /// One revision of several changes, written and published.
    pub fn txn(&mut self, changes: &[(&str, Option<&str>)]) -> Revision {
        let changes: Vec<Change> =
            changes.iter().map(|(key, value)| (key.to_string(), value.map(str::to_owned))).collect();
        let events = self.write(&changes).expect("the changes change something");
        self.hub.publish(&[events], self.revision);
        self.revision
    }

    pub fn put(&mut self, key: &str, value: &str) -> Revision {
        self.txn(&[(key, Some(value))])
    }

    pub fn delete(&mut self, key: &str) -> Revision {
        self.txn(&[(key, None)])
    }

    /// As the apply task does it: the source first, then the hub.
    pub fn compact(&mut self, mark: Revision) {
        self.source.compact(mark);
        self.hub.compacted(mark);
    }

    /// `count` revisions arrive by snapshot, without publication.
    pub fn install_snapshot(&mut self, changes: &[(&str, Option<&str>)], mark: Revision) {
        for (key, value) in changes {
            self.write(&[(key.to_string(), value.map(str::to_owned))]).expect("a change");
        }
        self.source.compact(mark);
        self.hub.reset(self.revision, mark);
    }

    pub fn open(&self) -> Reader {
        Reader::new(self.hub.open())
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// Lets a test act in the middle of a read of the past, when the hub's lock is free.
pub struct HookedSource {
    inner: Arc<MemorySource>,
    /// What to do, and whether before or after the events are read.
    hook: Mutex<Option<(bool, Hook)>>,
}

impl HookedSource {
    pub fn during_scan(&self, after_read: bool, hook: Hook) {
        *self.hook.lock().expect("no panic") = Some((after_read, hook));
    }

    /// Runs the hook if no read did.
    pub fn finish(&self) {
        let hook = self.hook.lock().expect("no panic").take();
        if let Some((_, hook)) = hook {
            hook();
        }
    }

    fn run_if(&self, after_read: bool) {
        let mut place = self.hook.lock().expect("no panic");
        if place.as_ref().is_some_and(|(when, _)| *when == after_read) {
            let (_, hook) = place.take().expect("just seen");
            drop(place);
            hook();
        }
    }
}

impl EventSource for HookedSource {
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        self.run_if(false);
        let events = self.inner.events(after, upto, bytes_soft);
        self.run_if(true);
        events
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn compacted(&self) -> Revision {
        self.inner.compacted()
    }
}

/// Counts how often each (event, variant) is encoded.
#[derive(Default)]
pub struct CountingCodec {
    plain: PlainCodec,
    pub encoded: AtomicUsize,
}

impl FrameCodec for CountingCodec {
    fn events(&self, events: &[&Event], prev_kv: bool, out: &mut BytesMut) {
        self.encoded.fetch_add(events.len(), Ordering::Relaxed);
        self.plain.events(events, prev_kv, out);
    }
}

#[derive(Default)]
pub struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A stream polled by hand, with a waker that counts.
pub struct Reader {
    pub stream: WatchStream,
    pub wakes: Arc<WakeCount>,
}

impl Reader {
    pub fn new(stream: WatchStream) -> Self {
        Reader { stream, wakes: Arc::default() }
    }

    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// One poll.
    pub fn poll(&mut self) -> Poll<Result<Vec<Frame>, StreamEnd>> {
        let waker = Waker::from(self.wakes.clone());
        self.stream.poll_next(&mut Context::from_waker(&waker))
    }

    /// Polls as a runtime does until there is a batch; `None` when the reader has to wait.
    pub fn batch(&mut self) -> Option<Vec<Frame>> {
        for _ in 0..100_000 {
            let before = self.wakes();
            match self.poll() {
                Poll::Ready(frames) => {
                    let frames = frames.expect("the stream has not ended");
                    assert!(!frames.is_empty(), "a batch holds frames");
                    return Some(frames);
                }
                Poll::Pending if self.wakes() > before => {}
                Poll::Pending => return None,
            }
        }
        panic!("the reader is asked to poll again and again, and gets nothing");
    }

    /// Everything there is.
    pub fn drain(&mut self) -> Vec<Frame> {
        // Twice as many batches as the largest test needs: what comes more often is repeated without end.
        let batches: Vec<_> = std::iter::from_fn(|| self.batch()).take(50_000).collect();
        assert!(batches.len() < 50_000, "frames come without end");
        batches.into_iter().flatten().collect()
    }

    /// Everything there is, in short form.
    pub fn texts(&mut self) -> Vec<String> {
        self.drain().iter().map(text).collect()
    }

    pub fn create(&self, request: WatchRequest) -> Option<WatchId> {
        self.stream.control().try_create(&request).expect("room")
    }

    /// Creates a watcher and takes its `Created` frame away.
    pub fn watch(&mut self, request: WatchRequest) -> WatchId {
        let id = self.create(request).expect("not refused");
        match self.batch().expect("a reply").as_slice() {
            [Frame::Created { id: created, .. }] => assert_eq!(*created, id),
            other => panic!("expected one reply, got {other:?}"),
        }
        id
    }

    pub fn progress(&self) {
        self.stream.control().progress().expect("open");
    }

    pub fn cancel(&self, id: WatchId) -> bool {
        self.stream.control().try_cancel(id).expect("room")
    }
}

pub fn point(key: &str) -> WatchRequest {
    WatchRequest { range: KeyRange::single(key.to_owned()), ..WatchRequest::default() }
}

pub fn range(key: &str, end: &str) -> WatchRequest {
    let range = KeyRange { key: key.to_owned().into(), end: end.to_owned().into() };
    WatchRequest { range, ..WatchRequest::default() }
}

/// All keys that start with `key`, whose last byte is not 0xff.
pub fn prefix(key: &str) -> WatchRequest {
    let mut end = key.as_bytes().to_vec();
    *end.last_mut().expect("not empty") += 1;
    let range = KeyRange { key: key.to_owned().into(), end: end.into() };
    WatchRequest { range, ..WatchRequest::default() }
}

pub fn everything() -> WatchRequest {
    range("\0", "\0")
}

pub fn from(start: Revision, request: WatchRequest) -> WatchRequest {
    WatchRequest { start, ..request }
}

/// What was decoded from a batch's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub put: bool,
    pub revision: Revision,
    pub sub: u32,
    pub key: Bytes,
    pub value: Bytes,
    pub previous: Option<Bytes>,
}

pub fn decode(batch: &EventBatch) -> Vec<Decoded> {
    let mut joined = BytesMut::new();
    batch.pieces(|piece| joined.extend_from_slice(&piece));
    let mut copied = BytesMut::new();
    batch.copy_to(&mut copied);
    assert_eq!(joined, copied, "both ways to the bytes agree");
    assert_eq!(joined.len(), batch.encoded_len());
    let mut bytes = joined.freeze();
    let mut events = Vec::new();
    while bytes.has_remaining() {
        let put = match bytes.get_u8() {
            b'p' => true,
            b'd' => false,
            other => panic!("unknown kind {other}"),
        };
        let (revision, sub) = (bytes.get_i64(), bytes.get_u32());
        let mut field = || {
            let len = bytes.get_u32() as usize;
            bytes.split_to(len)
        };
        let (key, value) = (field(), field());
        let previous = if bytes.get_u8() == 1 {
            let len = bytes.get_u32() as usize;
            Some(bytes.split_to(len))
        } else {
            None
        };
        events.push(Decoded { put, revision, sub, key, value, previous });
    }
    events
}

/// A frame in short form: `+id@rev` created, `-id@rev reason` cancelled, `~id@rev` progress,
/// `id@rev: 5:a=1 6:-b` events (previous value after `<`).
pub fn text(frame: &Frame) -> String {
    match frame {
        Frame::Created { id, revision } => format!("+{id}@{revision}"),
        Frame::Progress { id, revision } => format!("~{id}@{revision}"),
        Frame::Canceled { id, created, revision, compact_revision, reason } => {
            let mut text = format!("-{id}@{revision}");
            if *created {
                text += " refused";
            }
            if *compact_revision != 0 {
                text += &format!(" compacted {compact_revision}");
            }
            if !reason.is_empty() {
                text += &format!(" {reason}");
            }
            text
        }
        Frame::Events { id, revision, events, .. } => {
            let events: Vec<String> = decode(events)
                .iter()
                .map(|event| {
                    let key = String::from_utf8_lossy(&event.key);
                    let value = String::from_utf8_lossy(&event.value);
                    let previous = event.previous.as_ref().map(|value| String::from_utf8_lossy(value));
                    let previous = previous.map(|value| format!("<{value}")).unwrap_or_default();
                    if event.put {
                        format!("{}:{key}={value}{previous}", event.revision)
                    } else {
                        format!("{}:-{key}{previous}", event.revision)
                    }
                })
                .collect();
            format!("{id}@{revision}: {}", events.join(" "))
        }
    }
}

/// A log too small for more than the newest revision: every reader that waits falls behind.
pub fn tiny_log() -> HubOptions {
    HubOptions { log_bytes_max: 1, ..HubOptions::default() }
}
