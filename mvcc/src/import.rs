//! Builds a store from the rows of another one's history, in the order in which they happened.
//!
//! Owns: what a row of such a history means here: which version it supersedes, and what is dead already. Called by: the import
//! of etcd's databases. Invariants: what comes out is what applying the same changes would have left, so hashes and
//! reads at every revision above the mark agree; memory is one batch; the store does not open as one before
//! [`Import::finish`] has written its state row.
//! Source: etcd 3.7 `server/storage/mvcc/kvstore.go` (`restore`).
//!
//! Of a key that existed before the mark the history may begin in the middle: then the change at the mark itself has no
//! previous version, which nobody can see, because a previous value is shown only above the mark.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::auth::{Auth, Permission, User};
use crate::engine::{
    CursorOptions, EngineBatch, EngineCursor, EngineError, EngineSnapshot, Family, KvEngine,
};
use crate::error::StoreError;
use crate::layout::{
    AUTH_KEY, LogRow, Row, alarm_key, attachment_key, auth_value, hist_key, hist_value, latest_value,
    lease_key, lease_value, log_key, log_value, parse_latest, role_row, role_row_key, user_key, user_row,
    user_row_key,
};
use crate::state::State;
use crate::store::{Store, StoreOptions};
use crate::types::{Alarm, EventKind, Lease, LeaseId, LogPosition, Revision};

/// Rows are written in batches of about this size.
const BATCH_BYTES: usize = 4 << 20;

/// A change that does not follow from those before it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RowError {
    /// Changes come in order.
    #[error("revision {main}, change {sub} comes after revision {last_main}, change {last_sub}")]
    OutOfOrder {
        /// Its revision.
        main: Revision,
        /// Its place in the revision.
        sub: u32,
        /// The one before.
        last_main: Revision,
        /// Its place.
        last_sub: u32,
    },
    /// Its numbers cannot be.
    #[error("revision {main}, change {sub}: {fault}")]
    Impossible {
        /// Its revision.
        main: Revision,
        /// Its place in the revision.
        sub: u32,
        /// Which, and why.
        fault: String,
    },
    /// The engine.
    #[error("write the new store")]
    Engine(#[from] EngineError),
}

/// A change of a key, as a history tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedRow<'a> {
    /// Its revision.
    pub main: Revision,
    /// Its place in the revision.
    pub sub: u32,
    /// The key.
    pub key: &'a [u8],
    /// What was put; `None` for a deletion.
    pub put: Option<ImportedPut<'a>>,
}

/// The version a change made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedPut<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Revision that created the key.
    pub create: Revision,
    /// Counts the changes since.
    pub version: i64,
    /// Lease it is attached to, 0 = none.
    pub lease: LeaseId,
}

/// A store in the making.
pub struct Import<E: KvEngine> {
    engine: E,
    batch: E::Batch,
    mark: Revision,
    last: Option<(Revision, u32)>,
    /// Newest versions the batch holds, so not yet in the engine.
    unwritten: HashMap<Bytes, Option<Row>>,
    leases: HashSet<LeaseId>,
    auth: Auth,
    scratch: (Vec<u8>, Vec<u8>),
}

impl<E: KvEngine> Import<E> {
    /// Begins with an empty engine. `mark`: what was compacted last, -1 for nothing.
    pub fn new(engine: E, mark: Revision) -> Self {
        Import {
            batch: engine.batch(),
            engine,
            mark,
            last: None,
            unwritten: HashMap::new(),
            leases: HashSet::new(),
            auth: Auth::default(),
            scratch: Default::default(),
        }
    }

