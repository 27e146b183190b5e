//! The words of authentication: commands, errors, permissions.

use bytes::Bytes;

use crate::types::KeyRange;

/// Who asks for something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Name of the user.
    pub user: String,
    /// The auth revision at which it was established that the user asks. A command that needs a right is refused once
    /// the store is past it.
    pub auth_revision: u64,
}

/// A right of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// As the API numbers it: 0 read, 1 write, 2 both; other numbers are kept and mean nothing.
    pub kind: i32,
    /// The keys.
    pub range: KeyRange,
}

/// A change of users, roles or permissions, or a login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AuthCommand {
    Enable,
    Disable,
    /// The password was right at `checked_revision`; every member learns the token.
    Login {
        user: String,
        token: String,
        checked_revision: u64,
    },
    /// `password` is the hash; `None` for a user that logs in by certificate.
    UserAdd {
        name: String,
        password: Option<Bytes>,
    },
    UserDelete {
        name: String,
    },
    /// `password` is the hash; `None` where the client sent something that is none.
    UserSetPassword {
        name: String,
        password: Option<Bytes>,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrant {
        role: String,
        permission: Option<Permission>,
    },
    RoleRevoke {
        role: String,
        range: KeyRange,
    },
}

/// A login that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name of the user.
    pub user: String,
    /// What the user shows from now on.
    pub token: String,
    /// Auth revision of the login; see [`super::Auth::login_counts`].
    pub revision: u64,
}

/// Why authentication refused something. Deterministic: the same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AuthError {
    #[error("there is no user root")]
    RootUserMissing,
    #[error("the user root lacks the role root")]
    RootRoleMissing,
    #[error("the user exists")]
    UserExists,
    #[error("no user is named")]
    UserEmpty,
    #[error("there is no such user")]
    UserNotFound,
    #[error("the role exists")]
    RoleExists,
    #[error("no role is named")]
    RoleEmpty,
    #[error("there is no such role")]
    RoleNotFound,
    #[error("no permission is given")]
    PermissionNotGiven,
    #[error("the login is wrong")]
    LoginFailed,
    #[error("the user has no password")]
    NoPasswordUser,
    #[error("the user lacks the right")]
    PermissionDenied,
    #[error("the user does not have the role")]
    RoleNotGranted,
    #[error("the role does not have the permission")]
    PermissionNotGranted,
    #[error("authentication is off")]
    NotEnabled,
    #[error("users or roles have changed since the caller was established")]
    OldRevision,
    #[error("root stays root while authentication is on, and a range ends after it begins")]
    InvalidManagement,
}
