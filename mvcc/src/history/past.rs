//! Single looks into the past: one key at one revision, and what changed since.

use crate::engine::{CursorOptions, EngineCursor, EngineError, EngineSnapshot, Family};
use crate::layout::{
    LogRow, RowRef, hist_key, hist_key_prefix, log_key, parse_hist_key, parse_hist_value, parse_log_key,
    parse_log_value, prefix_end,
};
use crate::types::Revision;

/// Hands the superseded version of `key` that was current at `revision` to `read`, if there is one.
pub(crate) fn row_in_past<S: EngineSnapshot, T>(
    snapshot: &S,
    key: &[u8],
    revision: Revision,
    read: impl FnOnce(RowRef<'_>) -> T,
) -> Result<Option<T>, EngineError> {
    let mut prefix = Vec::new();
    hist_key_prefix(key, &mut prefix);
    let end = prefix_end(&prefix);
    let mut cursor = snapshot.cursor(Family::Hist, CursorOptions { upper: end.as_deref(), bulk: false });
    // Newest first, so the first version not after the revision decides.
    let mut start = Vec::new();
    hist_key(key, revision, u32::MAX, &mut start);
    cursor.seek(&start);
    let Some((found, value)) = cursor.item() else {
        cursor.check()?;
        return Ok(None);
    };
    let parsed = parse_hist_key(found)?;
    debug_assert!(parsed.prefix == prefix && parsed.modified <= revision);
    let (row, superseded_by) = parse_hist_value(&parsed, value)?;
    Ok((superseded_by > revision).then(|| read(row)))
}

/// Hands every change in revisions `(after, upto]` to `visit`, oldest first.
pub(crate) fn changed_since<S: EngineSnapshot>(
    snapshot: &S,
    after: Revision,
    upto: Revision,
    mut visit: impl FnMut(&LogRow<'_>),
) -> Result<(), EngineError> {
    log_rows_since(snapshot, after, upto, |_, _, row| visit(row))
}

/// [`changed_since`] with the place of each change: revision and sub.
pub(crate) fn log_rows_since<S: EngineSnapshot>(
    snapshot: &S,
    after: Revision,
    upto: Revision,
    mut visit: impl FnMut(Revision, u32, &LogRow<'_>),
) -> Result<(), EngineError> {
    let end = log_key(upto + 1, 0);
    let mut cursor = snapshot.cursor(Family::Log, CursorOptions { upper: Some(&end), bulk: false });
    cursor.seek(&log_key(after + 1, 0));
    while let Some((key, value)) = cursor.item() {
        let (revision, sub) = parse_log_key(key)?;
        visit(revision, sub, &parse_log_value(revision, value)?);
        cursor.next();
    }
    cursor.check()
}
