//! Which rights a command needs.
//!
//! Owns: the rules, request by request. Called by: apply, before it runs a command while authentication is on; the API
//! for transactions that only read. Invariant: every part of a request is looked at, whichever branch will run.
//! Source: etcd 3.7 `server/etcdserver/apply/auth.go`.

use bytes::Bytes;

use super::{Access, Auth, AuthCommand, AuthError, Caller};
use crate::types::{Command, DeleteRange, KeyRange, LeaseId, Put, Txn, TxnOp};

/// What a check asks the store: the keys of a lease.
type Keys<'a, F> = dyn FnMut(LeaseId) -> Result<Vec<Bytes>, F> + 'a;

/// Refuses a command its caller has no right to. What is not listed is judged before it is proposed, or comes from the
/// members themselves.
pub(crate) fn check_command<F: From<AuthError>>(
    auth: &Auth,
    caller: Option<&Caller>,
    command: &Command,
    lease_keys: &mut Keys<'_, F>,
) -> Result<(), F> {
    let mut check = Check { auth, caller, lease_keys };
    match command {
        Command::Put(put) => check.put(put),
        Command::DeleteRange(delete) => check.delete(delete),
        Command::Txn(txn) => check.txn(txn),
        Command::LeaseRevoke { id, term: None } => check.lease(*id),
        Command::Auth(AuthCommand::Login { .. }) => Ok(()),
        Command::Auth(_) => Ok(auth.check_admin(caller)?),
        Command::LeaseRevoke { term: Some(_), .. }
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::AlarmRaise(_)
        | Command::AlarmClear(_)
        | Command::MetaSet { .. }
        | Command::As { .. } => Ok(()),
    }
}

/// Refuses a transaction without leases, such as one that only reads.
///
/// # Errors
/// As [`Auth::check`], for the first part that is refused.
pub fn check_txn(auth: &Auth, caller: Option<&Caller>, txn: &Txn) -> Result<(), AuthError> {
    Check { auth, caller, lease_keys: &mut |_| Ok(Vec::new()) }.txn(txn)
}

struct Check<'a, 'b, F> {
    auth: &'a Auth,
    caller: Option<&'a Caller>,
    lease_keys: &'a mut Keys<'b, F>,
}

impl<F: From<AuthError>> Check<'_, '_, F> {
    fn put(&mut self, put: &Put) -> Result<(), F> {
        let key = KeyRange::single(put.key.clone());
        self.auth.check(self.caller, Access::Write, &key)?;
        if put.lease != 0 {
            // A lease with keys of others cannot be revoked by this caller, so it must not take part in it.
            self.lease(put.lease)?;
        }
        if put.prev_kv {
            self.auth.check(self.caller, Access::Read, &key)?;
        }
        Ok(())
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<(), F> {
        self.auth.check(self.caller, Access::Write, &delete.range)?;
        if delete.prev_kv {
            self.auth.check(self.caller, Access::Read, &delete.range)?;
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn) -> Result<(), F> {
        for compare in &txn.compare {
            self.auth.check(self.caller, Access::Read, &compare.range)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Range(options) => self.auth.check(self.caller, Access::Read, &options.range)?,
                TxnOp::Put(put) => self.put(put)?,
                TxnOp::DeleteRange(delete) => self.delete(delete)?,
                TxnOp::Txn(nested) => self.txn(nested)?,
            }
        }
        Ok(())
    }

    fn lease(&mut self, id: LeaseId) -> Result<(), F> {
        if self.auth.check_admin(self.caller).is_ok() {
            return Ok(());
        }
        for key in (self.lease_keys)(id)? {
            self.auth.check(self.caller, Access::Write, &KeyRange::single(key))?;
        }
        Ok(())
    }
}
