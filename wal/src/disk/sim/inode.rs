//! One simulated file: what is visible, what is durable, and what a crash may choose from.
//!
//! Owns: the versions of every sector since it was last made durable. Called by: `state`.

use std::collections::{BTreeMap, BTreeSet};

use super::Crash;
use super::state::Random;

pub(super) const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) visible: Vec<u8>,
    /// What the medium is certain to hold.
    durable: Vec<u8>,
    /// Contents a sector has had since it was last made durable, oldest first. Any may be on the medium.
    dirty: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// Sectors of `dirty` that a failed sync has marked clean: no later sync writes them, unless they are
    /// written again.
    forgotten: BTreeSet<u64>,
}

impl Inode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if self.visible.len() < end {
            self.visible.resize(end, 0);
        }
        self.visible[start..end].copy_from_slice(bytes);
        if bytes.is_empty() {
            return;
        }
        for sector in (start / SECTOR)..=((end - 1) / SECTOR) {
            let content = self.sector(sector as u64);
            self.dirty.entry(sector as u64).or_default().push(content);
            self.forgotten.remove(&(sector as u64));
        }
    }

    fn sector(&self, sector: u64) -> Box<[u8]> {
        let start = sector as usize * SECTOR;
        let end = (start + SECTOR).min(self.visible.len());
        self.visible[start..end].into()
    }

    pub(super) fn sync(&mut self) {
        let forgotten = std::mem::take(&mut self.forgotten);
        let dirty = std::mem::take(&mut self.dirty);
        self.durable.resize(self.visible.len(), 0);
        for (sector, versions) in dirty {
            if forgotten.contains(&sector) {
                self.dirty.insert(sector, versions);
                self.forgotten.insert(sector);
            } else {
                put(&mut self.durable, sector, versions.last().expect("a dirty sector has a version"));
            }
        }
    }

    pub(super) fn sync_failed(&mut self) {
        self.forgotten = self.dirty.keys().copied().collect();
    }

    /// The file a power cut leaves.
    pub(super) fn after_crash(&self, how: Crash, random: &mut Random) -> Inode {
        let mut content = self.durable.clone();
        // Some crashes lose almost all, some almost nothing: both ends find more than the middle alone.
        let keep_of_256 = match how {
            Crash::LoseAll => 0,
            Crash::KeepAll => 256,
            Crash::Seeded => random.below(5) * 64,
        };
        for (sector, versions) in &self.dirty {
            if random.below(256) < keep_of_256 {
                let version = match how {
                    Crash::KeepAll => versions.len() - 1,
                    _ => random.below(versions.len() as u64) as usize,
                };
                put(&mut content, *sector, &versions[version]);
            }
        }
        if self.visible.len() > content.len() && (how == Crash::KeepAll || random.below(256) < keep_of_256) {
            content.resize(self.visible.len(), 0);
        }
        Inode { visible: content.clone(), durable: content, ..Inode::default() }
    }

    /// Changes medium and cache behind the log's back.
    pub(super) fn edit(&mut self, edit: impl Fn(&mut Vec<u8>)) {
        edit(&mut self.visible);
        if self.durable.len() < self.visible.len() {
            self.durable.resize(self.visible.len(), 0);
        }
        edit(&mut self.durable);
        for (sector, versions) in &mut self.dirty {
            let mut whole = self.durable.clone();
            for version in versions {
                put(&mut whole, *sector, version);
                edit(&mut whole);
                let start = (*sector as usize * SECTOR).min(whole.len());
                let end = (start + SECTOR).min(whole.len());
                *version = whole[start..end].into();
            }
        }
    }
}

fn put(content: &mut Vec<u8>, sector: u64, version: &[u8]) {
    let start = sector as usize * SECTOR;
    if content.len() < start + version.len() {
        content.resize(start + version.len(), 0);
    }
    content[start..start + version.len()].copy_from_slice(version);
}
