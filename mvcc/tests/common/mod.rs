//! A naive model of the store, and what the tests share.
//!
//! The model keeps every revision's whole key space in a map and every change in a list, and does everything the slow
//! and obvious way. Where it and the store disagree, one of them is wrong.

#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelson_mvcc::*;

pub mod strategy;

pub type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Debug)]
pub struct Change {
    pub revision: Revision,
    pub sub: u32,
    pub kind: EventKind,
    pub kv: KeyValue,
    pub prev: Option<KeyValue>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub revision: Revision,
    pub mark: Revision,
    /// The keys as of each revision, from 1.
    pub states: BTreeMap<Revision, Keys>,
    pub changes: Vec<Change>,
    pub leases: BTreeMap<LeaseId, Lease>,
    pub alarms: BTreeSet<Alarm>,
    pub meta: BTreeMap<Bytes, Bytes>,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            revision: 1,
            mark: -1,
            states: BTreeMap::from([(1, Keys::new())]),
            changes: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            meta: BTreeMap::new(),
        }
    }
}

/// A row of etcd's file.
pub struct FileRow {
    pub place: (Revision, u32),
    pub tombstone: bool,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// The writes of one command on their way.
struct Work<'m> {
    model: &'m Model,
    keys: Keys,
    changes: Vec<Change>,
}

impl Model {
    pub fn now(&self) -> &Keys {
        &self.states[&self.revision]
    }

    pub fn apply(&mut self, command: &Command, term: u64) -> Reply {
        let outcome = self.outcome(command, term);
        Reply { revision: self.revision, outcome }
    }

    fn outcome(&mut self, command: &Command, term: u64) -> Result<Outcome, ApplyError> {
        self.check_alarms(command)?;
        match command {
            Command::Put(put) => {
                self.check_put(put)?;
                self.write(|work| Ok(Outcome::Put { prev: work.put(put)? }))
            }
            Command::DeleteRange(delete) => self.write(|work| {
                let (deleted, prev) = work.delete(delete);
                Ok(Outcome::DeleteRange { deleted, prev })
            }),
            Command::Txn(txn) => {
                let mut path = Vec::new();
                self.path(txn, &mut path);
                self.check_txn(txn, &mut path.iter())?;
                self.write(|work| Ok(Outcome::Txn(work.txn(txn, &mut path.iter())?)))
            }
            Command::Compact { revision } => {
                if *revision <= self.mark {
                    return Err(ApplyError::Compacted { requested: *revision, mark: self.mark });
                }
                if *revision > self.revision {
                    return Err(ApplyError::FutureRevision { requested: *revision, current: self.revision });
                }
                self.mark = *revision;
                Ok(Outcome::Compact)
            }
            Command::LeaseGrant { id, ttl_s } => {
                if self.leases.contains_key(id) {
                    return Err(ApplyError::LeaseExists(*id));
                }
                self.leases.insert(*id, Lease { id: *id, ttl_s: *ttl_s, remaining_s: 0 });
                Ok(Outcome::LeaseGrant { id: *id, ttl_s: *ttl_s })
            }
            Command::LeaseRevoke { id, term: decided } => {
                if decided.is_some_and(|decided| decided != term) {
                    return Ok(Outcome::LeaseRevoke);
                }
                if !self.leases.contains_key(id) {
                    return Err(ApplyError::LeaseNotFound(*id));
                }
                for_each_key(&self.lease_keys(*id), |keys| {
                    self.write(|work| {
                        for key in keys {
                            work.delete(&DeleteRange {
                                range: KeyRange::single(key.clone()),
                                prev_kv: false,
                            });
                        }
                        Ok(())
                    })
                })?;
                self.leases.remove(id);
                Ok(Outcome::LeaseRevoke)
            }
            Command::LeaseCheckpoint { remaining, term: decided } => {
                if decided.is_some_and(|decided| decided != term) {
                    return Ok(Outcome::LeaseCheckpoint);
                }
                for (id, remaining_s) in remaining {
                    if let Some(lease) = self.leases.get_mut(id) {
                        lease.remaining_s = *remaining_s;
                    }
                }
                Ok(Outcome::LeaseCheckpoint)
            }
            Command::AlarmRaise(alarm) => {
                self.alarms.insert(*alarm);
                Ok(Outcome::Alarm(vec![*alarm]))
            }
            Command::AlarmClear(alarm) => {
                Ok(Outcome::Alarm(if self.alarms.remove(alarm) { vec![*alarm] } else { Vec::new() }))
            }
            Command::MetaSet { key, value } => {
                match value.is_empty() {
                    true => self.meta.remove(key),
                    false => self.meta.insert(key.clone(), value.clone()),
                };
                Ok(Outcome::MetaSet)
            }
            Command::Auth(_) | Command::As { .. } => panic!("authentication is tested apart"),
        }
    }

