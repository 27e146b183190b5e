//! Entries of etcd's log as commands of this store.
//!
//! Owns: which request is which command. Called by: `snapshot::directory`. Invariant: a request that changes what clients see is
//! applied by the same code as a client's own, or refused; none is passed over.
//! Source: etcd `api/etcdserverpb/raft_internal.proto`, `server/etcdserver/apply`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use keelson_mvcc::types::{
    Alarm, AlarmKind, AuthCommand, Caller, Command, KeyRange, LogPosition, Permission,
};
use keelson_mvcc::{ApplyEntry, KvEngine, Store, StoreError};
use keelson_proto::etcdserverpb as pb;
use prost::Message;

use super::etcd_log::EtcdEntry;
use crate::convert;

/// Entries applied in one write of the engine.
const GROUP_ENTRIES: usize = 256;
/// etcd raises a lease's time to live to one and a half election timeouts, in whole seconds; with its defaults this.
const LEASE_TTL_S_MIN: i64 = 2;
/// Cost of a hash where an old etcd logged the password itself.
const BCRYPT_COST: u32 = 10;

/// What is in an entry. Everything that changes nothing is there too, so that what is left is unknown.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// Requests of API version 2: names of members and the like, kept apart from the keys.
    #[prost(bytes = "bytes", optional, tag = "2")]
    v2: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    range: Option<Bytes>,
    #[prost(message, optional, tag = "4")]
    put: Option<pb::PutRequest>,
    #[prost(message, optional, tag = "5")]
    delete_range: Option<pb::DeleteRangeRequest>,
    #[prost(message, optional, tag = "6")]
    txn: Option<pb::TxnRequest>,
    #[prost(message, optional, tag = "7")]
    compaction: Option<pb::CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    lease_grant: Option<pb::LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    lease_revoke: Option<pb::LeaseRevokeRequest>,
    #[prost(message, optional, tag = "10")]
    alarm: Option<pb::AlarmRequest>,
    #[prost(message, optional, tag = "11")]
    lease_checkpoint: Option<pb::LeaseCheckpointRequest>,
    #[prost(message, optional, tag = "100")]
    header: Option<Header>,
    #[prost(bytes = "bytes", optional, tag = "1000")]
    auth_enable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1011")]
    auth_disable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1012")]
    authenticate: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1013")]
    auth_status: Option<Bytes>,
    #[prost(message, optional, tag = "1100")]
    auth_user_add: Option<pb::AuthUserAddRequest>,
    #[prost(message, optional, tag = "1101")]
    auth_user_delete: Option<pb::AuthUserDeleteRequest>,
    #[prost(bytes = "bytes", optional, tag = "1102")]
    auth_user_get: Option<Bytes>,
    #[prost(message, optional, tag = "1103")]
    auth_user_change_password: Option<pb::AuthUserChangePasswordRequest>,
    #[prost(message, optional, tag = "1104")]
    auth_user_grant_role: Option<pb::AuthUserGrantRoleRequest>,
    #[prost(message, optional, tag = "1105")]
    auth_user_revoke_role: Option<pb::AuthUserRevokeRoleRequest>,
    #[prost(bytes = "bytes", optional, tag = "1106")]
    auth_user_list: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1107")]
    auth_role_list: Option<Bytes>,
    #[prost(message, optional, tag = "1200")]
    auth_role_add: Option<pb::AuthRoleAddRequest>,
    #[prost(message, optional, tag = "1201")]
    auth_role_delete: Option<pb::AuthRoleDeleteRequest>,
    #[prost(bytes = "bytes", optional, tag = "1202")]
    auth_role_get: Option<Bytes>,
    #[prost(message, optional, tag = "1203")]
    auth_role_grant_permission: Option<pb::AuthRoleGrantPermissionRequest>,
    #[prost(message, optional, tag = "1204")]
    auth_role_revoke_permission: Option<pb::AuthRoleRevokePermissionRequest>,
    #[prost(bytes = "bytes", optional, tag = "1300")]
    cluster_version_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1301")]
    cluster_member_attr_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1302")]
    downgrade_info_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9900")]
    downgrade_version_test: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    username: String,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

