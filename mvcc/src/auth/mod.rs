//! Users, roles and permissions: what is replicated of authentication, and who may do what by it.
//!
//! Owns: [`Auth`], one immutable value in every view. Called by: apply (changes it, and asks it about writes), the API
//! (asks it about reads and logins). Invariants: no clock, no randomness and no password check here, so every member
//! decides the same; the auth revision rises with every change that can take or give a right; the rights of a user are
//! worked out once and dropped when one of its roles changes.
//! Source: etcd 3.7 `server/auth/store.go` for behaviour.

mod check;
mod rights;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::types::KeyRange;

pub(crate) use check::check_command;
pub use check::check_txn;
pub use types::{AuthCommand, AuthError, Caller, Login, Permission};

use rights::Rights;

/// The user every cluster with authentication has, and the role that may do everything.
pub const ROOT: &str = "root";

/// What a caller wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// See them.
    Read,
    /// Change or delete them.
    Write,
}

/// A user.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The bcrypt hash; empty for a user that cannot log in by password.
    pub password: Bytes,
    /// Logs in by certificate only.
    pub no_password: bool,
    /// Sorted.
    pub roles: Vec<String>,
    /// Auth revision of the creation or the last change of the password: tokens from before are void.
    pub since: u64,
    /// Worked out at the first question.
    rights: OnceLock<Rights>,
}

impl User {
    pub(crate) fn new(password: Bytes, no_password: bool, roles: Vec<String>, since: u64) -> Self {
        User { password, no_password, roles, since, rights: OnceLock::new() }
    }

    fn has(&self, role: &str) -> bool {
        self.roles.binary_search_by(|own| own.as_str().cmp(role)).is_ok()
    }
}

/// See the module. Cheap to clone as long as there are not many users.
#[derive(Clone, Debug)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    /// Auth revision of the last time authentication was switched off: tokens from before are void.
    closed: u64,
    users: BTreeMap<String, Arc<User>>,
    /// Permissions sorted by key.
    roles: BTreeMap<String, Arc<Vec<Permission>>>,
}

impl Default for Auth {
    fn default() -> Self {
        Auth { enabled: false, revision: 1, closed: 0, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Auth {
    /// Whether requests need a user.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes; a fresh store is at 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Tokens of logins at an earlier auth revision are void.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// A user by its name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// All users, in order of their names.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), &**user))
    }

    /// The permissions of a role, in order of their keys.
    pub fn role(&self, name: &str) -> Option<&[Permission]> {
        self.roles.get(name).map(|role| role.as_slice())
    }

    /// All roles, in order of their names.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &[Permission])> {
        self.roles.iter().map(|(name, permissions)| (name.as_str(), permissions.as_slice()))
    }

    /// Whether a login of `user` at auth revision `revision` still counts.
    pub fn login_counts(&self, user: &str, revision: u64) -> bool {
        self.enabled && revision >= self.closed && self.user(user).is_some_and(|user| revision >= user.since)
    }

    /// Refuses everybody but users with the role root. Old auth revisions do not matter here, as in etcd.
    ///
    /// # Errors
    /// Nobody asks, the user is gone, or it is an ordinary one.
    pub fn check_admin(&self, caller: Option<&Caller>) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller.filter(|caller| !caller.user.is_empty()).ok_or(AuthError::UserEmpty)?;
        let user = self.user(&caller.user).ok_or(AuthError::UserNotFound)?;
        if user.has(ROOT) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Refuses a caller that may not do this with every key of the range, given as the request has it.
    ///
    /// # Errors
    /// Nobody asks, the caller's auth revision is old, or the right is missing.
    pub fn check(&self, caller: Option<&Caller>, access: Access, range: &KeyRange) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller.filter(|caller| caller.auth_revision != 0).ok_or(AuthError::UserEmpty)?;
        if caller.auth_revision < self.revision {
            return Err(AuthError::OldRevision);
        }
        let user = self.user(&caller.user).ok_or(AuthError::PermissionDenied)?;
        if user.has(ROOT) || self.rights(user).cover(access, range) {
            Ok(())
        } else {
            Err(AuthError::PermissionDenied)
        }
    }

    /// Whether the caller has the role.
    pub fn has_role(&self, caller: Option<&Caller>, role: &str) -> bool {
        caller.and_then(|caller| self.user(&caller.user)).is_some_and(|user| user.has(role))
    }

    fn rights<'a>(&'a self, user: &'a User) -> &'a Rights {
        user.rights.get_or_init(|| Rights::of(user.roles.iter().filter_map(|role| self.role(role)).flatten()))
    }

    pub(crate) fn restore(enabled: bool, revision: u64, closed: u64) -> Self {
        Auth { enabled, revision, closed, ..Auth::default() }
    }

    pub(crate) fn bump(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        if !enabled {
            self.closed = self.revision;
        }
    }

    pub(crate) fn set_user(&mut self, name: String, user: Option<User>) {
        match user {
            Some(user) => self.users.insert(name, Arc::new(user)),
            None => self.users.remove(&name),
        };
    }

    /// Every user with the role is asked about its rights anew.
    pub(crate) fn set_role(&mut self, name: String, permissions: Option<Vec<Permission>>) {
        for user in self.users.values_mut().filter(|user| user.has(&name)) {
            *user = Arc::new(User { rights: OnceLock::new(), ..(**user).clone() });
        }
        match permissions {
            Some(permissions) => self.roles.insert(name, Arc::new(permissions)),
            None => self.roles.remove(&name),
        };
    }
}
