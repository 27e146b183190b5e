//! The gRPC methods and status codes that are counted.
//!
//! Owns: the table. Invariants: fixed at compile time, so clients cannot create series. Called by: [`super::grpc`].
//! Source: etcd's service definitions; which series exist from the start is from a scrape of etcd 3.7.3.

use super::text::Label;

/// How a method talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Unary,
    ServerStream,
    BidiStream,
}

impl Style {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Style::Unary => "unary",
            Style::ServerStream => "server_stream",
            Style::BidiStream => "bidi_stream",
        }
    }
}

pub(crate) struct Method {
    pub(crate) path: &'static str,
    pub(crate) style: Style,
    /// Whether its series exist before the first call. etcd registers Lock and Election after it has listed methods.
    pub(crate) listed: bool,
}

impl Method {
    pub(crate) fn service(&self) -> &'static str {
        self.path[1..].split_once('/').map_or("", |(service, _)| service)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.path[1..].split_once('/').map_or("", |(_, name)| name)
    }
}

const fn unary(path: &'static str) -> Method {
    Method { path, style: Style::Unary, listed: true }
}

const fn stream(path: &'static str, style: Style) -> Method {
    Method { path, style, listed: true }
}

const fn late(path: &'static str, style: Style) -> Method {
    Method { path, style, listed: false }
}

/// All methods, the busy ones first because the table is searched from the front.
pub(crate) static METHODS: &[Method] = &[
    unary("/etcdserverpb.KV/Range"),
    unary("/etcdserverpb.KV/Txn"),
    unary("/etcdserverpb.KV/Put"),
    stream("/etcdserverpb.Watch/Watch", Style::BidiStream),
    stream("/etcdserverpb.Lease/LeaseKeepAlive", Style::BidiStream),
    unary("/etcdserverpb.Lease/LeaseGrant"),
    unary("/etcdserverpb.KV/DeleteRange"),
    unary("/etcdserverpb.KV/Compact"),
    stream("/etcdserverpb.KV/RangeStream", Style::ServerStream),
    unary("/etcdserverpb.Lease/LeaseRevoke"),
    unary("/etcdserverpb.Lease/LeaseTimeToLive"),
    unary("/etcdserverpb.Lease/LeaseLeases"),
    unary("/etcdserverpb.Maintenance/Status"),
    unary("/etcdserverpb.Maintenance/Alarm"),
    unary("/etcdserverpb.Maintenance/Defragment"),
    unary("/etcdserverpb.Maintenance/Hash"),
    unary("/etcdserverpb.Maintenance/HashKV"),
    stream("/etcdserverpb.Maintenance/Snapshot", Style::ServerStream),
    unary("/etcdserverpb.Maintenance/MoveLeader"),
    unary("/etcdserverpb.Maintenance/Downgrade"),
    unary("/etcdserverpb.Cluster/MemberAdd"),
    unary("/etcdserverpb.Cluster/MemberRemove"),
    unary("/etcdserverpb.Cluster/MemberUpdate"),
    unary("/etcdserverpb.Cluster/MemberList"),
    unary("/etcdserverpb.Cluster/MemberPromote"),
    unary("/etcdserverpb.Auth/Authenticate"),
    unary("/etcdserverpb.Auth/AuthEnable"),
    unary("/etcdserverpb.Auth/AuthDisable"),
    unary("/etcdserverpb.Auth/AuthStatus"),
    unary("/etcdserverpb.Auth/UserAdd"),
    unary("/etcdserverpb.Auth/UserGet"),
    unary("/etcdserverpb.Auth/UserList"),
    unary("/etcdserverpb.Auth/UserDelete"),
    unary("/etcdserverpb.Auth/UserChangePassword"),
    unary("/etcdserverpb.Auth/UserGrantRole"),
    unary("/etcdserverpb.Auth/UserRevokeRole"),
    unary("/etcdserverpb.Auth/RoleAdd"),
    unary("/etcdserverpb.Auth/RoleGet"),
    unary("/etcdserverpb.Auth/RoleList"),
    unary("/etcdserverpb.Auth/RoleDelete"),
    unary("/etcdserverpb.Auth/RoleGrantPermission"),
    unary("/etcdserverpb.Auth/RoleRevokePermission"),
    unary("/grpc.health.v1.Health/Check"),
    unary("/grpc.health.v1.Health/List"),
    stream("/grpc.health.v1.Health/Watch", Style::ServerStream),
    late("/v3lockpb.Lock/Lock", Style::Unary),
    late("/v3lockpb.Lock/Unlock", Style::Unary),
    late("/v3electionpb.Election/Campaign", Style::Unary),
    late("/v3electionpb.Election/Proclaim", Style::Unary),
    late("/v3electionpb.Election/Leader", Style::Unary),
    late("/v3electionpb.Election/Observe", Style::ServerStream),
    late("/v3electionpb.Election/Resign", Style::Unary),
];

/// Names of the gRPC status codes, by number.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub(crate) const CANCELED: usize = 1;
pub(crate) const UNKNOWN: usize = 2;

/// Number of the method with this path.
pub(crate) fn find(path: &str) -> Option<usize> {
    METHODS.iter().position(|method| method.path == path)
}

/// Labels of a method, sorted.
pub(crate) fn labels(method: usize) -> [Label<'static>; 3] {
    let method = &METHODS[method];
    [("grpc_method", method.name()), ("grpc_service", method.service()), ("grpc_type", method.style.label())]
}