    fn check_alarms(&self, command: &Command) -> Result<(), ApplyError> {
        fn puts(txn: &Txn) -> bool {
            txn.success.iter().chain(&txn.failure).any(|op| match op {
                TxnOp::Put(_) => true,
                TxnOp::Txn(txn) => puts(txn),
                _ => false,
            })
        }
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        let harmless = matches!(
            command,
            Command::AlarmRaise(_)
                | Command::AlarmClear(_)
                | Command::MetaSet { .. }
                | Command::LeaseCheckpoint { .. }
        );
        if raised(AlarmKind::Corrupt) && !harmless {
            return Err(ApplyError::Corrupt);
        }
        let grows = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => true,
            Command::Txn(txn) => puts(txn),
            _ => false,
        };
        if raised(AlarmKind::NoSpace) && grows { Err(ApplyError::NoSpace) } else { Ok(()) }
    }

    fn write<T>(
        &mut self,
        writes: impl FnOnce(&mut Work<'_>) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let mut work = Work { model: self, keys: self.now().clone(), changes: Vec::new() };
        let result = writes(&mut work)?;
        let Work { keys, changes, .. } = work;
        if !changes.is_empty() {
            self.revision += 1;
            self.states.insert(self.revision, keys);
            self.changes.extend(changes);
        }
        Ok(result)
    }

    fn check_put(&self, put: &Put) -> Result<(), ApplyError> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(ApplyError::LeaseNotFound(put.lease));
        }
        if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }

    fn path(&self, txn: &Txn, path: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            if let TxnOp::Txn(nested) = op {
                self.path(nested, path);
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let rows: Vec<_> =
            self.now().values().filter(|kv| compare.range.contains(&kv.key)).cloned().collect();
        if rows.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_))
                && Self::row_holds(compare, &KeyValue::default());
        }
        rows.iter().all(|kv| Self::row_holds(compare, kv))
    }

    fn row_holds(compare: &Compare, kv: &KeyValue) -> bool {
        let ordering = match &compare.target {
            CompareTarget::Version(number) => kv.version.cmp(number),
            CompareTarget::Create(number) => kv.create_revision.cmp(number),
            CompareTarget::Mod(number) => kv.mod_revision.cmp(number),
            CompareTarget::Lease(number) => kv.lease.cmp(number),
            CompareTarget::Value(value) => kv.value.cmp(value),
        };
        match compare.result {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::NotEqual => ordering.is_ne(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
        }
    }

    fn check_txn(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>) -> Result<(), ApplyError> {
        let succeeded = *path.next().expect("a decision per transaction");
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                TxnOp::Range(options) => {
                    let requested = options.revision;
                    if requested > self.revision {
                        return Err(ApplyError::FutureRevision { requested, current: self.revision });
                    }
                    if requested != 0 && requested < self.mark {
                        return Err(ApplyError::Compacted { requested, mark: self.mark });
                    }
                }
                TxnOp::Put(put) => self.check_put(put)?,
                TxnOp::DeleteRange(_) => {}
                TxnOp::Txn(nested) => self.check_txn(nested, path)?,
            }
        }
        Ok(())
    }

    pub fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.now().values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect()
    }

    /// A read outside any transaction.
    pub fn range(&self, options: &RangeOptions) -> Result<RangeReply, ReadError> {
        let requested = options.revision;
        if requested > self.revision {
            return Err(ReadError::FutureRevision { requested, current: self.revision });
        }
        let revision = if requested <= 0 { self.revision } else { requested };
        if revision < self.mark {
            return Err(ReadError::Compacted { requested, mark: self.mark });
        }
        Ok(range_of(&self.states[&revision], options))
    }

    /// Events as a catch-up would give them: a previous value is there if the revision before can be read.
    pub fn events(&self, after: Revision, upto: Revision) -> Result<Vec<Change>, Revision> {
        if after + 1 < self.mark {
            return Err(self.mark);
        }
        let within = self.changes.iter().filter(|change| change.revision > after && change.revision <= upto);
        let mut found: Vec<_> = within.cloned().collect();
        for change in found.iter_mut().filter(|change| change.revision <= self.mark) {
            change.prev = None;
        }
        Ok(found)
    }

    /// What etcd's file holds once compaction is through, in its order.
    pub fn file_rows(&self) -> Vec<FileRow> {
        let at_mark = self.newest_at(self.mark);
        let mut rows = Vec::new();
        for change in &self.changes {
            let place = (change.revision, change.sub);
            let tombstone = change.kind == EventKind::Delete;
            let in_file = change.revision > self.mark
                || at_mark.contains(&place)
                || (tombstone && change.revision == self.mark);
            if !in_file {
                continue;
            }
            let mut key = change.revision.to_be_bytes().to_vec();
            key.push(b'_');
            key.extend(u64::from(change.sub).to_be_bytes());
            let kv = match change.kind {
                EventKind::Put => change.kv.clone(),
                EventKind::Delete => {
                    key.push(b't');
                    KeyValue { key: change.kv.key.clone(), ..KeyValue::default() }
                }
            };
            let mut value = Vec::new();
            encode_key_value(&kv, &mut value);
            rows.push(FileRow { place, tombstone, key, value });
        }
        rows
    }

    /// The versions alive at a revision.
    fn newest_at(&self, revision: Revision) -> BTreeSet<(Revision, u32)> {
        let mut newest = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.revision <= revision) {
            newest.insert(change.kv.key.clone(), change);
        }
        let alive = newest.values().filter(|change| change.kind == EventKind::Put);
        alive.map(|change| (change.revision, change.sub)).collect()
    }

    /// HashKV by the book: of what is in etcd's file, what its hasher does not skip.
    pub fn hash_kv(&self, revision: Revision) -> u32 {
        let keep = self.newest_at(revision);
        let mut hash = crc32c::crc32c(b"key");
        for FileRow { place, tombstone, key, value } in self.file_rows() {
            let main = place.0;
            let skipped = main > revision
                || (main <= self.mark && !keep.is_empty() && !keep.contains(&place))
                || (tombstone && main == self.mark);
            if !skipped {
                hash = crc32c::crc32c_append(hash, &key);
                hash = crc32c::crc32c_append(hash, &value);
            }
        }
        hash
    }
}

