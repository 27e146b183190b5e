//! Applies committed entries: the one place that changes the store.
//!
//! Owns: the order of things within a group and within a command. Called by: [`crate::Store::apply`].
//! Invariants: a pure function of state and entries, so every member gives the same replies and the same digest; a
//! group equals its members one by one; everything of a group, the applied position included, is one engine batch; a
//! command that fails changes nothing.
//! Source: etcd 3.7 `server/etcdserver/apply` and `server/storage/mvcc/kvstore_txn.go` for behaviour.

mod auth;
mod change;
mod emit;
mod leases;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::alarms;
use crate::auth::{AuthError, Login};
use crate::count_index::CountIndex;
use crate::engine::{EngineBatch, EngineError, Family, KvEngine};
use crate::error::StoreError;
use crate::history::Source;
use crate::layout::{alarm_key, user_key};
use crate::lessor::LeaseChange;
use crate::overlay::Overlay;
use crate::state::State;
use crate::types::{
    Alarm, ApplyError, Command, Lease, LeaseId, LogPosition, Outcome, ReadError, Reply, Revision,
    RevisionEvents,
};
use crate::view::ReadView;

use change::Pending;
use emit::Scratch;

/// One committed entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyEntry {
    /// Says nothing, but moves the applied position.
    Blank {
        /// Where it stands in the log.
        position: LogPosition,
    },
    /// A change of membership, kept as opaque bytes.
    Membership {
        /// Where it stands in the log.
        position: LogPosition,
        /// The membership as the layer above encodes it.
        bytes: Bytes,
    },
    /// A batch of commands, applied one after the other.
    Commands {
        /// Where it stands in the log.
        position: LogPosition,
        /// In order.
        commands: Vec<Command>,
    },
}

impl ApplyEntry {
    /// Where the entry stands in the log.
    pub fn position(&self) -> LogPosition {
        match self {
            ApplyEntry::Blank { position }
            | ApplyEntry::Membership { position, .. }
            | ApplyEntry::Commands { position, .. } => *position,
        }
    }
}

/// Why a command ended: its own fault, which is an answer, or the engine's, which is the end.
#[derive(Debug)]
enum Fail {
    Command(ApplyError),
    Engine(EngineError),
}

impl From<EngineError> for Fail {
    fn from(error: EngineError) -> Self {
        Fail::Engine(error)
    }
}

impl From<ApplyError> for Fail {
    fn from(error: ApplyError) -> Self {
        Fail::Command(error)
    }
}

impl From<AuthError> for Fail {
    fn from(error: AuthError) -> Self {
        Fail::Command(error.into())
    }
}

impl From<ReadError> for Fail {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { requested, mark } => {
                Fail::Command(ApplyError::Compacted { requested, mark })
            }
            ReadError::FutureRevision { requested, current } => {
                Fail::Command(ApplyError::FutureRevision { requested, current })
            }
            ReadError::Engine(message) => Fail::Engine(EngineError::new("read while applying", message)),
        }
    }
}

/// The work on one group of entries, until it is written.
pub(crate) struct Group<'a, E: KvEngine> {
    engine: &'a E,
    /// The state before the group.
    base: &'a ReadView<E>,
    /// The state so far.
    state: State,
    overlay: Overlay,
    counts: CountIndex,
    oversize: Vec<Bytes>,
    /// Leases granted, changed or revoked (`None`) by the group.
    leases: BTreeMap<LeaseId, Option<Lease>>,
    /// Attachments made (true) or undone by the group.
    attachments: BTreeMap<(LeaseId, Bytes), bool>,
    batch: E::Batch,
    scratch: Scratch,
    replies: Vec<Vec<Reply>>,
    events: Vec<Arc<RevisionEvents>>,
    lease_changes: Vec<LeaseChange>,
    logins: Vec<Login>,
}

/// What a group came to.
pub(crate) struct GroupResult<E: KvEngine> {
    pub(crate) state: State,
    pub(crate) counts: CountIndex,
    pub(crate) oversize: Vec<Bytes>,
    pub(crate) overlay: Overlay,
    pub(crate) batch: E::Batch,
    pub(crate) replies: Vec<Vec<Reply>>,
    pub(crate) events: Vec<Arc<RevisionEvents>>,
    pub(crate) leases: Vec<LeaseChange>,
    pub(crate) logins: Vec<Login>,
}

impl<'a, E: KvEngine> Group<'a, E> {
    pub(crate) fn new(engine: &'a E, base: &'a ReadView<E>) -> Self {
        Group {
            engine,
            base,
            state: base.state.clone(),
            overlay: Overlay::default(),
            counts: base.counts.clone(),
            oversize: Vec::new(),
            leases: BTreeMap::new(),
            attachments: BTreeMap::new(),
            batch: engine.batch(),
            scratch: Scratch::default(),
            replies: Vec::new(),
            events: Vec::new(),
            lease_changes: Vec::new(),
            logins: Vec::new(),
        }
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self, entry: &ApplyEntry) -> Result<(), StoreError> {
        let position = entry.position();
        let expected = self.state.applied.map_or(position.index, |applied| applied.index + 1);
        assert_eq!(position.index, expected, "entries are applied in order, each once");
        assert!(
            self.state.applied.is_none_or(|applied| applied.term <= position.term),
            "terms never go back"
        );
        self.state.digest.number(position.term);
        self.state.digest.number(position.index);
        let replies = match entry {
            ApplyEntry::Blank { .. } => Vec::new(),
            ApplyEntry::Membership { bytes, .. } => {
                self.state.digest.bytes(bytes);
                // Right-sized: the entry's buffer must not live as long as the membership.
                self.state.membership = Some((position, Bytes::copy_from_slice(bytes)));
                self.state.write_membership(&mut self.batch);
                Vec::new()
            }
            ApplyEntry::Commands { commands, .. } => {
                commands.iter().map(|command| self.command(command, position)).collect::<Result<_, _>>()?
            }
        };
        self.replies.push(replies);
        self.state.advance(position);
        Ok(())
    }

