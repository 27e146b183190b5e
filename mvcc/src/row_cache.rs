//! Newest versions of recently written keys, bounded by bytes.
//!
//! Owns: copies of rows, so that a cached row never keeps a request or log buffer alive. Called by: apply (reads and
//! changes), readers (reads only).
//! Invariants: a cached row *is* the newest version of its key as of the last applied group, and a key deleted by it
//! is not cached: apply updates the cache after the engine and before it publishes the view. Only apply inserts: a
//! reader on an old view could put back what was just overwritten. A reader may use a cached row exactly if its
//! revision is not newer than what the reader reads at; then nothing has replaced it since.
//! Eviction is the clock algorithm per shard: a hit costs one store, never a move.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::layout::Row;
use crate::types::Revision;

/// Enough that readers on a few cores rarely meet in one shard.
const SHARDS: usize = 16;
/// Bytes a row costs beside its key and value: map slot, entry, two buffers with their headers.
const ROW_OVERHEAD: usize = 240;

/// Keys are hashed without a random seed, so that a run can be repeated; a collision costs time, never truth.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// See the module.
pub(crate) struct RowCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Bytes, usize, Hasher>,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
}

struct Entry {
    key: Bytes,
    row: Row,
    used: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        cost(self.key.len(), self.row.value.len())
    }
}

fn cost(key_len: usize, value_len: usize) -> usize {
    key_len + value_len + ROW_OVERHEAD
}

impl RowCache {
    /// A cache of at most `bytes_max` bytes; 0 caches nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        RowCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_bytes_max: bytes_max / SHARDS,
        }
    }

    /// The key as stored, with its row, if that is cached and not newer than `revision`.
    pub(crate) fn get(&self, key: &[u8], revision: Revision) -> Option<(Bytes, Row)> {
        if self.shard_bytes_max == 0 {
            return None;
        }
        let mut shard = self.shard(key).lock();
        let slot = *shard.slots.get(key)?;
        let entry = shard.entries[slot].as_mut().expect("mapped slots are filled");
        if entry.row.modified > revision {
            return None;
        }
        entry.used = true;
        Some((entry.key.clone(), entry.row.clone()))
    }

    /// Apply only: `row` is now the newest version of `key`.
    pub(crate) fn insert(&self, key: &[u8], row: &Row) {
        let bytes = cost(key.len(), row.value.len());
        // One row may take an eighth of its shard; a larger one would empty it for a single hit.
        if bytes > self.shard_bytes_max / 8 {
            return self.remove(key);
        }
        // Key and value in buffers of their own: an overwrite replaces the value and keeps the key.
        let row = Row { value: Bytes::copy_from_slice(&row.value), ..row.clone() };
        let mut shard = self.shard(key).lock();
        let shard = &mut *shard;
        if let Some(&slot) = shard.slots.get(key) {
            let entry = shard.entries[slot].as_mut().expect("mapped slots are filled");
            shard.bytes = shard.bytes - entry.bytes() + bytes;
            entry.row = row;
            entry.used = true;
        } else {
            let key = Bytes::copy_from_slice(key);
            let entry = Some(Entry { key: key.clone(), row, used: false });
            let slot = match shard.free.pop() {
                Some(slot) => {
                    shard.entries[slot] = entry;
                    slot
                }
                None => {
                    shard.entries.push(entry);
                    shard.entries.len() - 1
                }
            };
            shard.slots.insert(key, slot);
            shard.bytes += bytes;
        }
        while shard.bytes > self.shard_bytes_max {
            shard.evict_one();
        }
    }

    /// Apply only: `key` is deleted.
    pub(crate) fn remove(&self, key: &[u8]) {
        let mut shard = self.shard(key).lock();
        if let Some(slot) = shard.slots.remove(key) {
            shard.clear_slot(slot);
        }
    }

    /// Bytes held, by the cache's own count.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        // Only balance depends on this one; the map's own hash is the one that must not be easy to collide.
        &self.shards[crc32c::crc32c(key) as usize % SHARDS]
    }
}

impl Shard {
    fn evict_one(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.entries.len();
            match &mut self.entries[self.hand] {
                Some(entry) if entry.used => entry.used = false,
                Some(entry) => {
                    let key = entry.key.clone();
                    self.slots.remove(&key);
                    return self.clear_slot(self.hand);
                }
                None => {}
            }
        }
    }

    fn clear_slot(&mut self, slot: usize) {
        let entry = self.entries[slot].take().expect("only filled slots are cleared");
        self.bytes -= entry.bytes();
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(modified: Revision, value: &str) -> Row {
        Row {
            create: 2,
            modified,
            sub: 0,
            version: 1,
            lease: 0,
            value: Bytes::copy_from_slice(value.as_bytes()),
        }
    }

    #[test]
    fn a_row_newer_than_the_reader_is_not_given() {
        let cache = RowCache::new(1 << 20);
        cache.insert(b"a", &row(5, "new"));
        assert_eq!(cache.get(b"a", 4), None);
        assert_eq!(cache.get(b"a", 5).map(|(_, row)| row), Some(row(5, "new")));
        cache.remove(b"a");
        assert_eq!(cache.get(b"a", 9), None);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn the_bound_holds_and_used_rows_outlive_unused_ones() {
        let bytes_max = 1 << 20;
        let cache = RowCache::new(bytes_max);
        cache.insert(b"hot", &row(2, "x"));
        for number in 0..20_000u32 {
            cache.insert(&number.to_be_bytes(), &row(3, "some value of the usual kind"));
            assert!(cache.get(b"hot", 3).is_some(), "evicted after {number}");
            if number % 1000 == 0 {
                assert!(cache.bytes() <= bytes_max);
            }
        }
        assert!(cache.bytes() > bytes_max / 2, "the room is used");
    }

    #[test]
    fn a_huge_row_is_not_cached_and_drops_its_predecessor() {
        let cache = RowCache::new(1 << 20);
        cache.insert(b"a", &row(2, "small"));
        cache.insert(b"a", &row(3, &"x".repeat(100_000)));
        assert_eq!(cache.get(b"a", 9), None);
    }
}
