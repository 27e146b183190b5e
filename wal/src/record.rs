//! What callers hand to the log, and the bytes of one record.
//!
//! Owns: `Op`, `EntryRecord`, the record kinds and their encoding. Invariants: kinds are never reused for
//! something else; decoding is total, so that bytes that verify but make no sense are reported, not trusted.
//! Called by: `block` (writing), `recovery` and `reader` (reading).
//!
//! All integers little endian:
//! ```text
//! 1 ENTRY      len u32, index u64, term u64, leader u64, payload[len]
//! 2 VOTE       len u32, vote[len]
//! 3 TRUNCATE   next u64                   entries at and above `next` are gone
//! 4 PURGE      len u32, through u64, position[len]
//! 5 COMMITTED  len u32, committed[len]
//! 6 STATE      len u32, state[len]        see `meta`
//! ```

use bytes::Bytes;

/// One entry of the log. What the payload means is the caller's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    /// Position in the log.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
    /// Leader that proposed it.
    pub leader: u64,
    /// Opaque content.
    pub payload: Bytes,
}

/// One operation on the log. Operations take effect in the order they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds entries, which must continue the log without a gap. Durable when the write returns.
    Append(Vec<EntryRecord>),
    /// Replaces the vote. Durable when the write returns.
    Vote(Bytes),
    /// Drops the entries above `after` (all entries, if `None`). Becomes durable with the next append, vote or
    /// seal: losing it in a crash only brings back entries that were there before.
    Truncate {
        /// Last index to keep.
        after: Option<u64>,
    },
    /// Drops the entries up to and including `through`; past the last entry, it empties the log and lets it
    /// continue at `through + 1`. Becomes durable as `Truncate` does; files go only after that.
    Purge {
        /// Last index to drop.
        through: u64,
        /// Opaque log position of `through`.
        position: Bytes,
    },
    /// Remembers how far the log is committed. Becomes durable as `Truncate` does.
    Committed(Bytes),
}

impl Op {
    /// Whether its completion means durability.
    pub fn needs_sync(&self) -> bool {
        match self {
            Op::Append(entries) => !entries.is_empty(),
            Op::Vote(_) => true,
            Op::Truncate { .. } | Op::Purge { .. } | Op::Committed(_) => false,
        }
    }

    /// Bytes of its records.
    pub fn encoded_bytes(&self) -> u64 {
        match self {
            Op::Append(entries) => entries.iter().map(entry_bytes).sum(),
            Op::Vote(bytes) | Op::Committed(bytes) => BLOB_HEAD as u64 + bytes.len() as u64,
            Op::Truncate { .. } => TRUNCATE_BYTES as u64,
            Op::Purge { position, .. } => PURGE_HEAD as u64 + position.len() as u64,
        }
    }
}

pub(crate) const KIND_ENTRY: u8 = 1;
pub(crate) const KIND_VOTE: u8 = 2;
pub(crate) const KIND_TRUNCATE: u8 = 3;
pub(crate) const KIND_PURGE: u8 = 4;
pub(crate) const KIND_COMMITTED: u8 = 5;
pub(crate) const KIND_STATE: u8 = 6;

pub(crate) const ENTRY_HEAD: usize = 29;
pub(crate) const BLOB_HEAD: usize = 5;
pub(crate) const TRUNCATE_BYTES: usize = 9;
pub(crate) const PURGE_HEAD: usize = 13;

pub(crate) fn entry_bytes(entry: &EntryRecord) -> u64 {
    ENTRY_HEAD as u64 + entry.payload.len() as u64
}

pub(crate) fn length_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("group size was checked against the block maximum")
}

pub(crate) fn entry_head(entry: &EntryRecord) -> [u8; ENTRY_HEAD] {
    let mut head = [0; ENTRY_HEAD];
    head[0] = KIND_ENTRY;
    head[1..5].copy_from_slice(&length_u32(&entry.payload).to_le_bytes());
    head[5..13].copy_from_slice(&entry.index.to_le_bytes());
    head[13..21].copy_from_slice(&entry.term.to_le_bytes());
    head[21..29].copy_from_slice(&entry.leader.to_le_bytes());
    head
}

pub(crate) fn blob_head(kind: u8, blob: &[u8]) -> [u8; BLOB_HEAD] {
    let mut head = [kind; BLOB_HEAD];
    head[1..].copy_from_slice(&length_u32(blob).to_le_bytes());
    head
}

pub(crate) fn truncate_record(next: u64) -> [u8; TRUNCATE_BYTES] {
    let mut head = [KIND_TRUNCATE; TRUNCATE_BYTES];
    head[1..].copy_from_slice(&next.to_le_bytes());
    head
}

pub(crate) fn purge_head(through: u64, position: &[u8]) -> [u8; PURGE_HEAD] {
    let mut head = [KIND_PURGE; PURGE_HEAD];
    head[1..5].copy_from_slice(&length_u32(position).to_le_bytes());
    head[5..].copy_from_slice(&through.to_le_bytes());
    head
}

/// A record as found in a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Entry { index: u64, term: u64, leader: u64, payload: &'a [u8] },
    Vote(&'a [u8]),
    Truncate { next: u64 },
    Purge { through: u64, position: &'a [u8] },
    Committed(&'a [u8]),
    State(&'a [u8]),
}

/// Cuts fields off the front of a slice; `None` when it is too short.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Decodes the record at the front of `body`; returns it with its length, `None` if it makes no sense.
pub(crate) fn decode(body: &[u8]) -> Option<(Record<'_>, usize)> {
    let mut cursor = Cursor(body);
    let record = match cursor.u8()? {
        KIND_ENTRY => {
            let length = cursor.u32()? as usize;
            let (index, term, leader) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            Record::Entry { index, term, leader, payload: cursor.take(length)? }
        }
        KIND_TRUNCATE => Record::Truncate { next: cursor.u64()? },
        KIND_PURGE => {
            let length = cursor.u32()? as usize;
            let through = cursor.u64()?;
            Record::Purge { through, position: cursor.take(length)? }
        }
        kind @ (KIND_VOTE | KIND_COMMITTED | KIND_STATE) => {
            let length = cursor.u32()? as usize;
            let blob = cursor.take(length)?;
            match kind {
                KIND_VOTE => Record::Vote(blob),
                KIND_COMMITTED => Record::Committed(blob),
                _ => Record::State(blob),
            }
        }
        _ => return None,
    };
    Some((record, body.len() - cursor.0.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_decode_to_what_they_say() {
        let entry = EntryRecord { index: 1, term: 2, leader: 3, payload: Bytes::from_static(b"abc") };
        let bytes = [&entry_head(&entry)[..], b"abc", b"rest"].concat();
        let (record, length) = decode(&bytes).unwrap();
        assert_eq!(record, Record::Entry { index: 1, term: 2, leader: 3, payload: b"abc" });
        assert_eq!(length as u64, entry_bytes(&entry));
        let bytes = [&purge_head(9, b"pos")[..], b"pos"].concat();
        assert_eq!(decode(&bytes).unwrap().0, Record::Purge { through: 9, position: b"pos" });
        assert_eq!(decode(&truncate_record(4)).unwrap(), (Record::Truncate { next: 4 }, TRUNCATE_BYTES));
        let bytes = [&blob_head(KIND_VOTE, b"v")[..], b"v"].concat();
        assert_eq!(decode(&bytes).unwrap(), (Record::Vote(b"v"), 6));
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((_, length)) = decode(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
