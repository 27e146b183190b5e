//! What this member does about its own alarms, beside what every member does about all of them at apply.
//!
//! Owns: raising NOSPACE for this member and taking it back; standing aside while CORRUPT names this member. Called by:
//! the quota check, the watch over the disk, `AppState::run_background`. Invariants: an alarm is raised and cleared
//! through the log, so all members see it at the same position; an alarm that a client raised is cleared by clients
//! alone; nothing here looks at a size at apply (rule 6).
//!
//! Who raised an alarm is kept in a row of its own, `alarm/nospace/<member>`, which is set before the alarm and removed
//! after it: after a restart, too, this member knows which alarm it may take back.
//! Source: etcd `server/etcdserver/api/v3rpc/quota.go` for the raising. The rest has no counterpart there: an operator has
//! to disarm by hand, and a damaged member goes on answering reads.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use keelson_mvcc::types::{Alarm, AlarmKind, Command};

use crate::{
    backend::View,
    state::{AppState, Inner},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row that must agree before an alarm is taken back: a size is a sample, and a command may be under way.
const LOOKS_AGREE: u32 = 2;

impl AppState {
    /// Raises the alarm that stops what takes space, for this member, unless it is raised.
    pub async fn raise_no_space(&self, timeout: Duration) {
        let alarm = self.own_alarm(AlarmKind::NoSpace);
        if self.view().has_alarm(alarm) {
            return;
        }
        let mark = Command::MetaSet { key: self.mark_row(), value: Bytes::from_static(b"raised") };
        for command in [mark, Command::AlarmRaise(alarm)] {
            if let Err(error) = self.consensus.propose(&command, timeout, None).await {
                tracing::warn!(%error, "cannot raise the space alarm");
                return;
            }
        }
        tracing::warn!(
            remedy = "delete keys and compact, or raise --quota-backend-bytes",
            "there is no space for more data; writes are refused until there is"
        );
    }

    /// Says whether the disk has room for writes; the alarm is not taken back while it has not.
    pub fn note_disk(&self, is_full: bool) {
        self.disk_is_full.store(is_full, Ordering::Relaxed);
    }

    /// Looks again and again, for ever.
    pub(crate) async fn look_after_alarms(&self) {
        let mut looks = 0;
        // A row without its alarm is left behind by an operator's disarming, or by a stop between the two.
        let mut may_be_marked = true;
        loop {
            self.clock.sleep(LOOK_EVERY).await;
            self.stand_aside().await;
            may_be_marked |= self.view().has_alarm(self.own_alarm(AlarmKind::NoSpace));
            looks = if may_be_marked && self.may_take_back() { looks + 1 } else { 0 };
            if looks >= LOOKS_AGREE {
                looks = 0;
                may_be_marked = !self.take_back().await;
            }
        }
    }

    /// Ends the streams of a damaged member, and its leadership: a leader hands its data to others.
    async fn stand_aside(&self) {
        let isolated = self.is_isolated(&*self.view());
        let changed = self
            .lifecycle
            .send_if_modified(|lifecycle| std::mem::replace(&mut lifecycle.isolated, isolated) != isolated);
        if changed && isolated {
            let id = format!("{:x}", self.options.member_id);
            tracing::error!(
                member = %id,
                remedy = %format!(
                    "replace this member: etcdctl member remove {id}, empty its data folder, etcdctl member add, start \
                     it with --initial-cluster-state=existing; then etcdctl alarm disarm"
                ),
                "this member's data differ from the others'; it answers no reads and writes until that is mended"
            );
        }
        let status = self.consensus.status();
        if !isolated || !status.is_leader {
            return;
        }
        let view = self.view();
        let members = self.consensus.members().members;
        let sound = members.iter().find(|member| {
            let damaged = Alarm { member: member.id, kind: AlarmKind::Corrupt };
            member.id != status.member && !member.is_learner && !member.joining && !view.has_alarm(damaged)
        });
        if let Some(to) = sound
            && let Err(error) = self.consensus.transfer_leader(to.id, self.options.election_timeout).await
        {
            tracing::warn!(to = %format!("{:x}", to.id), %error, "leadership was not taken");
        }
    }

    /// Whether the alarm, if it is raised, is this member's own and not needed any more.
    fn may_take_back(&self) -> bool {
        let view = self.view();
        if !view.has_alarm(self.own_alarm(AlarmKind::NoSpace)) {
            return true;
        }
        self.options.no_space_clears_itself
            && self.quota.has_ample_room(self)
            && !self.disk_is_full.load(Ordering::Relaxed)
            && self.is_marked(&*view)
    }

    /// Takes the alarm back, and the row; true once both are gone.
    async fn take_back(&self) -> bool {
        let alarm = self.own_alarm(AlarmKind::NoSpace);
        let view = self.view();
        let raised = view.has_alarm(alarm);
        if !raised && !self.is_marked(&*view) {
            return true;
        }
        let unmark = Command::MetaSet { key: self.mark_row(), value: Bytes::new() };
        for command in [Command::AlarmClear(alarm), unmark] {
            let timeout = self.options.request_timeout();
            if let Err(error) = self.consensus.propose(&command, timeout, None).await {
                tracing::warn!(%error, "cannot take back the space alarm; trying again");
                return false;
            }
        }
        if raised {
            tracing::info!("there is space again; the alarm is taken back and writes go on");
        }
        true
    }

    fn is_marked(&self, view: &dyn View) -> bool {
        view.meta(&self.mark_row()).is_ok_and(|row| row.is_some())
    }

    fn mark_row(&self) -> Bytes {
        format!("alarm/nospace/{:016x}", self.options.member_id).into_bytes().into()
    }
}

impl Inner {
    fn own_alarm(&self, kind: AlarmKind) -> Alarm {
        Alarm { member: self.options.member_id, kind }
    }

    /// Whether this member is the damaged one of several. The only one of its cluster goes on answering reads, as etcd
    /// does: there is nobody else to ask.
    pub(crate) fn is_isolated(&self, view: &dyn View) -> bool {
        view.has_alarm(self.own_alarm(AlarmKind::Corrupt)) && self.consensus.members().members.len() > 1
    }
}
