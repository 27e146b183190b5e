//! The rows etcd's own file would hold: what a snapshot in its format is made of.
//!
//! Owns: the choice of rows and their bytes. Called by: `Maintenance.Snapshot`, which sorts them.
//! Invariants: depends only on the replicated history and the mark, never on which dead rows are physically left;
//! nothing but the row at hand is in memory.
//! Source: etcd 3.7 `server/storage/mvcc/revision.go` (keys), `kvstore_compaction.go` and `key_index.go` (what a
//! compaction leaves): every change above the mark, the versions alive at the mark, and deletions at the mark itself.

use std::ops::ControlFlow;

use crate::engine::KvEngine;
use crate::history::log_rows_since;
use crate::kv_proto::encode_parts;
use crate::types::{EventKind, ReadError, Revision};
use crate::view::ReadView;

/// What ends the key of a deletion.
const TOMBSTONE: u8 = b't';

/// Appends etcd's key of a change: `main | '_' | sub`, big endian.
pub fn file_key(main: Revision, sub: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&(main as u64).to_be_bytes());
    out.push(b'_');
    out.extend_from_slice(&u64::from(sub).to_be_bytes());
}

impl<E: KvEngine> ReadView<E> {
    /// Hands key and value of every row to `visit`, in no particular order, until it breaks.
    ///
    /// Takes as long as reading the whole store; meanwhile no history this view needs is dropped.
    /// # Errors
    /// The engine, or `Compacted` for an old view whose rows may be gone already.
    pub fn each_file_row(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let (mark, revision) = (self.state.mark, self.state.revision);
        let _pin = self.pin(revision)?;
        let (mut file_key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        let mut flow = ControlFlow::Continue(());
        self.each_version(revision, |key, row, superseded_by| {
            if row.modified <= mark && superseded_by <= mark {
                return ControlFlow::Continue(());
            }
            file_key_bytes.clear();
            value_bytes.clear();
            file_key(row.modified, row.sub, &mut file_key_bytes);
            encode_parts(
                key,
                row.value,
                [row.create, row.modified, row.version, row.lease],
                &mut value_bytes,
            );
            flow = visit(&file_key_bytes, &value_bytes);
            flow
        })?;
        log_rows_since(&self.snapshot, (mark - 1).max(0), revision, |main, sub, row| {
            if row.kind == EventKind::Delete && flow.is_continue() {
                file_key_bytes.clear();
                value_bytes.clear();
                file_key(main, sub, &mut file_key_bytes);
                file_key_bytes.push(TOMBSTONE);
                encode_parts(row.key, &[], [0; 4], &mut value_bytes);
                flow = visit(&file_key_bytes, &value_bytes);
            }
        })?;
        Ok(())
    }
}
