//! The recent past, shared by all watchers: entries in order of revision, bounded by bytes.
//!
//! Owns: the entries and, per entry, which subscriptions it matched. Called by: the hub's state.
//! Invariants: revisions strictly increase; sequence numbers are consecutive and never used again; the newest entry is
//! kept whatever its size, so memory is bounded by the limit plus one revision.
//! Source: own design (log and cursors, as Kafka does it, instead of a queue per subscriber).

use std::collections::VecDeque;
use std::sync::Arc;

use keelson_mvcc::types::Revision;
use smallvec::SmallVec;

use crate::entry::Entry;
use crate::subscription::HIT_BYTES;

/// The subscriptions an entry matched; needed to drop their hits together with the entry.
pub(crate) type Touched = SmallVec<[u32; 4]>;

struct Slot {
    entry: Arc<Entry>,
    touched: Touched,
    bytes: usize,
}

/// See the module.
pub(crate) struct RecentLog {
    slots: VecDeque<Slot>,
    /// Sequence number of the oldest slot.
    first_seq: u64,
    bytes: usize,
    bytes_max: usize,
    entries_max: usize,
}

impl RecentLog {
    pub(crate) fn new(bytes_max: usize, entries_max: usize) -> Self {
        RecentLog {
            slots: VecDeque::new(),
            first_seq: 0,
            bytes: 0,
            bytes_max,
            entries_max: entries_max.max(1),
        }
    }

    /// The sequence number the next entry gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_seq + self.slots.len() as u64
    }

    /// The sequence number of the oldest entry, or the next one.
    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Hits the log is charged with.
    pub(crate) fn hits(&self) -> usize {
        self.slots.iter().map(|slot| (slot.bytes - slot.entry.bytes()) / HIT_BYTES).sum()
    }

    /// For [`crate::state::State::validate`].
    pub(crate) fn validate(&self) {
        assert_eq!(self.bytes, self.slots.iter().map(|slot| slot.bytes).sum::<usize>(), "bytes of the log");
        let revisions = self.slots.iter().map(|slot| slot.entry.revision());
        assert!(revisions.is_sorted_by(|left, right| left < right), "revisions increase in the log");
        let bounded = self.bytes <= self.bytes_max && self.slots.len() <= self.entries_max;
        assert!(bounded || self.slots.len() == 1, "the log is within its bounds");
    }

    /// Revision of the oldest entry.
    pub(crate) fn first_revision(&self) -> Option<Revision> {
        self.slots.front().map(|slot| slot.entry.revision())
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `hits`: what the subscriptions keep for this entry; it is charged to the log, because it goes with the entry.
    pub(crate) fn push(&mut self, entry: Arc<Entry>, touched: Touched, hits: usize) {
        if let Some(last) = self.slots.back() {
            assert!(entry.revision() > last.entry.revision(), "revisions increase in the log");
        }
        let bytes = entry.bytes() + hits * HIT_BYTES;
        self.bytes += bytes;
        self.slots.push_back(Slot { entry, touched, bytes });
    }

    /// Removes the oldest entry if the log is over its bounds; the caller repeats until there is none.
    pub(crate) fn trim_one(&mut self) -> Option<(u64, Touched)> {
        let over = self.bytes > self.bytes_max || self.slots.len() > self.entries_max;
        if !over || self.slots.len() == 1 {
            return None;
        }
        self.pop()
    }

    /// Removes the oldest entry, whatever the bounds.
    pub(crate) fn pop(&mut self) -> Option<(u64, Touched)> {
        let slot = self.slots.pop_front()?;
        let seq = self.first_seq;
        self.first_seq += 1;
        self.bytes -= slot.bytes;
        Some((seq, slot.touched))
    }

    /// The entry with this sequence number, which must be in the log.
    pub(crate) fn entry(&self, seq: u64) -> &Arc<Entry> {
        &self.slots[(seq - self.first_seq) as usize].entry
    }

    /// Sequence number of the first entry at or after `revision`; `next_seq` if there is none.
    pub(crate) fn seq_at(&self, revision: Revision) -> u64 {
        // Revisions are nearly always consecutive, then the place follows from the first one.
        if let Some(first) = self.first_revision()
            && let Ok(offset) = usize::try_from(revision.saturating_sub(first))
            && let Some(slot) = self.slots.get(offset)
            && slot.entry.revision() == revision
        {
            return self.first_seq + offset as u64;
        }
        self.first_seq + self.slots.partition_point(|slot| slot.entry.revision() < revision) as u64
    }

    /// Entries from `revision` on, oldest first, at least one and then while they fit in `bytes_soft`.
    pub(crate) fn slice(&self, revision: Revision, bytes_soft: usize) -> Vec<Arc<Entry>> {
        let start = (self.seq_at(revision) - self.first_seq) as usize;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for slot in self.slots.range(start..) {
            if bytes >= bytes_soft {
                break;
            }
            bytes += slot.entry.bytes();
            entries.push(slot.entry.clone());
        }
        entries
    }
}