/// A revoke without keys writes nothing at all.
fn for_each_key(
    keys: &[Bytes],
    write: impl FnOnce(&[Bytes]) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    if keys.is_empty() { Ok(()) } else { write(keys) }
}

impl Work<'_> {
    fn revision(&self) -> Revision {
        self.model.revision + 1
    }

    /// What a watcher is shown as the previous value: the key before the revision. A creation has none, also where
    /// the same revision deleted the key first.
    fn before(&self, key: &[u8]) -> Option<KeyValue> {
        self.model.now().get(key).cloned()
    }

    fn put(&mut self, put: &Put) -> Result<Option<KeyValue>, ApplyError> {
        let old = self.keys.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && old.is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        let of_old = old.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value { of_old.value } else { put.value.clone() },
            create_revision: if old.is_some() { of_old.create_revision } else { self.revision() },
            mod_revision: self.revision(),
            version: of_old.version + 1,
            lease: if put.ignore_lease { of_old.lease } else { put.lease },
        };
        self.keys.insert(put.key.clone(), kv.clone());
        let before = self.before(&put.key).filter(|_| kv.create_revision != kv.mod_revision);
        self.record(EventKind::Put, kv, before);
        Ok(old.filter(|_| put.prev_kv))
    }

    fn delete(&mut self, delete: &DeleteRange) -> (i64, Vec<KeyValue>) {
        let found: Vec<_> = self.keys.values().filter(|kv| delete.range.contains(&kv.key)).cloned().collect();
        for kv in &found {
            self.keys.remove(&kv.key);
            let gone = KeyValue { key: kv.key.clone(), mod_revision: self.revision(), ..KeyValue::default() };
            self.record(EventKind::Delete, gone, self.before(&kv.key));
        }
        (found.len() as i64, if delete.prev_kv { found } else { Vec::new() })
    }

    fn record(&mut self, kind: EventKind, kv: KeyValue, prev: Option<KeyValue>) {
        let (revision, sub) = (self.revision(), self.changes.len() as u32);
        self.changes.push(Change { revision, sub, kind, kv, prev });
    }

    fn txn(&mut self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>) -> Result<TxnReply, ApplyError> {
        let succeeded = *path.next().expect("a decision per transaction");
        let mut ops = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            ops.push(match op {
                TxnOp::Range(options) => OpReply::Range(self.range(options)?),
                TxnOp::Put(put) => OpReply::Put { prev: self.put(put)? },
                TxnOp::DeleteRange(delete) => {
                    let (deleted, prev) = self.delete(delete);
                    OpReply::DeleteRange { deleted, prev }
                }
                TxnOp::Txn(nested) => OpReply::Txn(self.txn(nested, path)?),
            });
        }
        Ok(TxnReply { succeeded, ops })
    }

    fn range(&self, options: &RangeOptions) -> Result<RangeReply, ApplyError> {
        let current = self.model.revision + Revision::from(!self.changes.is_empty());
        let revision = if options.revision <= 0 { current } else { options.revision };
        let keys = if revision == self.revision() { &self.keys } else { &self.model.states[&revision] };
        Ok(range_of(keys, options))
    }
}

