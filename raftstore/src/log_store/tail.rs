//! The newest entries, in memory.
//!
//! Owns: a run of entries without holes, ending at the end of the log. Called by: `log_store`.
//! Invariants: entries leave at the front only when they are durable, so everything before the tail can be read from
//! the WAL; the size is that of the payloads.

use std::collections::VecDeque;

use crate::types::{Entry, Payload};

#[derive(Default)]
pub(super) struct Tail {
    /// Index of the first entry, or of the next one if there is none.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Normal(batch) => batch.0.len(),
        Payload::Blank | Payload::Membership(_) => 0,
    }
}

impl Tail {
    /// Without entries; the log continues at `next`.
    pub(super) fn empty(next: u64) -> Self {
        Tail { first: next, entries: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let next = self.first + self.entries.len() as u64;
        if self.entries.is_empty() {
            self.first = entry.log_id.index;
        } else {
            assert_eq!(entry.log_id.index, next, "the tail has no holes");
        }
        self.bytes += payload_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Entries of `[start, end)` up to about `bytes_max`, at least one. `start` is in the tail.
    pub(super) fn read(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = (start - self.first) as usize;
        let take = (end - start) as usize;
        let mut bytes = 0;
        let mut read = Vec::new();
        for entry in self.entries.iter().skip(skip).take(take) {
            bytes += payload_bytes(entry);
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(entry.clone());
        }
        read
    }

    /// Drops the oldest entries before `durable_next` while the rest is above `bytes_max`. Keeps the last entry.
    pub(super) fn shrink(&mut self, durable_next: u64, bytes_max: usize) {
        while self.bytes > bytes_max && self.entries.len() > 1 && self.first < durable_next {
            self.pop_front();
        }
    }

    /// Drops entries at and above `next`.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= next) {
            let entry = self.entries.pop_back().expect("looked at");
            self.bytes -= payload_bytes(&entry);
        }
        if self.entries.is_empty() {
            self.first = next;
        }
    }

    /// Drops entries up to and including `through`.
    pub(super) fn purge(&mut self, through: u64) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= through) {
            self.pop_front();
        }
        if self.entries.is_empty() {
            self.first = self.first.max(through + 1);
        }
    }

    fn pop_front(&mut self) {
        let entry = self.entries.pop_front().expect("not empty");
        self.bytes -= payload_bytes(&entry);
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Batch, LogId};
    use bytes::Bytes;

    fn tail(indexes: std::ops::Range<u64>) -> Tail {
        let mut tail = Tail::empty(indexes.start);
        for index in indexes {
            let payload = Payload::Normal(Batch(Bytes::from_static(&[1; 10])));
            tail.push(Entry { log_id: LogId::new_term_index(1, index), payload });
        }
        tail
    }

    fn indexes(entries: Vec<Entry>) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn reads_are_cut_by_bytes_but_never_empty() {
        let tail = tail(5..10);
        assert_eq!(indexes(tail.read(6, 9, 1000)), [6, 7, 8]);
        assert_eq!(indexes(tail.read(6, 9, 20)), [6, 7]);
        assert_eq!(indexes(tail.read(6, 9, 0)), [6]);
    }

    #[test]
    fn shrinking_keeps_what_is_not_durable_and_the_last_entry() {
        let mut tail = tail(0..5);
        tail.shrink(3, 0);
        assert_eq!(tail.first(), 3);
        tail.shrink(5, 0);
        assert_eq!(tail.first(), 4);
    }

    #[test]
    fn cuts_and_purges_move_the_ends() {
        let mut tail = tail(0..5);
        tail.truncate(3);
        assert_eq!(indexes(tail.read(0, 3, 1000)), [0, 1, 2]);
        tail.purge(1);
        assert_eq!(tail.first(), 2);
        tail.truncate(2);
        assert_eq!(tail.first(), 2);
        tail.purge(8);
        assert_eq!(tail.first(), 9);
    }
}
