//! Leases as clients use them: who times them, who renews them, who ends them.
//!
//! Owns: [`LeaseManager`]: the lessor's clock while this member leads, keep-alives (forwarded to the leader from
//! elsewhere), expiry through the log. Called by: the lease service, peers, `AppState::run_background`.
//! Invariants: whether a lease exists is decided by the replicated state alone; nothing expires on a member that does
//! not lead; a revoke by expiry carries the term that decided it (rule 17); a keep-alive is answered only while a
//! quorum stands behind this leader and no revocation of the lease is under way.
//!
//! Why answering with a recent quorum acknowledgement is enough: a deposed leader stops answering one election
//! timeout after its last acknowledgement, and its successor gives every lease its whole time plus one election
//! timeout, so no renewal a client was told of can run out early.
//! Source: etcd `server/lease/lessor.go`, `server/etcdserver/v3_server.go` (`LeaseRenew`, `leaseTimeToLive`).

mod ids;
mod peer;
mod timing;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use keelson_mvcc::{
    lessor::Renewal,
    types::{Command, LeaseId, ReadError},
};
use keelson_raftstore::consensus::{ReadIndexError, Status};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    backend::{Consensus, ReadAccess},
    clock::{Clock, within},
    errors::{self, WireError},
    options::ApiOptions,
};

pub use keelson_mvcc::lessor::LeaseChange;
pub(crate) use peer::{KIND_LEASE_RENEW, KIND_LEASE_TIME_TO_LIVE};

use ids::IdGenerator;
use peer::RenewReply;
use timing::Timing;

/// How often expired leases are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
/// Leases revoked per round: 1000 a second, so that a pile-up after a failover does not drown the writes.
const EXPIRED_PER_ROUND: usize = 500;
/// Revocations in flight.
const REVOKES_IN_FLIGHT: usize = 16;
/// Leases looked at for a checkpoint in one round; a million are seen within a minute.
const CHECKPOINT_LOOK_MAX: usize = 10_000;
/// Leases in one checkpoint, so that no entry of the log gets large.
const CHECKPOINT_LEASES_MAX: usize = 1000;
/// How long an answer waits for the local state to catch up with what is committed.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a failed forwarding is tried again.
const FORWARD_PAUSE: Duration = Duration::from_millis(50);

/// The remaining life of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds left.
    pub ttl_s: i64,
    /// Seconds granted.
    pub granted_s: i64,
    /// Attached keys, if asked for.
    pub keys: Vec<Bytes>,
}

/// See the module.
pub struct LeaseManager {
    consensus: Arc<dyn Consensus>,
    reader: Arc<dyn ReadAccess>,
    clock: Arc<dyn Clock>,
    ids: IdGenerator,
    ttl_s_min: i64,
    checkpoint_interval: Option<Duration>,
    timing: Mutex<Timing>,
    /// What was applied since the last look at the clock, and when. Apart, so that applying never waits for a look.
    changes: Mutex<Vec<(Duration, LeaseChange)>>,
    /// Told whenever a revocation by expiry came to an end, well or not.
    settled: Notify,
}

/// What this member found when it acted as the leader.
enum Local {
    Renewed(i64),
    NotFound,
    NotLeading,
    Failed(WireError),
}

impl LeaseManager {
    pub(crate) fn new(
        options: &ApiOptions,
        consensus: Arc<dyn Consensus>,
        reader: Arc<dyn ReadAccess>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        LeaseManager {
            ids: IdGenerator::new(options.member_id, clock.unix_ms()),
            ttl_s_min: options.lease_ttl_s_min(),
            checkpoint_interval: options.lease_checkpoint_interval,
            timing: Mutex::new(Timing::new(options.election_timeout)),
            changes: Mutex::default(),
            settled: Notify::new(),
            consensus,
            reader,
            clock,
        }
    }

    /// A lease id no client chose: positive, and not handed out before by any member.
    pub fn next_id(&self) -> LeaseId {
        self.ids.next()
    }

    /// The time to live a grant of `ttl_s` gets.
    pub fn effective_ttl_s(&self, ttl_s: i64) -> i64 {
        ttl_s.max(self.ttl_s_min)
    }