    /// Takes the next change.
    ///
    /// # Errors
    /// A change out of order, or with numbers that cannot be; the engine.
    pub fn row(&mut self, row: &ImportedRow<'_>) -> Result<(), RowError> {
        let (main, sub) = (row.main, row.sub);
        if let Some((last_main, last_sub)) = self.last
            && (main, sub) <= (last_main, last_sub)
        {
            return Err(RowError::OutOfOrder { main, sub, last_main, last_sub });
        }
        let impossible = |fault: &str| RowError::Impossible { main, sub, fault: fault.to_owned() };
        if main < 1 || main == Revision::MAX {
            return Err(impossible("there is no such revision"));
        }
        if row.key.is_empty() {
            return Err(impossible("the key is empty"));
        }
        if let Some(put) = row.put {
            if put.create < 1 || put.create > main {
                return Err(impossible("the key was created at a revision that is not before it"));
            }
            if put.version < 1 {
                return Err(impossible("the version is not a positive number"));
            }
        }
        // Only now, so that a change that is refused leaves nothing behind.
        self.last = Some((main, sub));
        let previous = self.newest(row.key)?;
        if let Some(previous) = &previous {
            self.supersede(row.key, previous, main);
        }
        let before = previous.as_ref().map(|previous| (previous.modified, previous.sub));
        let (kind, newest) = match row.put {
            None => {
                self.batch.delete(Family::Latest, row.key);
                (EventKind::Delete, None)
            }
            Some(put) => {
                let made = Row {
                    create: put.create,
                    modified: main,
                    sub,
                    version: put.version,
                    lease: put.lease,
                    value: Bytes::copy_from_slice(put.value),
                };
                self.scratch.0.clear();
                latest_value(&made, &mut self.scratch.0);
                self.batch.put(Family::Latest, row.key, &self.scratch.0);
                (EventKind::Put, Some(made))
            }
        };
        if main >= self.mark {
            self.scratch.0.clear();
            log_value(&LogRow { kind, previous: before, key: row.key }, main, &mut self.scratch.0);
            self.batch.put(Family::Log, &log_key(main, sub), &self.scratch.0);
        }
        self.unwritten.insert(Bytes::copy_from_slice(row.key), newest);
        if self.batch.len_bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Adds a lease. Keys find theirs when everything is there.
    pub fn lease(&mut self, lease: &Lease) {
        self.leases.insert(lease.id);
        self.scratch.0.clear();
        lease_value(lease, &mut self.scratch.0);
        self.batch.put(Family::Lease, &lease_key(lease.id), &self.scratch.0);
    }

    /// Adds a raised alarm.
    pub fn alarm(&mut self, alarm: &Alarm) {
        self.batch.put(Family::Meta, &alarm_key(alarm), &[]);
    }

    /// Adds a fact of the layer above.
    pub fn fact(&mut self, key: &[u8], value: &[u8]) {
        self.batch.put(Family::Meta, &user_key(key), value);
    }

    /// Says whether authentication is on, and its revision. `was_on`: it was switched off once.
    pub fn auth(&mut self, enabled: bool, revision: u64, was_on: bool) {
        let closed = if was_on && !enabled { revision } else { 0 };
        self.auth = Auth::restore(enabled, revision.max(1), closed);
    }

    /// Adds a user; `password` is the hash.
    pub fn user(&mut self, name: &str, password: Bytes, no_password: bool, mut roles: Vec<String>) {
        roles.sort();
        roles.dedup();
        self.scratch.0.clear();
        user_row(&User::new(password, no_password, roles, 0), &mut self.scratch.0);
        self.batch.put(Family::Meta, &user_row_key(name), &self.scratch.0);
    }

    /// Adds a role.
    pub fn role(&mut self, name: &str, mut permissions: Vec<Permission>) {
        permissions.sort_by(|a, b| a.range.key.cmp(&b.range.key));
        self.scratch.0.clear();
        role_row(&permissions, &mut self.scratch.0);
        self.batch.put(Family::Meta, &role_row_key(name), &self.scratch.0);
    }

    /// Writes what binds everything together and opens the store. It stands at `applied`, and at `revision` at least.
    ///
    /// # Errors
    /// The engine.
    pub fn finish(
        mut self,
        applied: LogPosition,
        revision: Revision,
        options: StoreOptions,
    ) -> Result<Store<E>, StoreError> {
        self.write()?;
        self.attach()?;
        let last = self.last.map_or(1, |(main, _)| main);
        let state = State {
            applied: Some(applied),
            revision: revision.max(last).max(self.mark).max(1),
            mark: self.mark,
            ..State::default()
        };
        self.scratch.0.clear();
        auth_value(&self.auth, &mut self.scratch.0);
        self.batch.put(Family::Meta, AUTH_KEY, &self.scratch.0);
        state.write(&mut self.batch, &mut self.scratch.0);
        self.write()?;
        let mut store = Store::open(self.engine, options)?;
        store.flush()?;
        Ok(store)
    }

    /// The newest version of a key so far.
    fn newest(&self, key: &[u8]) -> Result<Option<Row>, EngineError> {
        if let Some(row) = self.unwritten.get(key) {
            return Ok(row.clone());
        }
        let stored = self.engine.get(Family::Latest, key)?;
        stored.map(|stored| Ok(parse_latest(&stored)?.to_row())).transpose()
    }

    /// Keeps a version that revision `by` has ended, unless nobody can read it.
    fn supersede(&mut self, key: &[u8], row: &Row, by: Revision) {
        if row.modified < self.mark && by <= self.mark {
            return;
        }
        let (place, value) = &mut self.scratch;
        place.clear();
        value.clear();
        hist_key(key, row.modified, row.sub, place);
        hist_value(row, by, value);
        self.batch.put(Family::Hist, place, value);
    }

    fn write(&mut self) -> Result<(), EngineError> {
        let full = std::mem::replace(&mut self.batch, self.engine.batch());
        self.unwritten.clear();
        self.engine.write(full)
    }

    /// Attaches the keys that are alive to their leases. A lease that is gone has no keys, as in etcd.
    fn attach(&mut self) -> Result<(), EngineError> {
        let snapshot = self.engine.snapshot();
        let mut cursor = snapshot.cursor(Family::Latest, CursorOptions { upper: None, bulk: true });
        cursor.seek(&[]);
        while let Some((key, value)) = cursor.item() {
            let lease = parse_latest(value)?.lease;
            if lease != 0 && self.leases.contains(&lease) {
                self.batch.put(Family::Lease, &attachment_key(lease, key), &[]);
            }
            if self.batch.len_bytes() >= BATCH_BYTES {
                self.write()?;
            }
            cursor.next();
        }
        cursor.check()
    }
}
