//! Every error a client can see: its gRPC code and its exact text.
//!
//! Owns: the table, and the mapping of the lower crates' errors onto it. Called by: every service. Invariants: the
//! official clients recognise an error by its text alone, so a text is never changed, and no other module of this
//! crate writes a status text that begins with `etcdserver:`.
//! Source: etcd `api/v3rpc/rpctypes/error.go` (codes and texts), `server/etcdserver/api/v3rpc/util.go` (mapping).

use keelson_mvcc::types::{ApplyError, AuthError, ReadError};
use keelson_proto::code_name;
use keelson_raftstore::consensus::{MemberError, ProposeError, ReadIndexError, TimeoutCause, TransferError};
use tonic::{Code, Status};

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The code on the wire.
    pub code: Code,
    /// The whole text on the wire.
    pub text: &'static str,
}

impl WireError {
    /// The error as a gRPC status.
    pub fn status(self) -> Status {
        Status::new(self.code, self.text)
    }

    /// The error as Go prints it; watch cancel reasons are written so.
    pub fn go_string(self) -> String {
        format!("rpc error: code = {} desc = {}", code_name(self.code), self.text)
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Status {
        error.status()
    }
}

macro_rules! table {
    ($($name:ident = $code:ident $text:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($code), "`: ", $text)]
            pub const $name: WireError = WireError { code: Code::$code, text: $text };
        )*
        /// The whole table, in order of code.
        pub const TABLE: &[WireError] = &[$($name),*];
    };
}

table! {
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION = InvalidArgument "etcdserver: invalid client api version";
    INVALID_SORT_OPTION = InvalidArgument "etcdserver: invalid sort option";
    MEMBER_BAD_URLS = InvalidArgument "etcdserver: given member URLs are invalid";
    REQUEST_TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    USER_EMPTY = InvalidArgument "etcdserver: user name is empty";
    ROLE_EMPTY = InvalidArgument "etcdserver: role name is empty";
    AUTH_FAILED = InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN = InvalidArgument "etcdserver: permission not given";
    INVALID_AUTH_MGMT = InvalidArgument "etcdserver: invalid auth management";
    AUTH_OLD_REVISION = InvalidArgument "etcdserver: revision of auth store is old";
    WRONG_DOWNGRADE_VERSION_FORMAT = InvalidArgument "etcdserver: wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET_VERSION = InvalidArgument "etcdserver: invalid downgrade target version";

    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    LEASE_TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";

    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";

    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found";

    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    MEMBER_EXISTS = FailedPrecondition "etcdserver: member ID already exist";
    PEER_URL_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists";
    MEMBER_NOT_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition "etcdserver: too many learner members in cluster";
    CLUSTER_ID_MISMATCH = FailedPrecondition "etcdserver: cluster ID mismatch";
    ROOT_USER_NOT_EXIST = FailedPrecondition "etcdserver: root user does not exist";
    ROOT_ROLE_NOT_EXIST = FailedPrecondition "etcdserver: root user does not have root role";
    USER_ALREADY_EXIST = FailedPrecondition "etcdserver: user name already exists";
    USER_NOT_FOUND = FailedPrecondition "etcdserver: user name not found";
    ROLE_ALREADY_EXIST = FailedPrecondition "etcdserver: role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition "etcdserver: role name not found";
    ROLE_NOT_GRANTED = FailedPrecondition "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    NOT_LEADER = FailedPrecondition "etcdserver: not leader";
    NOT_CAPABLE = FailedPrecondition "etcdserver: not capable";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition "etcdserver: rpc not supported for learner";
    BAD_LEADER_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee";
    CLUSTER_VERSION_UNAVAILABLE = FailedPrecondition "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROCESS = FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE = FailedPrecondition "etcdserver: no inflight downgrade job";

    WATCH_CANCELED = Cancelled "etcdserver: watch canceled";
    CANCELED = Cancelled "etcdserver: request canceled";

    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";

    INVALID_AUTH_TOKEN = Unauthenticated "etcdserver: invalid auth token";

    NO_LEADER = Unavailable "etcdserver: no leader";
    LEADER_CHANGED = Unavailable "etcdserver: leader changed";
    STOPPED = Unavailable "etcdserver: server stopped";
    TIMEOUT = Unavailable "etcdserver: request timed out";
    TIMEOUT_LEADER_FAIL = Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_CONNECTION_LOST = Unavailable "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_WAIT_APPLIED = Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster";

    CORRUPT = DataLoss "etcdserver: corrupt cluster";

    DEADLINE_EXCEEDED = DeadlineExceeded "etcdserver: context deadline exceeded";

    // etcd's own table files these two under FailedPrecondition and ResourceExhausted, but its server hands out the
    // client-side error value, which gRPC sends as Unknown. Clients only look at the text.
    MEMBER_NOT_ENOUGH_STARTED = Unknown "etcdserver: re-configuration failed due to not enough started members";
    TOO_MANY_REQUESTS = Unknown "etcdserver: too many requests";

    // Errors that etcd's mapping does not know reach the client as Unknown with their own text.
    TIMEOUT_LEADER_TRANSFER = Unknown "etcdserver: request timed out, leader transfer took too long";
    UNKNOWN_METHOD = Unknown "etcdserver: unknown method";
    NOT_PRIMARY_LESSOR = Unknown "not a primary lessor";

    // Ours: etcd keeps leases in memory and cannot fail to read one.
    LEASE_UNREADABLE = Unknown "storage engine: lease cannot be read";

    NO_PASSWORD_USER = Unknown "auth: authentication failed, password was given for no password user";
    VERIFY_ONLY = Unknown "auth: token signing attempted with verify-only key";
    PASSWORD_TOO_LONG = Unknown "bcrypt: password length exceeds 72 bytes";

    // The lock and election services.
    LOCK_SESSION_EXPIRED = Unknown "mutex: session is expired";
    ELECTION_NOT_LEADER = Unknown "election: not leader";
    ELECTION_NO_LEADER = Unknown "election: no leader";
    ELECTION_LEADER_MISSING = Unknown "\"leader\" field must be provided";

    // Plain gRPC texts of grpc-go.
    CLIENT_DEADLINE = DeadlineExceeded "context deadline exceeded";
    STREAM_SORT = Unimplemented "RangeStream does not support custom sort orders";
    STREAM_FILTERS = Unimplemented "RangeStream does not support revision filters";
}

