//! A source and a codec in memory, for tests, examples and simulations.
//!
//! Owns: a history with a compaction mark. Called by: tests. Invariants: the promises of [`EventSource`].
//! Source: own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{BufMut, BytesMut};
use keelson_mvcc::types::{Event, EventKind, KeyValue, Revision, RevisionEvents};

use crate::ports::{EventSource, FrameCodec, SourceError};

#[derive(Default)]
struct History {
    revisions: BTreeMap<Revision, Arc<RevisionEvents>>,
    revision: Revision,
    mark: Revision,
    fault: Option<String>,
    scans: u64,
}

/// Events by revision.
pub struct MemorySource {
    history: Mutex<History>,
}

impl Default for MemorySource {
    fn default() -> Self {
        MemorySource { history: Mutex::new(History { revision: 1, mark: -1, ..History::default() }) }
    }
}

impl MemorySource {
    /// Appends a revision; it must be the newest.
    pub fn append(&self, events: Arc<RevisionEvents>) {
        let mut history = self.history();
        assert!(events.revision > history.revision, "revisions increase");
        history.revision = events.revision;
        history.revisions.insert(events.revision, events);
    }

    /// Raises the compaction mark and drops what lies below it.
    pub fn compact(&self, mark: Revision) {
        let mut history = self.history();
        assert!(mark <= history.revision, "only the past is compacted");
        history.mark = history.mark.max(mark);
        let mark = history.mark;
        history.revisions = history.revisions.split_off(&mark);
    }

    /// All later reads fail with this cause, or work again.
    pub fn set_fault(&self, cause: Option<&str>) {
        self.history().fault = cause.map(str::to_owned);
    }

    /// Number of reads so far.
    pub fn scans(&self) -> u64 {
        self.history().scans
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no reader panicked")
    }
}

impl EventSource for MemorySource {
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        let mut history = self.history();
        history.scans += 1;
        if let Some(cause) = &history.fault {
            return Err(SourceError::Failed(cause.clone()));
        }
        if after + 1 < history.mark {
            return Err(SourceError::Compacted { mark: history.mark });
        }
        let mut bytes = 0;
        let mut found = Vec::new();
        for events in history.revisions.range(after + 1..=upto).map(|(_, events)| events) {
            if !found.is_empty() && bytes >= bytes_soft {
                break;
            }
            bytes +=
                events.events.iter().map(|event| event.kv.key.len() + event.kv.value.len()).sum::<usize>();
            found.push(events.clone());
        }
        Ok(found)
    }

    fn revision(&self) -> Revision {
        self.history().revision
    }

    fn compacted(&self) -> Revision {
        self.history().mark
    }
}

/// A readable encoding: per event `kind`, revision, position, key, value, and the previous value if asked for.
#[derive(Debug, Default)]
pub struct PlainCodec;

impl FrameCodec for PlainCodec {
    fn events(&self, events: &[&Event], prev_kv: bool, out: &mut BytesMut) {
        for event in events {
            out.put_u8(match event.kind {
                EventKind::Put => b'p',
                EventKind::Delete => b'd',
            });
            out.put_i64(event.kv.mod_revision);
            out.put_u32(event.sub);
            put_bytes(out, &event.kv.key);
            put_bytes(out, &event.kv.value);
            match event.prev.as_ref().filter(|_| prev_kv) {
                None => out.put_u8(0),
                Some(KeyValue { value, .. }) => {
                    out.put_u8(1);
                    put_bytes(out, value);
                }
            }
        }
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("test values are small"));
    out.put_slice(bytes);
}
