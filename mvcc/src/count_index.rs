//! How many keys lie between two keys, without walking them.
//!
//! Owns: boundaries, one per about a hundred keys, each with the number of keys from it up to the next one. Keys
//! created and deleted move the numbers; overwrites do not touch it. Copies are cheap, so every read view owns the
//! index of exactly its revision. Called by: apply (changes), views (counts).
//! Invariants: the first boundary is the empty key; the sum of the counts is the number of keys in `latest`; after
//! [`CountIndex::split`] no count exceeds [`CHUNK_KEYS_MAX`].
//! Why not a full tree of keys: it costs a copy of every key in memory; this costs one boundary per hundred, and a
//! count reads at most the two chunks at its edges.

use bytes::Bytes;

use crate::cow_map::{CowMap, Weigh};
use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};
use crate::layout::{Fields, malformed, put_varint};

/// A chunk with more keys is split.
pub(crate) const CHUNK_KEYS_MAX: u32 = 128;
/// Keys per chunk after a split.
const CHUNK_KEYS_TARGET: u32 = 64;

const FORMAT: u8 = 1;

/// Number of keys from a boundary up to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk(u32);

impl Weigh for Chunk {
    fn weight(&self, _: &[u8]) -> u64 {
        u64::from(self.0)
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct CountIndex {
    chunks: CowMap<Chunk>,
}

/// A count that still needs its edges: `known` keys, plus those in each of `scan` (from, to; `None` = no end).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CountPlan {
    pub(crate) known: u64,
    pub(crate) scan: Vec<(Bytes, Option<Bytes>)>,
}

impl Default for CountIndex {
    fn default() -> Self {
        let mut chunks = CowMap::default();
        chunks.insert(Bytes::new(), Chunk(0));
        CountIndex { chunks }
    }
}

impl CountIndex {
    /// All keys.
    pub(crate) fn total(&self) -> u64 {
        self.chunks.weight()
    }

    /// A key was created.
    pub(crate) fn created(&mut self, key: &[u8], oversize: &mut Vec<Bytes>) {
        let at = self.chunk_of(key);
        self.chunks.update(at, |chunk| chunk.0 += 1);
        let (boundary, chunk) = self.chunks.entry(at).expect("chunk_of gives an entry");
        if chunk.0 == CHUNK_KEYS_MAX + 1 {
            oversize.push(boundary.clone());
        }
    }

    /// A key was deleted.
    pub(crate) fn deleted(&mut self, key: &[u8]) {
        let at = self.chunk_of(key);
        self.chunks.update(at, |chunk| {
            assert!(chunk.0 > 0, "a key was deleted that was never counted");
            chunk.0 -= 1;
        });
        let (boundary, chunk) = self.chunks.entry(at).expect("chunk_of gives an entry");
        if chunk.0 == 0 && !boundary.is_empty() {
            let boundary = boundary.clone();
            self.chunks.remove(&boundary);
        }
    }

    /// Splits chunks that grew too large; `snapshot` holds exactly the keys the index counts.
    pub(crate) fn split<S: EngineSnapshot>(
        &mut self,
        oversize: Vec<Bytes>,
        snapshot: &S,
    ) -> Result<(), EngineError> {
        for boundary in oversize {
            // The chunk may have shrunk, or gone, later in the same group.
            let Some(&Chunk(count)) = self.chunks.get(&boundary) else { continue };
            if count <= CHUNK_KEYS_MAX {
                continue;
            }
            let at = self.chunks.lower_bound(&boundary);
            let end = self.chunks.entry(self.chunks.after(at)).map(|(next, _)| next.clone());
            let chunks = chunks_of(snapshot, &boundary, end.as_deref())?;
            let found: u64 = chunks.iter().map(|(_, chunk)| u64::from(chunk.0)).sum();
            assert_eq!(found, u64::from(count), "the counted index and the rows disagree");
            for (start, chunk) in chunks {
                self.chunks.insert(start, chunk);
            }
        }
        Ok(())
    }

    /// How to count the keys in `[lower, upper)`; `None` = no upper bound.
    pub(crate) fn plan(&self, lower: &[u8], upper: Option<&[u8]>) -> CountPlan {
        let copy = Bytes::copy_from_slice;
        if upper.is_some_and(|upper| upper <= lower) {
            return CountPlan { known: 0, scan: Vec::new() };
        }
        let first = self.chunks.lower_bound(lower);
        // The last boundary at or before the upper bound; chunks between the two are counted whole.
        let last = match upper {
            None => self.chunks.end(),
            Some(upper) => {
                let at = self.chunks.lower_bound(upper);
                match self.chunks.entry(at) {
                    Some((boundary, _)) if boundary == upper => at,
                    _ => self.chunks.before(at).expect("the empty boundary comes first"),
                }
            }
        };
        if first > last || (first == last && self.chunks.entry(first).is_none_or(|(key, _)| key != lower)) {
            let whole_edge = (copy(lower), upper.map(copy));
            // Both edges in one chunk, or everything at or after `lower` in the last one.
            return CountPlan { known: 0, scan: vec![whole_edge] };
        }
        let mut scan = Vec::new();
        if let Some((boundary, _)) = self.chunks.entry(first)
            && boundary != lower
        {
            scan.push((copy(lower), Some(boundary.clone())));
        }
        if let (Some((boundary, _)), Some(upper)) = (self.chunks.entry(last), upper)
            && boundary != upper
        {
            scan.push((boundary.clone(), Some(copy(upper))));
        }
        CountPlan { known: self.chunks.weight_between(first, last), scan }
    }

