//! Reads entries back from the segments.
//!
//! Owns: `WalReader`, a cheap handle for other threads. Invariants: every sector an entry lies in is checked,
//! and the entry says its own index, before a byte of it is returned; a segment that is retired under a running
//! read gives `Purged`, never foreign bytes. Called by: raftstore, for entries it no longer caches.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;
use crate::index::{Location, SharedIndex, lock};
use crate::record::{ENTRY_HEAD, EntryRecord, Record, decode};
use crate::sector::{self, SECTOR_BYTES, STAMP_BYTES};
use crate::segment::Segment;

/// One read of the disk covers neighbouring entries up to this many bytes (a single entry may be larger).
const SPAN_BYTES: u64 = 1 << 20;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// Reads entries while the log is written by someone else.
pub struct WalReader<D: Disk> {
    index: SharedIndex<D::File>,
}

impl<D: Disk> Clone for WalReader<D> {
    fn clone(&self) -> Self {
        WalReader { index: self.index.clone() }
    }
}

struct Wanted {
    index: u64,
    location: Location,
}

impl Wanted {
    fn start(&self) -> u64 {
        u64::from(self.location.offset) / SECTOR * SECTOR
    }

    fn record_bytes(&self) -> u64 {
        ENTRY_HEAD as u64 + u64::from(self.location.payload_bytes)
    }

    fn end(&self) -> u64 {
        sector::advance(u64::from(self.location.offset), self.record_bytes()).next_multiple_of(SECTOR)
    }
}

impl<D: Disk> WalReader<D> {
    pub(crate) fn new(index: SharedIndex<D::File>) -> Self {
        WalReader { index }
    }

    /// Indexes of the durable entries.
    pub fn range(&self) -> Range<u64> {
        let index = lock(&self.index);
        index.first()..index.next()
    }

    /// The oldest index from which on the entries take at most about `bytes` on disk; one past the end if the
    /// last entry alone is larger. For deciding how far to purge.
    pub fn index_keeping(&self, bytes: u64) -> u64 {
        lock(&self.index).index_keeping(bytes)
    }

    /// The durable entries of `range`, oldest first, whole entries only.
    ///
    /// `bytes_max`: bound on the sum of payloads; the first entry is returned even if it is larger. Entries past
    /// the end of the log are left out.
    ///
    /// # Errors
    /// `Purged` if `range` is not empty and starts below the first entry; `Damaged` if an entry is not what was
    /// written; `Io`.
    pub fn read(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<EntryRecord>, ReadError> {
        let mut out = Vec::new();
        let mut left = bytes_max;
        let mut at = range.start;
        let mut buffer = Vec::new();
        while at < range.end {
            let Some((segment, wanted)) = self.span(at..range.end, left, out.is_empty())? else { break };
            let read = read_span(&segment, &wanted, &mut buffer, &mut out);
            // The read went to a file that may have been retired and reused meanwhile. If the index still
            // names this place, it was not.
            let last = wanted.last().expect("a span is not empty");
            {
                let index = lock(&self.index);
                let unchanged = wanted.iter().all(|wanted| index.get(wanted.index) == Some(wanted.location));
                if !unchanged {
                    return self.gone(&range, index.first(), out, wanted[0].index);
                }
            }
            read?;
            left = left
                .saturating_sub(wanted.iter().map(|wanted| u64::from(wanted.location.payload_bytes)).sum());
            at = last.index + 1;
        }
        Ok(out)
    }

    /// The log changed under the read: keeps what was checked, and reports a purge that took the start.
    fn gone(
        &self,
        range: &Range<u64>,
        first_kept: u64,
        mut out: Vec<EntryRecord>,
        unsure_from: u64,
    ) -> Result<Vec<EntryRecord>, ReadError> {
        if range.start < first_kept {
            return Err(ReadError::Purged { first_kept });
        }
        out.truncate((unsure_from - range.start) as usize);
        Ok(out)
    }

    /// The next entries that one read covers.
    #[allow(clippy::type_complexity, reason = "a pair used in one place")]
    fn span(
        &self,
        range: Range<u64>,
        bytes_max: u64,
        at_least_one: bool,
    ) -> Result<Option<(Arc<Segment<D::File>>, Vec<Wanted>)>, ReadError> {
        let index = lock(&self.index);
        if range.start < index.first() {
            return Err(ReadError::Purged { first_kept: index.first() });
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut payload_bytes = 0;
        for at in range.start..range.end.min(index.next()) {
            let location = index.get(at).expect("within the log");
            let next = Wanted { index: at, location };
            payload_bytes += u64::from(location.payload_bytes);
            if payload_bytes > bytes_max && !(at_least_one && wanted.is_empty()) {
                break;
            }
            if let Some(first) = wanted.first()
                && (first.location.segment != location.segment || next.end() - first.start() > SPAN_BYTES)
            {
                break;
            }
            wanted.push(next);
        }
        Ok(wanted.first().map(|first| index.segment(first.location).clone()).map(|segment| (segment, wanted)))
    }
}

/// Reads and checks the entries of one span.
fn read_span<F: DiskFile>(
    segment: &Segment<F>,
    wanted: &[Wanted],
    buffer: &mut Vec<u8>,
    out: &mut Vec<EntryRecord>,
) -> Result<(), ReadError> {
    let (first, last) = (&wanted[0], &wanted[wanted.len() - 1]);
    let start = first.start();
    buffer.resize((last.end() - start) as usize, 0);
    let read = segment.file.read_at(buffer, start);
    let read = read.map_err(|error| ReadError::Io { file: segment.path.clone(), source: Arc::new(error) })?;
    let mut checked_to = start;
    let mut record = Vec::new();
    for wanted in wanted {
        let damaged =
            |offset: u64| ReadError::Damaged { file: segment.path.clone(), offset, index: wanted.index };
        if start + (read as u64) < wanted.end() {
            return Err(damaged(start + read as u64));
        }
        checked_to = checked_to.max(wanted.start());
        while checked_to < wanted.end() {
            let from = (checked_to - start) as usize;
            if !sector::is_valid(&buffer[from..from + SECTOR_BYTES], segment.file_salt, checked_to) {
                return Err(damaged(checked_to));
            }
            checked_to += SECTOR;
        }
        gather(
            buffer,
            (u64::from(wanted.location.offset) - start) as usize,
            wanted.record_bytes(),
            &mut record,
        );
        match decode(&record) {
            Some((Record::Entry { index, term, leader, payload }, length))
                if index == wanted.index && length as u64 == wanted.record_bytes() =>
            {
                out.push(EntryRecord { index, term, leader, payload: Bytes::copy_from_slice(payload) });
            }
            _ => return Err(damaged(u64::from(wanted.location.offset))),
        }
    }
    Ok(())
}

/// Copies `count` payload bytes that start at `at`, leaving out the stamps.
fn gather(sectors: &[u8], mut at: usize, count: u64, out: &mut Vec<u8>) {
    out.clear();
    let mut left = count as usize;
    while left > 0 {
        let step = left.min(SECTOR_BYTES - at % SECTOR_BYTES);
        out.extend_from_slice(&sectors[at..at + step]);
        left -= step;
        at += step + STAMP_BYTES;
    }
}