/// A range over the keys of one revision.
pub fn range_of(keys: &Keys, options: &RangeOptions) -> RangeReply {
    let mut kvs: Vec<_> = keys.values().filter(|kv| options.range.contains(&kv.key)).cloned().collect();
    let count = kvs.len() as i64;
    if options.count_only {
        return RangeReply { kvs: Vec::new(), more: false, count };
    }
    let bounds = [
        options.max_mod_revision,
        options.min_mod_revision,
        options.max_create_revision,
        options.min_create_revision,
    ];
    let limit = options.limit;
    let sorted = options.sort_order != SortOrder::None
        && !(options.sort_target == SortTarget::Key && options.sort_order == SortOrder::Ascend);
    if !sorted && bounds == [0; 4] && limit > 0 {
        kvs.truncate(limit as usize + 1);
    }
    kvs.retain(|kv| {
        (bounds[0] == 0 || kv.mod_revision <= bounds[0])
            && (bounds[1] == 0 || kv.mod_revision >= bounds[1])
            && (bounds[2] == 0 || kv.create_revision <= bounds[2])
            && (bounds[3] == 0 || kv.create_revision >= bounds[3])
    });
    let compare = |a: &KeyValue, b: &KeyValue| match options.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match options.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
        SortOrder::None if options.sort_target == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
    }
    let more = limit > 0 && kvs.len() > limit as usize;
    if limit > 0 {
        kvs.truncate(limit as usize);
    }
    if options.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            if options.sort_target != SortTarget::Value {
                kv.lease = 0;
            }
        }
    }
    RangeReply { kvs, more, count }
}