    /// Grants and revocations were applied here, in this order, and the view shows them. Never waits.
    pub(crate) fn applied(&self, changes: &[LeaseChange]) {
        let now = self.clock.now();
        self.changes.lock().extend(changes.iter().map(|change| (now, *change)));
    }

    /// Looks for expired leases for ever, while this member leads.
    pub(crate) async fn run(&self) {
        loop {
            // Also at once when the role changes: a new leader's clock starts before it hears of any grant.
            let changed = self.consensus.changed();
            let (expired, term) = self.with_timing(|timing, now, _| {
                self.checkpoint(timing, now);
                (timing.expired(now, EXPIRED_PER_ROUND), timing.term())
            });
            stream::iter(expired)
                .for_each_concurrent(REVOKES_IN_FLIGHT, |id| self.revoke_expired(id, term))
                .await;
            within(&*self.clock, EXPIRY_INTERVAL, changed).await;
        }
    }

    /// Writes down how much time is left of leases that were not renewed for long. Proposed while the clock is held, so
    /// that no renewal's [`LeaseManager::reset_checkpoint`] comes in front of it.
    fn checkpoint(&self, timing: &mut Timing, now: Duration) {
        let Some(interval) = self.checkpoint_interval else { return };
        let due = timing.checkpoints(now, interval, CHECKPOINT_LOOK_MAX);
        for leases in due.chunks(CHECKPOINT_LEASES_MAX) {
            let command = Command::LeaseCheckpoint { remaining: leases.to_vec(), term: Some(timing.term()) };
            // Not waited for: one that is lost is made up for after the next interval.
            drop(self.consensus.propose(&command, APPLIED_TIMEOUT, None));
        }
    }

    async fn revoke_expired(&self, id: LeaseId, term: u64) {
        let command = Command::LeaseRevoke { id, term: Some(term) };
        // Long enough for a commit under load; a lost revocation is simply decided anew.
        let answer = self.consensus.propose(&command, 5 * APPLIED_TIMEOUT, None).await;
        if !answer.as_ref().is_ok_and(|reply| reply.outcome.is_ok()) {
            tracing::debug!(id, ?answer, "an expired lease was not revoked");
        }
        self.with_timing(|timing, _, _| timing.revocation_ended(id));
        self.settled.notify_waiters();
    }

    /// Renews a lease if that needs no waiting: this member leads and has it. `None` says nothing about the lease.
    pub(crate) fn renew_now(&self, id: LeaseId) -> Option<i64> {
        match self.with_timing(|timing, now, reader| timing.renew(now, reader, id)) {
            // The acknowledgement is looked at after the renewal: what counts is that nobody else led before it.
            Ok((Renewal::Renewed { ttl_s }, true)) if self.consensus.status().is_leader => Some(ttl_s),
            _ => None,
        }
    }

    /// Renews a lease wherever the leader is. `None`: unknown or expired.
    pub(crate) async fn renew(&self, id: LeaseId, timeout: Duration) -> Result<Option<i64>, WireError> {
        let deadline = self.clock.now() + timeout;
        loop {
            match self.renew_local(id, deadline).await {
                Local::Renewed(ttl_s) => return Ok(Some(ttl_s)),
                Local::NotFound => return Ok(None),
                Local::Failed(error) => return Err(error),
                Local::NotLeading => {}
            }
            let reply = self.ask_leader(KIND_LEASE_RENEW, peer::encode_renew(id), deadline).await?;
            match reply.as_deref().and_then(RenewReply::decode) {
                Some(RenewReply::Renewed(ttl_s)) => return Ok(Some(ttl_s)),
                Some(RenewReply::NotFound) => return Ok(None),
                Some(RenewReply::NotLeading) | None => self.pause(deadline).await?,
            }
        }
    }