/// Why entries are not applied.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// An entry says something this build does not know.
    #[error("entry {index} of etcd's log: {fault}")]
    Unknown {
        /// Its index.
        index: u64,
        /// What.
        fault: String,
    },
    /// The store.
    #[error("apply the entries of etcd's log")]
    Store(#[from] StoreError),
}

/// Applies entries to a store that stands right before them.
///
/// # Errors
/// An unknown entry, or the store.
pub fn replay<E: KvEngine>(store: &mut Store<E>, entries: &[EtcdEntry]) -> Result<(), ReplayError> {
    for group in entries.chunks(GROUP_ENTRIES) {
        let mut position = store.applied().unwrap_or_default();
        let mut ready = Vec::with_capacity(group.len());
        for entry in group {
            position =
                LogPosition { term: position.term.max(entry.term), leader: 0, index: position.index + 1 };
            ready.push(match command(entry)? {
                Some(command) => ApplyEntry::Commands { position, commands: vec![command] },
                None => ApplyEntry::Blank { position },
            });
        }
        store.apply(&ready)?;
    }
    Ok(())
}

/// The command of an entry; `None` if it changes nothing that is taken over.
fn command(entry: &EtcdEntry) -> Result<Option<Command>, ReplayError> {
    let unknown = |fault: String| ReplayError::Unknown { index: entry.index, fault };
    // Members are new ones; a leader begins its term with an empty entry.
    if entry.kind != 0 || entry.data.is_empty() {
        return Ok(None);
    }
    let request = Request::decode(entry.data.clone()).map_err(|error| unknown(error.to_string()))?;
    let header = request.header.clone().unwrap_or_default();
    let command = match change(&request) {
        Ok(Some(command)) => command,
        Ok(None) if changes_nothing(&request) => return Ok(None),
        Ok(None) => return Err(unknown("a request this build does not know".to_owned())),
        Err(fault) => return Err(unknown(fault)),
    };
    Ok(Some(match header.username.is_empty() {
        true => command,
        false => Command::As {
            caller: Caller { user: header.username, auth_revision: header.auth_revision },
            command: Box::new(command),
        },
    }))
}

fn changes_nothing(request: &Request) -> bool {
    [
        &request.v2,
        &request.range,
        &request.authenticate,
        &request.auth_status,
        &request.auth_user_get,
        &request.auth_user_list,
        &request.auth_role_list,
        &request.auth_role_get,
        &request.cluster_version_set,
        &request.cluster_member_attr_set,
        &request.downgrade_info_set,
        &request.downgrade_version_test,
    ]
    .iter()
    .any(|request| request.is_some())
        // Asked for, and nothing raised or cleared.
        || request.alarm.is_some()
}

fn change(request: &Request) -> Result<Option<Command>, String> {
    let request = request.clone();
    Ok(Some(if let Some(put) = request.put {
        Command::Put(convert::put(put))
    } else if let Some(delete) = request.delete_range {
        Command::DeleteRange(convert::delete_range(delete))
    } else if let Some(txn) = request.txn {
        Command::Txn(convert::txn(txn))
    } else if let Some(compaction) = request.compaction {
        Command::Compact { revision: compaction.revision }
    } else if let Some(grant) = request.lease_grant {
        Command::LeaseGrant { id: grant.id, ttl_s: grant.ttl.max(LEASE_TTL_S_MIN) }
    } else if let Some(revoke) = request.lease_revoke {
        Command::LeaseRevoke { id: revoke.id, term: None }
    } else if let Some(checkpoint) = request.lease_checkpoint {
        let remaining = checkpoint.checkpoints.into_iter();
        Command::LeaseCheckpoint {
            remaining: remaining.map(|lease| (lease.id, lease.remaining_ttl)).collect(),
            term: None,
        }
    } else if let Some(alarm) = &request.alarm {
        match (alarm.action, alarm_of(alarm)) {
            (1, Some(alarm)) => Command::AlarmRaise(alarm),
            (2, Some(alarm)) => Command::AlarmClear(alarm),
            _ => return Ok(None),
        }
    } else {
        return auth(request).map(|command| command.map(Command::Auth));
    }))
}

