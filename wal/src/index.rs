//! Where each entry is: twelve bytes per entry, and the open segments.
//!
//! Owns: `LogIndex`, shared by the writer (appends, truncates, purges) and by readers (look-ups) under one
//! lock that is held for memory operations only.
//! Invariants: locations are contiguous in the index and never decrease in segment; every location's segment is
//! open and has its name on disk while the location is here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::DiskFile;
use crate::segment::Segment;

/// Where an entry's record starts and how long its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) payload_bytes: u32,
}

/// One change of the index, kept until the block that holds it is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    Entry { index: u64, location: Location },
    Truncate { next: u64 },
    Purge { first: u64 },
}

pub(crate) struct LogIndex<F> {
    first: u64,
    locations: VecDeque<Location>,
    segments: VecDeque<Arc<Segment<F>>>,
}

pub(crate) type SharedIndex<F> = Arc<Mutex<LogIndex<F>>>;

/// A poisoned lock means that a panic is already ending the writer; the index itself is whole.
pub(crate) fn lock<F>(index: &SharedIndex<F>) -> MutexGuard<'_, LogIndex<F>> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F> LogIndex<F> {
    pub(crate) fn new() -> Self {
        LogIndex { first: 0, locations: VecDeque::new(), segments: VecDeque::new() }
    }

    /// First index kept; the one that would be appended next if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn next(&self) -> u64 {
        self.first + self.locations.len() as u64
    }

    pub(crate) fn get(&self, index: u64) -> Option<Location> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locations.get(at).copied()
    }

    pub(crate) fn segment(&self, location: Location) -> &Arc<Segment<F>> {
        let front = self.segments.front().expect("a location has a segment").sequence;
        &self.segments[(u64::from(location.segment) - front) as usize]
    }

    pub(crate) fn push_segment(&mut self, segment: Arc<Segment<F>>) {
        let follows = self.segments.back().is_none_or(|last| last.sequence + 1 == segment.sequence);
        assert!(follows, "segments are a chain");
        self.segments.push_back(segment);
    }

    pub(crate) fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Entry { index, location } => {
                if self.locations.is_empty() {
                    self.first = index;
                }
                assert_eq!(index, self.next(), "entries are contiguous");
                debug_assert!(self.locations.back().is_none_or(|last| last.segment <= location.segment));
                self.locations.push_back(location);
            }
            Edit::Truncate { next } => {
                let keep = next.saturating_sub(self.first);
                if keep < self.locations.len() as u64 {
                    self.locations.truncate(keep as usize);
                }
            }
            Edit::Purge { first } => {
                let gone = first.saturating_sub(self.first).min(self.locations.len() as u64);
                self.locations.drain(..gone as usize);
                self.first = self.first.max(first);
            }
        }
    }

    /// The oldest index from which on the entries take at most `bytes` of the files (to within the blocks of
    /// the last group); the index after the last one if not even that fits.
    pub(crate) fn index_keeping(&self, bytes: u64) -> u64
    where
        F: DiskFile,
    {
        let Some(last) = self.locations.back() else { return self.next() };
        let first_sequence = self.segments.front().expect("a location has a segment").sequence;
        let mut starts = Vec::with_capacity(self.segments.len());
        let mut start = 0;
        for segment in &self.segments {
            starts.push(start);
            start += segment.length();
        }
        let position = |location: &Location| {
            starts[(u64::from(location.segment) - first_sequence) as usize] + u64::from(location.offset)
        };
        let end = position(last) + u64::from(last.payload_bytes);
        let dropped = self.locations.partition_point(|location| end - position(location) > bytes);
        self.first + dropped as u64
    }

    /// Takes the segments before `active` that hold no entry any more, oldest first.
    pub(crate) fn release(&mut self, active: u64) -> Vec<Arc<Segment<F>>> {
        let keep_from = self.locations.front().map_or(active, |location| u64::from(location.segment));
        assert!(keep_from <= active);
        let count = self.segments.iter().take_while(|segment| segment.sequence < keep_from).count();
        self.segments.drain(..count).collect()
    }
}
