//! What raised alarms forbid.
//!
//! Owns: the rules. Called by: apply. Source: etcd 3.7 `server/etcdserver/apply/capped.go` and `corrupt.go` for
//! behaviour.

use crate::types::{Alarm, AlarmKind, ApplyError, Command, Txn, TxnOp};

/// Refuses a command that a raised alarm forbids.
pub(crate) fn check(alarms: &[Alarm], command: &Command) -> Result<(), ApplyError> {
    if alarms.is_empty() {
        return Ok(());
    }
    let raised = |kind| alarms.iter().any(|alarm| alarm.kind == kind);
    if raised(AlarmKind::Corrupt) && is_kept_from_damaged_data(command) {
        return Err(ApplyError::Corrupt);
    }
    if raised(AlarmKind::NoSpace) && takes_space(command) {
        return Err(ApplyError::NoSpace);
    }
    Ok(())
}

fn is_kept_from_damaged_data(command: &Command) -> bool {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. } => true,
        Command::LeaseCheckpoint { .. }
        | Command::AlarmRaise(_)
        | Command::AlarmClear(_)
        | Command::MetaSet { .. }
        | Command::Auth(_)
        | Command::As { .. } => false,
    }
}

fn takes_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => has_put(txn),
        _ => false,
    }
}

/// Either branch counts, whichever would be taken.
fn has_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        TxnOp::Put(_) => true,
        TxnOp::Txn(nested) => has_put(nested),
        TxnOp::Range(_) | TxnOp::DeleteRange(_) => false,
    })
}
