//! Rows changed by the group being applied, laid over the state before the group.
//!
//! Owns: for each changed key all versions since the start of the group. Called by: apply, for every read a command
//! makes. Invariants: versions of a key ascend; a command that fails takes its versions back, newest first.
//! Why all versions: a transaction may read at a revision that an earlier command of the same group wrote.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::layout::Row;
use crate::types::Revision;

/// A key's state after one change; `row` is `None` where the change deleted it.
#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    row: Option<Row>,
}

/// All versions of a key since the start of the group.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    newest: Version,
    older: Vec<Version>,
    existed_before: bool,
}

/// What the overlay knows of a key at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// The key's row, or that it did not exist.
    Row(Option<&'a Row>),
    /// Unchanged since the start of the group.
    Base,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    keys: BTreeMap<Bytes, Entry>,
}

impl Entry {
    pub(crate) fn at(&self, revision: Revision) -> Found<'_> {
        std::iter::once(&self.newest)
            .chain(self.older.iter().rev())
            .find(|version| version.revision <= revision)
            .map_or(Found::Base, |version| Found::Row(version.row.as_ref()))
    }

    pub(crate) fn newest(&self) -> Option<&Row> {
        self.newest.row.as_ref()
    }
}

impl Overlay {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.get(key)
    }

    pub(crate) fn push(&mut self, key: Bytes, revision: Revision, row: Option<Row>, existed_before: bool) {
        let version = Version { revision, row };
        match self.keys.entry(key) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(Entry { newest: version, older: Vec::new(), existed_before });
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let entry = slot.get_mut();
                assert!(entry.newest.revision <= revision, "versions of a key ascend");
                let older = std::mem::replace(&mut entry.newest, version);
                entry.older.push(older);
            }
        }
    }

    /// Takes the newest version of `key` back.
    pub(crate) fn pop(&mut self, key: &[u8]) {
        let entry = self.keys.get_mut(key).expect("only pushed versions are popped");
        match entry.older.pop() {
            Some(version) => entry.newest = version,
            None => drop(self.keys.remove(key)),
        }
    }

    /// The changed keys in `[lower, upper)`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> std::collections::btree_map::Range<'a, Bytes, Entry> {
        // The map panics on an inverted range; there it is simply empty.
        let upper = upper.map(|upper| upper.max(lower));
        let bounds = (Bound::Included(lower), upper.map_or(Bound::Unbounded, Bound::Excluded));
        self.keys.range::<[u8], _>(bounds)
    }

    /// By how many keys `[lower, upper)` grew since the start of the group, as of `revision`.
    pub(crate) fn growth(&self, lower: &[u8], upper: Option<&[u8]>, revision: Revision) -> i64 {
        self.range(lower, upper)
            .map(|(_, entry)| match entry.at(revision) {
                Found::Row(row) => i64::from(row.is_some()) - i64::from(entry.existed_before),
                Found::Base => 0,
            })
            .sum()
    }

    /// The newest version of every changed key.
    pub(crate) fn into_newest(self) -> impl Iterator<Item = (Bytes, Option<Row>)> {
        self.keys.into_iter().map(|(key, entry)| (key, entry.newest.row))
    }
}