/// How an apply refused a command.
pub fn from_apply(error: &ApplyError) -> WireError {
    match error {
        ApplyError::KeyNotFound => KEY_NOT_FOUND,
        ApplyError::LeaseNotFound(_) => LEASE_NOT_FOUND,
        ApplyError::LeaseExists(_) => LEASE_EXISTS,
        ApplyError::Compacted { .. } => COMPACTED,
        ApplyError::FutureRevision { .. } => FUTURE_REVISION,
        ApplyError::NoSpace => NO_SPACE,
        ApplyError::Corrupt => CORRUPT,
        ApplyError::Auth(error) => from_auth(*error),
    }
}

/// How authentication refused a request.
pub fn from_auth(error: AuthError) -> WireError {
    match error {
        AuthError::RootUserMissing => ROOT_USER_NOT_EXIST,
        AuthError::RootRoleMissing => ROOT_ROLE_NOT_EXIST,
        AuthError::UserExists => USER_ALREADY_EXIST,
        AuthError::UserEmpty => USER_EMPTY,
        AuthError::UserNotFound => USER_NOT_FOUND,
        AuthError::RoleExists => ROLE_ALREADY_EXIST,
        AuthError::RoleEmpty => ROLE_EMPTY,
        AuthError::RoleNotFound => ROLE_NOT_FOUND,
        AuthError::PermissionNotGiven => PERMISSION_NOT_GIVEN,
        AuthError::LoginFailed => AUTH_FAILED,
        AuthError::NoPasswordUser => NO_PASSWORD_USER,
        AuthError::PermissionDenied => PERMISSION_DENIED,
        AuthError::RoleNotGranted => ROLE_NOT_GRANTED,
        AuthError::PermissionNotGranted => PERMISSION_NOT_GRANTED,
        AuthError::NotEnabled => AUTH_NOT_ENABLED,
        AuthError::OldRevision => AUTH_OLD_REVISION,
        AuthError::InvalidManagement => INVALID_AUTH_MGMT,
    }
}