/// Number of random cases; `KEELSON_TEST_FACTOR` multiplies it for longer runs.
pub fn cases(normal: u32) -> proptest::prelude::ProptestConfig {
    let factor =
        std::env::var("KEELSON_TEST_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    proptest::prelude::ProptestConfig { cases: normal * factor, max_shrink_iters: 2000, ..Default::default() }
}

/// Commands as one entry.
pub fn entry(index: u64, term: u64, commands: Vec<Command>) -> ApplyEntry {
    ApplyEntry::Commands { position: LogPosition { term, leader: 1, index }, commands }
}

pub fn put(key: &str, value: &str) -> Command {
    Command::Put(Put { key: key.to_owned().into(), value: value.to_owned().into(), ..Put::default() })
}

pub fn delete(key: &str) -> Command {
    Command::DeleteRange(DeleteRange { range: KeyRange::single(key.to_owned()), prev_kv: false })
}

pub fn everything() -> KeyRange {
    KeyRange { key: Bytes::from_static(&[0]), end: Bytes::from_static(&[0]) }
}

/// A store that numbers its entries itself.
pub struct Driver<E: KvEngine> {
    pub store: Store<E>,
    pub next: u64,
    pub term: u64,
}

impl<E: KvEngine> Driver<E> {
    pub fn open(engine: E) -> Self {
        Self::open_with(engine, StoreOptions::default())
    }

    pub fn open_with(engine: E, options: StoreOptions) -> Self {
        let store = Store::open(engine, options).expect("the engine opens");
        let next = store.applied().map_or(0, |applied| applied.index + 1);
        let term = store.applied().map_or(1, |applied| applied.term);
        Driver { store, next, term }
    }

    /// One command as a group of its own.
    pub fn one(&mut self, command: Command) -> Reply {
        let mut applied = self.group(vec![vec![command]]);
        applied.replies.pop().and_then(|mut replies| replies.pop()).expect("one reply")
    }

    /// A command that must succeed; gives the revision after it.
    pub fn must(&mut self, command: Command) -> Revision {
        let reply = self.one(command);
        assert!(reply.outcome.is_ok(), "{:?}", reply.outcome);
        reply.revision
    }

    pub fn group(&mut self, entries: Vec<Vec<Command>>) -> Applied<E> {
        let mut group = Vec::new();
        for commands in entries {
            group.push(entry(self.next, self.term, commands));
            self.next += 1;
        }
        self.store.apply(&group).expect("the engine works")
    }

    /// Takes out everything that may go.
    pub fn drop_dead_rows(&mut self) {
        self.store.flush().expect("the engine works");
        self.store.compaction_job().run().expect("the engine works");
    }
}

/// A machine whose power can fail: each `open` starts from what the last flush left.
pub trait Machine {
    type Engine: KvEngine;
    fn new() -> Self;
    /// The engine after a crash. Handles of an earlier one are dropped before.
    fn open(&self) -> Self::Engine;
}

pub struct MemoryMachine(MemoryEngine);

impl Machine for MemoryMachine {
    type Engine = MemoryEngine;
    fn new() -> Self {
        MemoryMachine(MemoryEngine::default())
    }
    fn open(&self) -> MemoryEngine {
        self.0.crash();
        self.0.clone()
    }
}

/// With RocksDB's WAL off and no flush while closing, dropping the engine loses what a `kill -9` loses.
#[cfg(feature = "rocks")]
pub struct RocksMachine(tempfile::TempDir);

#[cfg(feature = "rocks")]
impl Machine for RocksMachine {
    type Engine = RocksEngine;
    fn new() -> Self {
        RocksMachine(tempfile::tempdir().expect("a directory"))
    }
    fn open(&self) -> RocksEngine {
        RocksEngine::open(self.0.path(), RocksOptions::default()).expect("the engine opens")
    }
}

/// Tests told once, with a machine as type parameter, and run on every engine.
#[macro_export]
macro_rules! on_every_engine {
    ($($(#[$meta:meta])* fn $name:ident<$machine:ident>() $body:block)*) => {
        $(
            $(#[$meta])*
            #[test]
            fn $name() {
                fn story<$machine: common::Machine>() $body
                story::<common::MemoryMachine>();
                #[cfg(feature = "rocks")]
                story::<common::RocksMachine>();
            }
        )*
    };
}
