//! Puts, deletions and transactions.

use bytes::Bytes;

use super::change::{Change, Pending};
use super::{Fail, Group};
use crate::engine::{EngineError, Family, KvEngine};
use crate::history::Bounds;
use crate::layout::{Row, RowRef, parse_latest};
use crate::range::evaluate;
use crate::txn::{Path, branch, check_range, choose};
use crate::types::{ApplyError, DeleteRange, KeyValue, OpReply, Put, Txn, TxnOp, TxnReply};

impl<E: KvEngine> Group<'_, E> {
    /// The newest version of a key.
    pub(super) fn newest(&self, key: &[u8]) -> Result<Option<Row>, EngineError> {
        if let Some(entry) = self.overlay.get(key) {
            return Ok(entry.newest().cloned());
        }
        if let Some((_, row)) = self.base.common.cache.get(key, self.base.state.revision) {
            return Ok(Some(row));
        }
        // The engine itself rather than the snapshot: nothing is written between the two, and it is cheaper.
        let Some(bytes) = self.engine.get(Family::Latest, key)? else { return Ok(None) };
        let row = parse_latest(&bytes)?;
        let value_len = row.value.len();
        Ok(Some(row.with_value(bytes.slice(bytes.len() - value_len..))))
    }

    /// What must hold before a put writes anything.
    pub(super) fn check_put(&mut self, put: &Put) -> Result<(), Fail> {
        if put.lease != 0 && self.lease(put.lease)?.is_none() {
            return Err(ApplyError::LeaseNotFound(put.lease).into());
        }
        if (put.ignore_value || put.ignore_lease) && self.newest(&put.key)?.is_none() {
            return Err(ApplyError::KeyNotFound.into());
        }
        Ok(())
    }

    pub(super) fn put(&mut self, pending: &mut Pending, put: &Put) -> Result<Option<KeyValue>, Fail> {
        debug_assert!(!put.key.is_empty(), "keys are checked before they are proposed");
        let old = self.newest(&put.key)?;
        // Checked before, on the state before the transaction; an earlier operation may have deleted the key since.
        let kept = || old.as_ref().ok_or(Fail::Command(ApplyError::KeyNotFound));
        let value = if put.ignore_value { kept()?.value.clone() } else { put.value.clone() };
        let lease = if put.ignore_lease { kept()?.lease } else { put.lease };
        let new = Row {
            create: old.as_ref().map_or(pending.revision, |old| old.create),
            modified: pending.revision,
            sub: pending.next_sub(),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
            value,
        };
        let prev = if put.prev_kv { old.as_ref().map(|old| old.to_key_value(put.key.clone())) } else { None };
        self.overlay.push(put.key.clone(), pending.revision, Some(new.clone()), old.is_some());
        pending.changes.push(Change { key: put.key.clone(), old, new: Some(new) });
        Ok(prev)
    }

    /// Deletes every key of the range, in order. Memory: the deleted rows, once.
    pub(super) fn delete_range(
        &mut self,
        pending: &mut Pending,
        delete: &DeleteRange,
    ) -> Result<(i64, Vec<KeyValue>), Fail> {
        let mut found: Vec<(Bytes, Row)> = Vec::new();
        if delete.range.is_single() {
            found.extend(self.newest(&delete.range.key)?.map(|row| (delete.range.key.clone(), row)));
        } else {
            let upper = delete.range.upper();
            let source = self.source(Some(pending));
            let bounds = Bounds::of(&delete.range, &upper);
            source.scan(bounds, source.revision, u64::MAX, &mut |key: &[u8], row: RowRef<'_>| {
                found.push((Bytes::copy_from_slice(key), row.to_row()));
                true
            })?;
        }
        let prev = match delete.prev_kv {
            true => found.iter().map(|(key, row)| row.to_key_value(key.clone())).collect(),
            false => Vec::new(),
        };
        let deleted = found.len() as i64;
        for (key, row) in found {
            self.delete(pending, key, row);
        }
        Ok((deleted, prev))
    }

    /// Deletes a key that exists as `old`.
    pub(super) fn delete(&mut self, pending: &mut Pending, key: Bytes, old: Row) {
        pending.next_sub();
        self.overlay.push(key.clone(), pending.revision, None, true);
        pending.changes.push(Change { key, old: Some(old), new: None });
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnReply, Fail> {
        let mut path = choose(&self.source(None), txn)?;
        self.check_branch(txn, &mut path.clone())?;
        self.in_revision(|group, pending| group.execute(pending, txn, &mut path))
    }

    /// Everything that can refuse the transaction, on the path taken, before anything is written.
    fn check_branch(&mut self, txn: &Txn, path: &mut Path) -> Result<(), Fail> {
        for op in branch(txn, path.next()) {
            match op {
                TxnOp::Range(options) => check_range(&self.source(None), options)?,
                TxnOp::Put(put) => self.check_put(put)?,
                TxnOp::DeleteRange(_) => {}
                TxnOp::Txn(nested) => self.check_branch(nested, path)?,
            }
        }
        Ok(())
    }

    fn execute(&mut self, pending: &mut Pending, txn: &Txn, path: &mut Path) -> Result<TxnReply, Fail> {
        let succeeded = path.next();
        let mut ops = Vec::with_capacity(branch(txn, succeeded).len());
        for op in branch(txn, succeeded) {
            ops.push(match op {
                TxnOp::Range(options) => {
                    let source = self.source(Some(pending));
                    let revision = source.resolve(options.revision)?;
                    OpReply::Range(evaluate(&source, options, revision, None)?)
                }
                TxnOp::Put(put) => OpReply::Put { prev: self.put(pending, put)? },
                TxnOp::DeleteRange(delete) => {
                    let (deleted, prev) = self.delete_range(pending, delete)?;
                    OpReply::DeleteRange { deleted, prev }
                }
                TxnOp::Txn(nested) => OpReply::Txn(self.execute(pending, nested, path)?),
            });
        }
        Ok(TxnReply { succeeded, ops })
    }
}