/// Why a read failed. An engine error keeps its text: it means a broken disk, and the operator must see it.
pub fn from_read(error: ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => COMPACTED.status(),
        ReadError::FutureRevision { .. } => FUTURE_REVISION.status(),
        ReadError::Engine(reason) => {
            tracing::error!(reason, "reading the storage engine failed");
            Status::unknown(format!("storage engine: {reason}"))
        }
    }
}

/// Why a proposal has no reply.
pub fn from_propose(error: ProposeError) -> WireError {
    match error {
        ProposeError::Timeout(cause) => from_timeout(cause),
        ProposeError::LeaderChanged => LEADER_CHANGED,
        ProposeError::TooLarge => REQUEST_TOO_LARGE,
        ProposeError::Overloaded => TOO_MANY_REQUESTS,
        ProposeError::Stopped => STOPPED,
    }
}

/// Why a linearizable read cannot be served.
pub fn from_read_index(error: ReadIndexError) -> WireError {
    match error {
        ReadIndexError::Timeout(cause) => from_timeout(cause),
        ReadIndexError::Stopped => STOPPED,
    }
}

/// Why a change of the membership was refused.
pub fn from_member(error: &MemberError) -> Result<WireError, Status> {
    Ok(match error {
        MemberError::NotFound => MEMBER_NOT_FOUND,
        MemberError::Exists => MEMBER_EXISTS,
        MemberError::PeerUrlExists => PEER_URL_EXISTS,
        MemberError::NotLearner => MEMBER_NOT_LEARNER,
        MemberError::LearnerNotReady => LEARNER_NOT_READY,
        MemberError::TooManyLearners => TOO_MANY_LEARNERS,
        MemberError::NotEnoughStarted => MEMBER_NOT_ENOUGH_STARTED,
        MemberError::Unhealthy => UNHEALTHY,
        MemberError::Timeout(cause) => from_timeout(*cause),
        MemberError::Stopped => STOPPED,
        MemberError::Refused(reason) => return Err(Status::unknown(reason.clone())),
    })
}

/// Why leadership was not handed over.
pub fn from_transfer(error: TransferError) -> WireError {
    match error {
        TransferError::NotLeader => NOT_LEADER,
        TransferError::BadTransferee => BAD_LEADER_TRANSFEREE,
        TransferError::Timeout => TIMEOUT_LEADER_TRANSFER,
        TransferError::Stopped => STOPPED,
    }
}

fn from_timeout(cause: TimeoutCause) -> WireError {
    match cause {
        TimeoutCause::Plain => TIMEOUT,
        TimeoutCause::LeaderFailed => TIMEOUT_LEADER_FAIL,
        TimeoutCause::ConnectionLost => TIMEOUT_CONNECTION_LOST,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The client-visible errors of etcd 3.7 as "code text", in order of code: written down a second time, because
    /// a typing error in the table would otherwise be invisible.
    const EXPECTED: &str = include_str!("errors_expected.txt");

    #[test]
    fn the_table_is_the_published_list() {
        let written: BTreeSet<String> =
            TABLE.iter().map(|error| format!("{} {}", error.code as i32, error.text)).collect();
        let expected: BTreeSet<String> =
            EXPECTED.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn texts_are_unique() {
        let texts: BTreeSet<&str> = TABLE.iter().map(|error| error.text).collect();
        assert_eq!(texts.len(), TABLE.len());
    }

    #[test]
    fn a_cancel_reason_reads_as_go_prints_it() {
        assert_eq!(
            PERMISSION_DENIED.go_string(),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        );
    }
}