fn alarm_of(alarm: &pb::AlarmRequest) -> Option<Alarm> {
    let kind = match alarm.alarm {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return None,
    };
    Some(Alarm { member: alarm.member_id, kind })
}

fn auth(request: Request) -> Result<Option<AuthCommand>, String> {
    Ok(Some(if request.auth_enable.is_some() {
        AuthCommand::Enable
    } else if request.auth_disable.is_some() {
        AuthCommand::Disable
    } else if let Some(user) = request.auth_user_add {
        let no_password = user.options.is_some_and(|options| options.no_password);
        let password = if no_password { None } else { Some(hash(&user.hashed_password, &user.password)?) };
        AuthCommand::UserAdd { name: user.name, password }
    } else if let Some(user) = request.auth_user_delete {
        AuthCommand::UserDelete { name: user.name }
    } else if let Some(user) = request.auth_user_change_password {
        let password = Some(hash(&user.hashed_password, &user.password)?);
        AuthCommand::UserSetPassword { name: user.name, password }
    } else if let Some(grant) = request.auth_user_grant_role {
        AuthCommand::UserGrantRole { user: grant.user, role: grant.role }
    } else if let Some(revoke) = request.auth_user_revoke_role {
        AuthCommand::UserRevokeRole { user: revoke.name, role: revoke.role }
    } else if let Some(role) = request.auth_role_add {
        AuthCommand::RoleAdd { name: role.name }
    } else if let Some(role) = request.auth_role_delete {
        AuthCommand::RoleDelete { name: role.role }
    } else if let Some(grant) = request.auth_role_grant_permission {
        let permission = grant.perm.map(|given| Permission {
            kind: given.perm_type,
            range: KeyRange { key: given.key, end: given.range_end },
        });
        AuthCommand::RoleGrant { role: grant.name, permission }
    } else if let Some(revoke) = request.auth_role_revoke_permission {
        let range = KeyRange { key: revoke.key, end: revoke.range_end };
        AuthCommand::RoleRevoke { role: revoke.role, range }
    } else {
        return Ok(None);
    }))
}

/// The hash as logged since 3.5, or of the password as logged before.
fn hash(hashed: &str, password: &str) -> Result<Bytes, String> {
    if !hashed.is_empty() {
        return STANDARD
            .decode(hashed)
            .map(Bytes::from)
            .map_err(|error| format!("hash of a password: {error}"));
    }
    let hash = bcrypt::hash_with_result(password, BCRYPT_COST).map_err(|error| error.to_string())?;
    Ok(Bytes::from(hash.format_for_version(bcrypt::Version::TwoA)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(data: &[u8]) -> EtcdEntry {
        EtcdEntry { kind: 0, term: 1, index: 9, data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn a_request_becomes_the_command_a_client_would_make() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let mut request = Request { put: Some(put.clone()), ..Default::default() };
        assert_eq!(
            command(&entry(&request.encode_to_vec())).unwrap(),
            Some(Command::Put(convert::put(put.clone())))
        );
        request.header = Some(Header { id: 1, username: "alice".to_owned(), auth_revision: 7 });
        let Some(Command::As { caller, .. }) = command(&entry(&request.encode_to_vec())).unwrap() else {
            panic!("the user is kept")
        };
        assert_eq!((caller.user.as_str(), caller.auth_revision), ("alice", 7));
    }

    #[test]
    fn what_is_not_known_is_refused_and_what_changes_nothing_passed_over() {
        // Field 77, a message.
        let unknown = command(&entry(&[0xea, 0x04, 0x00])).unwrap_err().to_string();
        assert!(unknown.contains("entry 9") && unknown.contains("does not know"), "{unknown}");
        assert!(command(&entry(&[0xff; 4])).is_err());
        assert_eq!(command(&entry(&[])).unwrap(), None);
        let login = Request { authenticate: Some(Bytes::new()), ..Default::default() };
        assert_eq!(command(&entry(&login.encode_to_vec())).unwrap(), None);
        assert_eq!(command(&EtcdEntry { kind: 1, ..entry(&[0xff; 4]) }).unwrap(), None);
    }
}