    /// Ends the group: adds the state row, so that the batch is complete.
    pub(crate) fn finish(mut self) -> GroupResult<E> {
        self.state.write(&mut self.batch, &mut self.scratch.value);
        GroupResult {
            state: self.state,
            counts: self.counts,
            oversize: self.oversize,
            overlay: self.overlay,
            batch: self.batch,
            replies: self.replies,
            events: self.events,
            leases: self.lease_changes,
            logins: self.logins,
        }
    }

    fn command(&mut self, command: &Command, position: LogPosition) -> Result<Reply, StoreError> {
        let before = self.state.revision;
        let outcome = match self.dispatch(command, position) {
            Ok(outcome) => Ok(outcome),
            Err(Fail::Command(error)) => Err(error),
            Err(Fail::Engine(error)) => return Err(error.into()),
        };
        let revision = self.state.revision;
        assert!(revision == before || revision == before + 1, "a command takes one revision or none");
        assert!(outcome.is_ok() || revision == before, "a failed command takes no revision");
        self.state.digest.number(u64::from(outcome.is_ok()) << 1);
        self.state.digest.signed(revision);
        Ok(Reply { revision, outcome })
    }

    fn dispatch(&mut self, command: &Command, position: LogPosition) -> Result<Outcome, Fail> {
        let (caller, command) = match command {
            Command::As { caller, command } => (Some(caller), &**command),
            command => (None, command),
        };
        alarms::check(&self.state.alarms, command)?;
        self.authorize(caller, command)?;
        match command {
            Command::Put(put) => {
                self.check_put(put)?;
                self.in_revision(|group, pending| Ok(Outcome::Put { prev: group.put(pending, put)? }))
            }
            Command::DeleteRange(delete) => self.in_revision(|group, pending| {
                let (deleted, prev) = group.delete_range(pending, delete)?;
                Ok(Outcome::DeleteRange { deleted, prev })
            }),
            Command::Txn(txn) => self.txn(txn).map(Outcome::Txn),
            Command::Compact { revision } => self.compact(*revision),
            Command::LeaseGrant { id, ttl_s } => self.grant(*id, *ttl_s),
            Command::LeaseRevoke { id, term } => self.revoke(*id, *term, position),
            Command::LeaseCheckpoint { remaining, term } => self.checkpoint(remaining, *term, position),
            Command::AlarmRaise(alarm) => Ok(self.raise(*alarm)),
            Command::AlarmClear(alarm) => Ok(self.clear(*alarm)),
            Command::MetaSet { key, value } => Ok(self.meta_set(key, value)),
            Command::Auth(command) => self.change_auth(command, position),
            // Refused by the decoder, and never proposed.
            Command::As { .. } => Err(AuthError::InvalidManagement.into()),
        }
    }

    /// Runs the writes of one command: they share the next revision, or leave nothing behind.
    fn in_revision<T>(
        &mut self,
        writes: impl FnOnce(&mut Self, &mut Pending) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        let mut pending = Pending::new(self.state.revision + 1);
        match writes(self, &mut pending) {
            Ok(result) => {
                self.commit(pending);
                Ok(result)
            }
            Err(fail) => {
                pending.undo(&mut self.overlay);
                Err(fail)
            }
        }
    }

    /// What a command reads: everything applied so far, `pending` included.
    fn source(&self, pending: Option<&Pending>) -> Source<'_, E::Snapshot> {
        let written = pending.is_some_and(|pending| !pending.is_empty());
        Source {
            snapshot: &self.base.snapshot,
            cache: &self.base.common.cache,
            counts: &self.base.counts,
            base: self.base.state.revision,
            overlay: Some(&self.overlay),
            revision: self.state.revision + Revision::from(written),
            mark: self.state.mark,
        }
    }

    fn compact(&mut self, requested: Revision) -> Result<Outcome, Fail> {
        let (mark, current) = (self.state.mark, self.state.revision);
        if requested <= mark {
            return Err(ApplyError::Compacted { requested, mark }.into());
        }
        if requested > current {
            return Err(ApplyError::FutureRevision { requested, current }.into());
        }
        self.state.mark = requested;
        self.state.digest.signed(requested);
        Ok(Outcome::Compact)
    }

    fn raise(&mut self, alarm: Alarm) -> Outcome {
        // Raising twice answers with the alarm both times, as etcd does.
        if !self.state.alarms.contains(&alarm) {
            let mut alarms = self.state.alarms.to_vec();
            alarms.push(alarm);
            alarms.sort();
            self.state.alarms = alarms.into();
            self.batch.put(Family::Meta, &alarm_key(&alarm), &[]);
        }
        self.state.digest.bytes(&alarm_key(&alarm));
        Outcome::Alarm(vec![alarm])
    }

    fn clear(&mut self, alarm: Alarm) -> Outcome {
        if !self.state.alarms.contains(&alarm) {
            return Outcome::Alarm(Vec::new());
        }
        self.state.alarms = self.state.alarms.iter().copied().filter(|other| *other != alarm).collect();
        self.batch.delete(Family::Meta, &alarm_key(&alarm));
        self.state.digest.bytes(&alarm_key(&alarm));
        Outcome::Alarm(vec![alarm])
    }

    fn meta_set(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let row = user_key(key);
        if value.is_empty() {
            self.batch.delete(Family::Meta, &row);
        } else {
            self.batch.put(Family::Meta, &row, value);
        }
        self.state.digest.bytes(&row);
        self.state.digest.bytes(value);
        Outcome::MetaSet
    }
}
