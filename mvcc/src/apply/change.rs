//! The changes of one command before it is known to succeed.

use bytes::Bytes;

use crate::layout::Row;
use crate::overlay::Overlay;
use crate::types::Revision;

/// One key changed.
pub(super) struct Change {
    pub(super) key: Bytes,
    /// The version before; `None` where the key did not exist.
    pub(super) old: Option<Row>,
    /// The version after; `None` where it was deleted.
    pub(super) new: Option<Row>,
}

/// Changes that will share one revision, already visible in the overlay.
pub(super) struct Pending {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Change>,
}

impl Pending {
    pub(super) fn new(revision: Revision) -> Self {
        Pending { revision, changes: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Position of the next change within the revision.
    pub(super) fn next_sub(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("a revision has fewer than 2^32 changes")
    }

    /// Takes every change back.
    pub(super) fn undo(self, overlay: &mut Overlay) {
        for change in self.changes.iter().rev() {
            overlay.pop(&change.key);
        }
    }
}
