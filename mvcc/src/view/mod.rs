//! What readers see: the store as of one applied group.
//!
//! Owns: [`ReadView`], immutable, and [`Reader`], the handle that gives the newest one without a lock.
//! Called by: the API, the watch hub's catch-up, the corruption check. Invariants: a view answers from its own
//! revision whatever is applied meanwhile; a read of the *past* checks the current mark after it has read, because
//! dead rows vanish under open snapshots; a view of replaced data keeps answering from the old data.

mod common;
mod facts;
mod rows;
mod stream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::auth::Auth;
use crate::count_index::CountIndex;
use crate::engine::KvEngine;
use crate::history::{Bounds, Source};
use crate::range::evaluate;
use crate::state::State;
use crate::txn::evaluate_readonly;
use crate::types::{
    KeyRange, KeyValue, LogPosition, RangeOptions, RangeReply, ReadError, Revision, Txn, TxnReply,
};

pub(crate) use common::{Common, Pin};
pub use stream::RangeStream;

pub(crate) use facts::{attached_keys, each, read_lease};

/// The store as of one applied group. Cheap to hold; the space of rows overwritten since is kept meanwhile.
pub struct ReadView<E: KvEngine> {
    pub(crate) common: Arc<Common<E>>,
    pub(crate) snapshot: E::Snapshot,
    pub(crate) counts: CountIndex,
    pub(crate) state: State,
}

/// Gives the newest view. Clones share it.
pub struct Reader<E: KvEngine> {
    pub(crate) newest: Arc<ArcSwap<ReadView<E>>>,
}

impl<E: KvEngine> Clone for Reader<E> {
    fn clone(&self) -> Self {
        Reader { newest: self.newest.clone() }
    }
}

impl<E: KvEngine> Reader<E> {
    /// The newest view. Lock free.
    pub fn view(&self) -> Arc<ReadView<E>> {
        self.newest.load_full()
    }
}

impl<E: KvEngine> ReadView<E> {
    /// Revision of the last change.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The compaction mark: the oldest revision that can be read, -1 if nothing was ever compacted.
    pub fn compacted(&self) -> Revision {
        self.state.mark
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> Option<LogPosition> {
        self.state.applied
    }

    /// The membership in force, with the position of its entry.
    pub fn membership(&self) -> Option<(LogPosition, Bytes)> {
        self.state.membership.clone()
    }

    /// Running digest of everything applied; members compare it at equal [`ReadView::applied`].
    pub fn digest(&self) -> u64 {
        self.state.digest.0
    }

    /// Digests at recent log positions, oldest first: every [`DIGEST_STRIDE`](crate::DIGEST_STRIDE)-th entry this process applied. Members
    /// under load are hardly ever seen at the same applied position; at these they can be compared.
    pub fn digests(&self) -> &[(LogPosition, u64)] {
        &self.state.digests
    }

    /// Users, roles and permissions.
    pub fn auth(&self) -> &Arc<Auth> {
        &self.state.auth
    }

    /// How many keys there are.
    pub fn key_count(&self) -> u64 {
        self.counts.total()
    }

    /// Evaluates a range, with all options of etcd.
    ///
    /// # Errors
    /// A revision that is compacted or in the future, or the engine.
    pub fn range(&self, options: &RangeOptions) -> Result<RangeReply, ReadError> {
        let source = self.source();
        let revision = source.resolve(options.revision)?;
        let reply = evaluate(&source, options, revision, Some(&self.common.pages))?;
        self.check_past(revision, options.revision)?;
        Ok(reply)
    }

    /// The newest version of a key.
    ///
    /// # Errors
    /// The engine.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ReadError> {
        if let Some((key, row)) = self.common.cache.get(key, self.state.revision) {
            return Ok(Some(row.to_key_value(key)));
        }
        let found = self.source().row_at(key, self.state.revision, |row| row.to_row())?;
        Ok(found.map(|row| row.to_key_value(Bytes::copy_from_slice(key))))
    }

    /// How many keys a range holds at a revision, 0 meaning this view's.
    ///
    /// # Errors
    /// A revision that is compacted or in the future, or the engine.
    pub fn count(&self, range: &KeyRange, revision: Revision) -> Result<u64, ReadError> {
        let source = self.source();
        let resolved = source.resolve(revision)?;
        if range.is_single() {
            let found = source.row_at(&range.key, resolved, |_| ())?;
            self.check_past(resolved, revision)?;
            return Ok(u64::from(found.is_some()));
        }
        let upper = range.upper();
        let count = source.count(Bounds::of(range, &upper), resolved)?;
        self.check_past(resolved, revision)?;
        Ok(count)
    }

    /// Evaluates a transaction that only reads.
    ///
    /// # Errors
    /// As [`ReadView::range`]; also a transaction with an operation that writes on the path taken.
    pub fn eval_txn_readonly(&self, txn: &Txn) -> Result<TxnReply, ReadError> {
        let (reply, oldest) = evaluate_readonly(&self.source(), txn, Some(&self.common.pages))?;
        self.check_past(oldest, oldest)?;
        Ok(reply)
    }

    /// Bytes the store takes, garbage included.
    pub fn size_bytes(&self) -> u64 {
        self.common.sizes().total_bytes
    }

    /// Bytes of the store that are not garbage, an estimate.
    pub fn size_in_use_bytes(&self) -> u64 {
        self.common.sizes().in_use_bytes
    }

    /// The highest compaction mark whose dead rows are all physically gone on this member, -1 if none.
    pub fn physically_compacted(&self) -> Revision {
        self.common.physical()
    }

    pub(crate) fn source(&self) -> Source<'_, E::Snapshot> {
        Source {
            snapshot: &self.snapshot,
            cache: &self.common.cache,
            counts: &self.counts,
            base: self.state.revision,
            overlay: None,
            revision: self.state.revision,
            mark: self.state.mark,
        }
    }

    /// After a read at `revision`: were its rows still all there? At the view's own revision they always are, since
    /// only superseded rows vanish.
    fn check_past(&self, revision: Revision, requested: Revision) -> Result<(), ReadError> {
        let mark = self.common.mark();
        if revision < self.state.revision && revision < mark {
            return Err(ReadError::Compacted { requested, mark });
        }
        Ok(())
    }
}
