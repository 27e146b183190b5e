//! What the log is about, apart from the entries' content: vote, commit mark, purge mark, extent.
//!
//! Owns: `Meta`, the rules by which operations change it, and its bytes (the STATE record that opens each
//! segment). Invariants: `first <= next`; with a purge mark `first == through + 1`.
//! Called by: the writer (twice: what was accepted, what is durable) and by recovery (replay), so both follow
//! the same rules.

use bytes::Bytes;

use crate::error::WalError;
use crate::record::{Cursor, length_u32};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// Last purged index and its opaque position.
    pub(crate) purged: Option<(u64, Bytes)>,
    /// First index kept, and the index after the last one. Equal when there is no entry.
    pub(crate) first: u64,
    pub(crate) next: u64,
}

impl Meta {
    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// The index up to which everything is here or purged: what "durable through" means.
    pub(crate) fn through(&self) -> Option<u64> {
        if self.is_empty() { self.purged.as_ref().map(|(through, _)| *through) } else { Some(self.next - 1) }
    }

    /// # Errors
    /// `OutOfOrder` unless the entry follows the last one. A log that never held anything starts anywhere.
    pub(crate) fn append(&mut self, index: u64) -> Result<(), WalError> {
        if self.is_empty() && self.purged.is_none() {
            self.first = index;
            self.next = index;
        }
        if index != self.next {
            return Err(WalError::OutOfOrder { expected: self.next, found: index });
        }
        self.next += 1;
        Ok(())
    }

    /// Returns the first index that is gone, `None` if nothing was to drop.
    pub(crate) fn truncate(&mut self, after: Option<u64>) -> Result<Option<u64>, WalError> {
        if let (Some(after), Some((purged, _))) = (after, &self.purged)
            && after < *purged
        {
            return Err(WalError::TruncateBelowPurge { after, purged: *purged });
        }
        let next = after.map_or(self.first, |after| after.saturating_add(1).max(self.first));
        if next >= self.next {
            return Ok(None);
        }
        self.next = next;
        Ok(Some(next))
    }

    /// Returns whether the mark moved; an older mark is ignored.
    pub(crate) fn purge(&mut self, through: u64, position: &Bytes) -> bool {
        if self.purged.as_ref().is_some_and(|(purged, _)| *purged >= through) {
            return false;
        }
        self.purged = Some((through, position.clone()));
        self.first = through.saturating_add(1);
        self.next = self.next.max(self.first);
        true
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        let flags = u8::from(self.vote.is_some())
            | u8::from(self.committed.is_some()) << 1
            | u8::from(self.purged.is_some()) << 2;
        out.push(flags);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        let blobs = [self.vote.as_ref(), self.committed.as_ref(), self.purged.as_ref().map(|(_, at)| at)];
        for blob in blobs.into_iter().flatten() {
            out.extend_from_slice(&length_u32(blob).to_le_bytes());
            out.extend_from_slice(blob);
        }
        if let Some((through, _)) = &self.purged {
            out.extend_from_slice(&through.to_le_bytes());
        }
        out
    }

    /// `None` if the bytes make no sense.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut cursor = Cursor(bytes);
        let flags = cursor.u8()?;
        let (first, next) = (cursor.u64()?, cursor.u64()?);
        let mut blob = |bit: u8| -> Option<Option<Bytes>> {
            if flags & bit == 0 {
                return Some(None);
            }
            let length = cursor.u32()? as usize;
            Some(Some(Bytes::copy_from_slice(cursor.take(length)?)))
        };
        let (vote, committed, position) = (blob(1)?, blob(2)?, blob(4)?);
        let purged = match position {
            Some(position) => Some((cursor.u64()?, position)),
            None => None,
        };
        let consistent = cursor.0.is_empty()
            && flags < 8
            && first <= next
            && purged.as_ref().is_none_or(|(through, _)| through.checked_add(1) == Some(first));
        consistent.then_some(Meta { vote, committed, purged, first, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Bytes {
        Bytes::from_static(b"p")
    }

    #[test]
    fn extent_follows_the_operations() {
        let mut meta = Meta::default();
        meta.append(5).unwrap();
        meta.append(6).unwrap();
        assert!(matches!(meta.append(8), Err(WalError::OutOfOrder { expected: 7, found: 8 })));
        assert_eq!((meta.first, meta.next, meta.through()), (5, 7, Some(6)));
        assert_eq!(meta.truncate(Some(6)).unwrap(), None);
        assert_eq!(meta.truncate(Some(5)).unwrap(), Some(6));
        assert!(meta.purge(5, &position()));
        assert!(!meta.purge(4, &position()), "an older mark changes nothing");
        assert_eq!(meta.through(), Some(5));
        assert!(matches!(meta.truncate(Some(4)), Err(WalError::TruncateBelowPurge { after: 4, purged: 5 })));
        assert!(meta.purge(100, &position()));
        assert!(matches!(meta.append(6), Err(WalError::OutOfOrder { expected: 101, found: 6 })));
        meta.append(101).unwrap();
        assert_eq!(meta.truncate(None).unwrap(), Some(101));
        assert_eq!(meta.through(), Some(100));
    }

    #[test]
    fn an_emptied_log_that_was_never_purged_starts_anywhere() {
        let mut meta = Meta::default();
        meta.append(1).unwrap();
        meta.truncate(None).unwrap();
        meta.append(0).unwrap();
        assert_eq!((meta.first, meta.next), (0, 1));
    }

    #[test]
    fn bytes_round_trip() {
        let blob = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        for vote in [None, blob("vote")] {
            for committed in [None, blob("")] {
                for purged in [None, Some((7, position()))] {
                    let meta =
                        Meta { vote: vote.clone(), committed: committed.clone(), purged, first: 8, next: 9 };
                    assert_eq!(Meta::decode(&meta.encode()), Some(meta.clone()));
                    let mut longer = meta.encode();
                    longer.push(0);
                    assert_eq!(Meta::decode(&longer), None);
                }
            }
        }
        assert_eq!(Meta::decode(&[]), None);
    }
}