    /// The last boundary at or before `key` and after `lower`, for splitting a count at a place already scanned.
    pub(crate) fn boundary_within(&self, lower: &[u8], key: &[u8]) -> Option<Bytes> {
        let at = self.chunks.lower_bound(key);
        let at = match self.chunks.entry(at) {
            Some((boundary, _)) if boundary == key => at,
            _ => self.chunks.before(at)?,
        };
        self.chunks.entry(at).map(|(boundary, _)| boundary.clone()).filter(|boundary| boundary > lower)
    }

    /// Counts by walking every key.
    pub(crate) fn rebuild<S: EngineSnapshot>(snapshot: &S) -> Result<Self, EngineError> {
        let mut index = CountIndex::default();
        for (start, chunk) in chunks_of(snapshot, &[], None)? {
            index.chunks.insert(start, chunk);
        }
        Ok(index)
    }

    /// The index as bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_varint(self.chunks.len() as u64, out);
        for (boundary, chunk) in self.chunks.iter_from(self.chunks.lower_bound(&[])) {
            put_varint(boundary.len() as u64, out);
            out.extend_from_slice(boundary);
            put_varint(u64::from(chunk.0), out);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EngineError> {
        let parse = || {
            let mut fields = Fields(bytes);
            fields.version(FORMAT)?;
            let mut index = CountIndex { chunks: CowMap::default() };
            for _ in 0..fields.varint()? {
                let boundary = Bytes::copy_from_slice(fields.bytes()?);
                let count = u32::try_from(fields.varint()?).ok()?;
                index.chunks.insert(boundary, Chunk(count));
            }
            let starts_empty = index.chunks.get(&[]).is_some();
            (starts_empty && fields.rest().is_empty()).then_some(index)
        };
        parse().ok_or_else(|| malformed("counted index", bytes))
    }

    fn chunk_of(&self, key: &[u8]) -> crate::cow_map::Position {
        let at = self.chunks.lower_bound(key);
        match self.chunks.entry(at) {
            Some((boundary, _)) if boundary == key => at,
            _ => self.chunks.before(at).expect("the empty boundary comes first"),
        }
    }
}

/// Cuts the keys of `latest` in `[from, to)` into chunks; the first starts at `from` itself.
fn chunks_of<S: EngineSnapshot>(
    snapshot: &S,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Vec<(Bytes, Chunk)>, EngineError> {
    let mut chunks = vec![(Bytes::copy_from_slice(from), Chunk(0))];
    let mut cursor = snapshot.cursor(Family::Latest, CursorOptions { upper: to, bulk: true });
    cursor.seek(from);
    while let Some((key, _)) = cursor.item() {
        let (_, chunk) = chunks.last_mut().expect("starts with one");
        if chunk.0 == CHUNK_KEYS_TARGET {
            chunks.push((Bytes::copy_from_slice(key), Chunk(1)));
        } else {
            chunk.0 += 1;
        }
        cursor.next();
    }
    cursor.check()?;
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::memory::MemoryEngine;
    use crate::engine::{EngineBatch, KvEngine};

    fn key(number: u16) -> Vec<u8> {
        format!("k{number:05}").into_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn counts_equal_a_walk(
            groups in prop::collection::vec(prop::collection::vec((0u16..2000, prop::bool::weighted(0.75)), 1..300), 1..12),
            probes in prop::collection::vec((0u16..2100, 0u16..2100), 30),
        ) {
            let engine = MemoryEngine::default();
            let (mut index, mut model) = (CountIndex::default(), BTreeSet::new());
            for group in groups {
                let (mut batch, mut oversize) = (engine.batch(), Vec::new());
                for (number, present) in group {
                    if present && model.insert(number) {
                        batch.put(Family::Latest, &key(number), b"");
                        index.created(&key(number), &mut oversize);
                    } else if !present && model.remove(&number) {
                        batch.delete(Family::Latest, &key(number));
                        index.deleted(&key(number));
                    }
                }
                engine.write(batch).unwrap();
                index.split(oversize, &engine.snapshot()).unwrap();
                prop_assert_eq!(index.total(), model.len() as u64);
            }
            let mut bytes = Vec::new();
            index.encode(&mut bytes);
            let loaded = CountIndex::decode(&bytes).unwrap();
            let rebuilt = CountIndex::rebuild(&engine.snapshot()).unwrap();
            for index in [&index, &loaded, &rebuilt] {
                for (from, to) in &probes {
                    for upper in [Some(key(*to)), None] {
                        let plan = index.plan(&key(*from), upper.as_deref());
                        let inside = |at: &u16, to: &Option<Vec<u8>>| to.as_ref().is_none_or(|to| key(*at) < *to);
                        let edges: usize = plan.scan.iter().map(|(lower, upper)| {
                            let upper = upper.as_ref().map(|upper| upper.to_vec());
                            model.iter().filter(|at| key(**at) >= lower.to_vec() && inside(at, &upper)).count()
                        }).sum();
                        let naive = model.iter().filter(|at| *at >= from && inside(at, &upper)).count();
                        prop_assert_eq!(plan.known + edges as u64, naive as u64);
                        prop_assert!(plan.scan.len() <= 2);
                    }
                }
            }
        }
    }
}