    /// The remaining life of a lease, from the leader. `None`: unknown.
    pub(crate) async fn time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
        timeout: Duration,
    ) -> Result<Option<TimeToLive>, WireError> {
        let deadline = self.clock.now() + timeout;
        loop {
            if self.consensus.status().is_leader {
                return self.time_to_live_local(id, keys).await;
            }
            let body = peer::encode_time_to_live(id, keys);
            let reply = self.ask_leader(KIND_LEASE_TIME_TO_LIVE, body, deadline).await?;
            match reply.and_then(|reply| peer::decode_time_to_live(&reply)) {
                Some(found) => return Ok(found),
                None => self.pause(deadline).await?,
            }
        }
    }

    /// All leases of this member's state, those that run out first in front where this member knows.
    pub(crate) fn list(&self) -> Result<Vec<LeaseId>, ReadError> {
        self.with_timing(|timing, now, reader| {
            let leases = reader.view().leases()?;
            let mut leases: Vec<_> =
                leases.iter().map(|lease| (timing.remaining(now, lease.id), lease.id)).collect();
            leases.sort_by_key(|(remaining, id)| (remaining.unwrap_or(Duration::MAX), *id));
            Ok(leases.into_iter().map(|(_, id)| id).collect())
        })
    }

    /// Answers a peer; see [`peer`].
    pub(crate) async fn handle_renew(&self, body: Bytes) -> Result<Bytes, String> {
        let id = peer::decode_renew(&body).ok_or("malformed lease renewal")?;
        let deadline = self.clock.now() + 5 * APPLIED_TIMEOUT;
        let reply = match self.renew_local(id, deadline).await {
            Local::Renewed(ttl_s) => RenewReply::Renewed(ttl_s),
            Local::NotFound => RenewReply::NotFound,
            Local::NotLeading => RenewReply::NotLeading,
            Local::Failed(error) => return Err(error.text.to_owned()),
        };
        Ok(reply.encode())
    }

    /// Answers a peer; see [`peer`].
    pub(crate) async fn handle_time_to_live(&self, body: Bytes) -> Result<Bytes, String> {
        let (id, keys) = peer::decode_time_to_live_request(&body).ok_or("malformed lease question")?;
        if !self.consensus.status().is_leader {
            return Err("not leading".to_owned());
        }
        let found = self.time_to_live_local(id, keys).await.map_err(|error| error.text.to_owned())?;
        Ok(peer::encode_time_to_live_reply(found.as_ref()))
    }

    async fn renew_local(&self, id: LeaseId, deadline: Duration) -> Local {
        let mut caught_up = false;
        loop {
            // Registered before the look, so that a revocation ending in between is not missed.
            let settled = self.settled.notified();
            let renew = |timing: &mut Timing, now, reader: &_| (timing.renew(now, reader, id), timing.term());
            let (renewal, exists, term) = match self.with_timing(renew) {
                (Ok((renewal, exists)), term) => (renewal, exists, term),
                (Err(error), _) => return Local::Failed(unreadable(error)),
            };
            match renewal {
                Renewal::NotLeading => return Local::NotLeading,
                // The acknowledgement is looked at after the renewal: what counts is that nobody else led before it.
                Renewal::Renewed { ttl_s } if exists => {
                    return if self.consensus.status().is_leader {
                        Local::Renewed(ttl_s)
                    } else {
                        Local::NotLeading
                    };
                }
                Renewal::Checkpointed => {
                    if !self.reset_checkpoint(id, term, deadline).await {
                        return Local::Failed(errors::TIMEOUT);
                    }
                }
                Renewal::Expiring => {
                    let left = deadline.saturating_sub(self.clock.now());
                    if within(&*self.clock, left, settled).await.is_none() {
                        return Local::Failed(errors::TIMEOUT);
                    }
                }
                Renewal::Renewed { .. } | Renewal::NotFound if caught_up => return Local::NotFound,
                // It may have been granted a moment ago on another member.
                Renewal::Renewed { .. } | Renewal::NotFound => match self.catch_up().await {
                    Ok(()) => caught_up = true,
                    Err(error) => return Local::Failed(error),
                },
            }
        }
    }

    /// Takes back what is written down of a lease's remaining time, before a renewal gives it more. What this member
    /// proposes in one term is applied in that order, so no checkpoint handed out earlier comes after it.
    async fn reset_checkpoint(&self, id: LeaseId, term: u64, deadline: Duration) -> bool {
        let command = Command::LeaseCheckpoint { remaining: vec![(id, 0)], term: Some(term) };
        let left = deadline.saturating_sub(self.clock.now());
        let answer = self.consensus.propose(&command, left, None).await;
        if !answer.is_ok_and(|reply| reply.outcome.is_ok()) {
            return false;
        }
        self.with_timing(|timing, _, _| timing.checkpoint_reset(id, term));
        true
    }

    async fn time_to_live_local(&self, id: LeaseId, keys: bool) -> Result<Option<TimeToLive>, WireError> {
        self.catch_up().await?;
        let found = self.with_timing(|timing, now, reader| {
            let view = reader.view();
            let Some(lease) = view.lease(id)? else { return Ok(None) };
            let Some(left) = timing.remaining_of(now, &lease) else { return Ok(None) };
            let keys = if keys { view.lease_keys(id)? } else { Vec::new() };
            Ok(Some(TimeToLive { ttl_s: left.as_secs() as i64, granted_s: lease.ttl_s, keys }))
        });
        let found = found.map_err(unreadable)?;
        // A leader that was deposed meanwhile may have answered from a clock that no longer counts.
        if self.consensus.status().is_leader { Ok(found) } else { Err(errors::LEADER_CHANGED) }
    }

    async fn catch_up(&self) -> Result<(), WireError> {
        self.consensus.read_index(APPLIED_TIMEOUT).await.map_err(|error| match error {
            ReadIndexError::Timeout(_) => errors::TIMEOUT_WAIT_APPLIED,
            ReadIndexError::Stopped => errors::STOPPED,
        })
    }

    /// Runs `f` with the timing brought in line with this member's role and with what was applied.
    fn with_timing<T>(&self, f: impl FnOnce(&mut Timing, Duration, &dyn ReadAccess) -> T) -> T {
        let mut timing = self.timing.lock();
        let now = self.clock.now();
        let status = self.consensus.status();
        if timing.is_outdated(&status) {
            self.follow_role(&mut timing, now, &status);
        }
        // What was applied between is in both: a grant that is told twice is timed from the second.
        let changes = std::mem::take(&mut *self.changes.lock());
        for (at, change) in changes {
            timing.applied(at, change);
        }
        f(&mut timing, now, &*self.reader)
    }

    fn follow_role(&self, timing: &mut Timing, now: Duration, status: &Status) {
        timing.demote();
        if status.is_leader {
            // First: what is told from now on is taken up, and what was told before is in the view.
            self.changes.lock().clear();
            match self.reader.view().leases() {
                Ok(leases) => timing.promote(now, status.term, &leases),
                // An unreadable engine is fatal elsewhere; here it only means that nothing expires.
                Err(error) => tracing::error!(%error, "reading the leases failed"),
            }
        }
    }

    /// Asks the leader; `Ok(None)` when it could not be reached or none is known yet.
    async fn ask_leader(
        &self,
        kind: u8,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Option<Bytes>, WireError> {
        let status = self.consensus.status();
        let left = deadline.saturating_sub(self.clock.now());
        match status.leader {
            None if left.is_zero() => Err(errors::NO_LEADER),
            _ if left.is_zero() => Err(errors::TIMEOUT),
            None => Ok(None),
            Some(leader) if leader == status.member => Ok(None),
            Some(leader) => match self.consensus.call(leader, kind, body, left).await {
                Ok(reply) => Ok(Some(reply)),
                Err(error) => {
                    tracing::debug!(%error, "forwarding to the leader failed");
                    Ok(None)
                }
            },
        }
    }

    async fn pause(&self, deadline: Duration) -> Result<(), WireError> {
        if self.clock.now() + FORWARD_PAUSE > deadline {
            let leaderless = self.consensus.status().leader.is_none();
            return Err(if leaderless { errors::NO_LEADER } else { errors::TIMEOUT });
        }
        self.clock.sleep(FORWARD_PAUSE).await;
        Ok(())
    }
}

/// The engine failed under a lease: the log says what, the client only that it did not work.
fn unreadable(error: ReadError) -> WireError {
    tracing::error!(%error, "reading a lease failed");
    errors::LEASE_UNREADABLE
}
