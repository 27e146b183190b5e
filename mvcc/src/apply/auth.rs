//! Users, roles, permissions and logins, as they are applied.
//!
//! Source: etcd 3.7 `server/auth/store.go` for behaviour, the order of its checks included.

use std::sync::Arc;

use super::{Fail, Group};
use crate::auth::{AuthCommand, AuthError, Caller, Login, Permission, ROOT, User, check_command};
use crate::engine::{EngineBatch, Family, KvEngine};
use crate::layout::{AUTH_KEY, auth_value, role_row, role_row_key, user_row, user_row_key};
use crate::types::{Command, KeyRange, LogPosition, Outcome};

impl<E: KvEngine> Group<'_, E> {
    /// Refuses what the caller has no right to.
    pub(super) fn authorize(&self, caller: Option<&Caller>, command: &Command) -> Result<(), Fail> {
        if !self.state.auth.is_enabled() {
            return Ok(());
        }
        check_command(&self.state.auth, caller, command, &mut |lease| {
            Ok(self.attached(lease)?.into_iter().collect())
        })
    }

    pub(super) fn change_auth(
        &mut self,
        command: &AuthCommand,
        position: LogPosition,
    ) -> Result<Outcome, Fail> {
        match command {
            AuthCommand::Enable => self.enable()?,
            AuthCommand::Disable => self.disable(),
            AuthCommand::Login { user, token, checked_revision } => {
                return self.login(user, token, *checked_revision, position);
            }
            AuthCommand::UserAdd { name, password } => {
                if name.is_empty() {
                    return Err(AuthError::UserEmpty.into());
                }
                if self.state.auth.user(name).is_some() {
                    return Err(AuthError::UserExists.into());
                }
                let hash = password.clone().unwrap_or_default();
                let since = self.state.auth.revision() + 1;
                self.write_user(name, Some(User::new(hash, password.is_none(), Vec::new(), since)));
                self.bump();
            }
            AuthCommand::UserDelete { name } => {
                self.keep_root(name == ROOT)?;
                self.user(name)?;
                self.write_user(name, None);
                self.bump();
            }
            AuthCommand::UserSetPassword { name, password } => {
                let user = self.user(name)?;
                let password = match password {
                    _ if user.no_password => Default::default(),
                    Some(password) => password.clone(),
                    None => return Err(AuthError::NoPasswordUser.into()),
                };
                let since = self.state.auth.revision() + 1;
                self.write_user(name, Some(User::new(password, user.no_password, user.roles, since)));
                self.bump();
            }
            AuthCommand::UserGrantRole { user: name, role } => {
                let mut user = self.user(name)?;
                if role != ROOT && self.state.auth.role(role).is_none() {
                    return Err(AuthError::RoleNotFound.into());
                }
                if let Err(at) = user.roles.binary_search(role) {
                    user.roles.insert(at, role.clone());
                    self.write_roles(name, user);
                    self.bump();
                }
            }
            AuthCommand::UserRevokeRole { user: name, role } => {
                self.keep_root(name == ROOT && role == ROOT)?;
                let mut user = self.user(name)?;
                let at = user.roles.binary_search(role).map_err(|_| AuthError::RoleNotGranted)?;
                user.roles.remove(at);
                self.write_roles(name, user);
                self.bump();
            }
            AuthCommand::RoleAdd { name } => {
                if name.is_empty() {
                    return Err(AuthError::RoleEmpty.into());
                }
                if self.state.auth.role(name).is_some() {
                    return Err(AuthError::RoleExists.into());
                }
                self.write_role(name, Some(Vec::new()));
                self.bump();
            }
            AuthCommand::RoleDelete { name } => self.delete_role(name)?,
            AuthCommand::RoleGrant { role, permission } => {
                self.grant_permission(role, permission.as_ref())?
            }
            AuthCommand::RoleRevoke { role, range } => {
                let mut permissions = self.role(role)?;
                let before = permissions.len();
                permissions.retain(|permission| permission.range != *range);
                if permissions.len() == before {
                    return Err(AuthError::PermissionNotGranted.into());
                }
                self.write_role(role, Some(permissions));
                self.bump();
            }
        }
        Ok(Outcome::Auth { revision: self.state.auth.revision() })
    }

    fn enable(&mut self) -> Result<(), Fail> {
        if self.state.auth.is_enabled() {
            return Ok(());
        }
        let root = self.state.auth.user(ROOT).ok_or(AuthError::RootUserMissing)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(AuthError::RootRoleMissing.into());
        }
        Arc::make_mut(&mut self.state.auth).set_enabled(true);
        self.write_auth();
        Ok(())
    }

    fn disable(&mut self) {
        if self.state.auth.is_enabled() {
            let auth = Arc::make_mut(&mut self.state.auth);
            auth.bump();
            auth.set_enabled(false);
            self.write_auth();
        }
    }

    /// The password was checked by whoever proposed this; it counts only if nothing has changed since.
    fn login(
        &mut self,
        user: &str,
        token: &str,
        checked_revision: u64,
        position: LogPosition,
    ) -> Result<Outcome, Fail> {
        let auth = &self.state.auth;
        if !auth.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        if checked_revision != auth.revision() {
            return Err(AuthError::OldRevision.into());
        }
        if auth.user(user).is_none_or(|user| user.no_password) {
            return Err(AuthError::LoginFailed.into());
        }
        let token = format!("{token}.{}", position.index);
        let login = Login { user: user.to_owned(), token: token.clone(), revision: auth.revision() };
        self.logins.push(login);
        Ok(Outcome::Login { token })
    }

    fn delete_role(&mut self, name: &str) -> Result<(), Fail> {
        self.keep_root(name == ROOT)?;
        self.role(name)?;
        let holders: Vec<(String, User)> = self
            .state
            .auth
            .users()
            .filter(|(_, user)| user.roles.iter().any(|role| role == name))
            .map(|(holder, user)| (holder.to_owned(), user.clone()))
            .collect();
        for (holder, mut user) in holders {
            user.roles.retain(|role| role != name);
            self.write_roles(&holder, user);
        }
        self.write_role(name, None);
        self.bump();
        Ok(())
    }

    fn grant_permission(&mut self, role: &str, permission: Option<&Permission>) -> Result<(), Fail> {
        let permission = permission.ok_or(AuthError::PermissionNotGiven)?;
        if !is_range(&permission.range) {
            return Err(AuthError::InvalidManagement.into());
        }
        let mut permissions = self.role(role)?;
        let key = &permission.range.key;
        let at = permissions.partition_point(|other| other.range.key < *key);
        // Only the first permission of the same key is compared, as in etcd: a second one can be there twice.
        match permissions.get_mut(at).filter(|other| other.range == permission.range) {
            Some(same) => same.kind = permission.kind,
            None => {
                let after = permissions.partition_point(|other| other.range.key <= *key);
                permissions.insert(after, permission.clone());
            }
        }
        self.write_role(role, Some(permissions));
        self.bump();
        Ok(())
    }

    fn keep_root(&self, of_root: bool) -> Result<(), AuthError> {
        if of_root && self.state.auth.is_enabled() { Err(AuthError::InvalidManagement) } else { Ok(()) }
    }

    fn user(&self, name: &str) -> Result<User, AuthError> {
        self.state.auth.user(name).cloned().ok_or(AuthError::UserNotFound)
    }

    fn role(&self, name: &str) -> Result<Vec<Permission>, AuthError> {
        self.state.auth.role(name).map(<[Permission]>::to_vec).ok_or(AuthError::RoleNotFound)
    }

    /// Writes a user whose roles have changed, so that its rights are worked out anew.
    fn write_roles(&mut self, name: &str, user: User) {
        self.write_user(name, Some(User::new(user.password, user.no_password, user.roles, user.since)));
    }

    fn write_user(&mut self, name: &str, user: Option<User>) {
        let row = user.as_ref().map(|user| {
            let mut row = Vec::new();
            user_row(user, &mut row);
            row
        });
        self.write_row(&user_row_key(name), row);
        Arc::make_mut(&mut self.state.auth).set_user(name.to_owned(), user);
    }

    fn write_role(&mut self, name: &str, permissions: Option<Vec<Permission>>) {
        let row = permissions.as_ref().map(|permissions| {
            let mut row = Vec::new();
            role_row(permissions, &mut row);
            row
        });
        self.write_row(&role_row_key(name), row);
        Arc::make_mut(&mut self.state.auth).set_role(name.to_owned(), permissions);
    }

    /// Every change of users, roles and permissions ends here.
    fn bump(&mut self) {
        Arc::make_mut(&mut self.state.auth).bump();
        self.write_auth();
    }

    fn write_auth(&mut self) {
        let mut row = Vec::new();
        auth_value(&self.state.auth, &mut row);
        self.write_row(AUTH_KEY, Some(row));
    }

    fn write_row(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.state.digest.bytes(key);
        self.state.digest.bytes(value.as_deref().unwrap_or_default());
        match value {
            Some(value) => self.batch.put(Family::Meta, key, &value),
            None => self.batch.delete(Family::Meta, key),
        }
    }
}

/// Whether a permission's keys are a range at all.
fn is_range(range: &KeyRange) -> bool {
    !range.key.is_empty() && (range.is_single() || range.end.as_ref() == [0] || range.key < range.end)
}
