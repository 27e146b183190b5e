//! A model of the log, seeded workloads, and comparison of a recovered log with the model.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keelson_wal::{Bytes, Disk, EntryRecord, Identity, Op, OpenError, Options, Recovered, SimDisk, Wal};

pub const DIR: &str = "/log";
pub const IDENTITY: Identity = Identity { cluster: 0xc1, member: 0x3e };

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

/// A small seeded generator (splitmix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub fn options(seed: u64) -> Options {
    let mut random = Random(seed ^ 0x5a17);
    Options::tiny(IDENTITY, Box::new(move || random.next()))
}

pub fn open(disk: &SimDisk) -> Result<(Wal<SimDisk>, Recovered), OpenError> {
    Wal::open(disk.clone(), dir(), options(disk.ops()))
}

pub fn blob(text: impl Into<Vec<u8>>) -> Bytes {
    Bytes::from(text.into())
}

pub fn entry(index: u64, term: u64, payload: impl Into<Vec<u8>>) -> EntryRecord {
    EntryRecord { index, term, leader: term % 3, payload: blob(payload) }
}

/// Entries `from..to` with payloads of `bytes` bytes that tell index and term.
pub fn entries(from: u64, to: u64, term: u64, bytes: usize) -> Vec<EntryRecord> {
    (from..to).map(|index| entry(index, term, payload(index, term, bytes))).collect()
}

pub fn payload(index: u64, term: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(index << 8 ^ term);
    (0..bytes).map(|_| random.next() as u8).collect()
}

/// What a log should hold, kept in the most obvious way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub entries: BTreeMap<u64, EntryRecord>,
}

impl Model {
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entries) => {
                for entry in entries {
                    self.entries.insert(entry.index, entry.clone());
                }
            }
            Op::Vote(vote) => self.vote = Some(vote.clone()),
            Op::Truncate { after } => {
                self.entries.retain(|index, _| after.is_some_and(|after| *index <= after));
            }
            Op::Purge { through, position } => {
                if self.purged.as_ref().is_none_or(|(purged, _)| purged < through) {
                    self.purged = Some((*through, position.clone()));
                    self.entries.retain(|index, _| index > through);
                }
            }
            Op::Committed(committed) => self.committed = Some(committed.clone()),
        }
    }

    pub fn after(&self, ops: &[Op]) -> Model {
        let mut model = self.clone();
        ops.iter().for_each(|op| model.apply(op));
        model
    }

    pub fn next(&self) -> u64 {
        let empty = self.purged.as_ref().map_or(1, |(through, _)| through + 1);
        self.entries.keys().next_back().map_or(empty, |last| last + 1)
    }

    pub fn first(&self) -> u64 {
        self.entries.keys().next().copied().unwrap_or_else(|| self.next())
    }
}

/// What an opened log holds, read through its public interface.
pub fn observe<D: Disk>(wal: &Wal<D>, recovered: &Recovered) -> Model {
    let range = wal.reader().range();
    let entries = wal.read(range, u64::MAX).expect("a recovered log can be read");
    assert_eq!(recovered.first_index, entries.first().map(|entry| entry.index));
    assert_eq!(recovered.last_index, entries.last().map(|entry| entry.index));
    let tail_start = entries.len() - recovered.tail.len();
    assert_eq!(recovered.tail, entries[tail_start..], "the tail is the end of the log");
    Model {
        vote: recovered.vote.clone(),
        committed: recovered.committed.clone(),
        purged: recovered.purged.clone(),
        entries: entries.into_iter().map(|entry| (entry.index, entry)).collect(),
    }
}

/// Some operations that are legal after `model`, all kinds mixed, entries from empty to several segments.
pub fn random_group(random: &mut Random, model: &Model) -> Vec<Op> {
    let mut after = model.clone();
    let mut ops = Vec::new();
    for _ in 0..=random.below(4) {
        let op = match random.below(20) {
            0..=8 => {
                let next = after.next();
                let count = random.below(6);
                let bytes = match random.below(12) {
                    0 => 6000,
                    1 => 20_000,
                    2..=4 => 0,
                    _ => random.below(900) as usize,
                };
                Op::Append(entries(next, next + count, random.below(100), bytes))
            }
            9..=11 => Op::Vote(blob(format!("vote {}", random.next()))),
            12 | 13 => {
                let floor = after.purged.as_ref().map_or(0, |(through, _)| *through);
                match random.below(6) {
                    0 => Op::Truncate { after: None },
                    1 => Op::Truncate { after: Some(after.next() + 3) },
                    _ => {
                        let back = random.below(6).min(after.next().saturating_sub(floor + 1));
                        Op::Truncate { after: Some((after.next() - 1).saturating_sub(back).max(floor)) }
                    }
                }
            }
            14..=16 => {
                let through = match random.below(8) {
                    0 => after.next() + random.below(20),
                    1 => after.first().saturating_sub(1),
                    _ => after.first() + random.below((after.next() - after.first()).max(1)),
                };
                Op::Purge { through, position: blob(format!("at {through}")) }
            }
            _ => Op::Committed(blob(format!("committed {}", random.next()))),
        };
        after.apply(&op);
        ops.push(op);
    }
    ops
}

/// Paths of the files with this extension, sorted.
pub fn files_with(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

pub fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    files_with(disk, "wal")
}

/// Every sector of a segment file that belongs to some block: the sector's offset and its block's number,
/// found without the crate's own code (see `DESIGN.md` for the layout).
pub fn stamped_sectors(content: &[u8]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    for (ordinal, sector) in content.chunks(512).enumerate().skip(8) {
        if sector.iter().any(|byte| *byte != 0) {
            out.push((ordinal as u64 * 512, u64::from_le_bytes(sector[4..12].try_into().unwrap())));
        }
    }
    out
}
