//! The rows of a range, one after the other and without copies.
//!
//! Owns: nothing; a way to look. Called by: the API's long lists, which are encoded row by row. Invariants: rows come in
//! order of their keys, as of the view's own revision, so two walks over one view see the same. Source: the plain case
//! of [`ReadView::range`].

use std::ops::ControlFlow;

use super::ReadView;
use crate::engine::KvEngine;
use crate::history::Bounds;
use crate::kv_proto::KeyValueRef;
use crate::layout::RowRef;
use crate::types::{KeyRange, ReadError};

impl<E: KvEngine> ReadView<E> {
    /// Shows the keys of a range in order, until `visit` breaks. `keys_only`: without value and lease.
    ///
    /// # Errors
    /// The engine.
    pub fn visit(
        &self,
        range: &KeyRange,
        keys_only: bool,
        visit: &mut dyn FnMut(KeyValueRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let upper = range.upper();
        let bounds = Bounds::of(range, &upper);
        self.source().scan(bounds, self.revision(), u64::MAX, &mut |key: &[u8], row: RowRef<'_>| {
            let (value, lease) = if keys_only { (&[][..], 0) } else { (row.value, row.lease) };
            let row = KeyValueRef {
                key,
                value,
                create_revision: row.create,
                mod_revision: row.modified,
                version: row.version,
                lease,
            };
            visit(row).is_continue()
        })?;
        Ok(())
    }
}
