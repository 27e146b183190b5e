//! The Auth service: users, roles, permissions, logins.
//!
//! Owns: the order of steps of each method. Called by: tonic. Invariants: a change is checked and made where it is
//! applied, with etcd's errors in etcd's order; a password is hashed before it is proposed, so that none is ever in the
//! log; a login counts only if users and roles were the same when the password was checked and when it is applied.
//! Source: etcd `server/etcdserver/v3_server.go`, `server/auth/store.go` (the checks in their order).

use base64::{Engine, engine::general_purpose::STANDARD};
use keelson_mvcc::auth::{AuthCommand, AuthError, Caller, Permission, ROOT};
use keelson_mvcc::types::{ApplyError, Command, KeyRange, Outcome};
use keelson_proto::authpb;
use keelson_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
    auth_server::Auth,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::kv::unexpected;
use crate::{
    auth::{TokenKind, new_prefix},
    backend::View,
    call::{Call, OnLearner},
    convert, errors,
    state::AppState,
};

pub(super) struct AuthService(pub(super) AppState);

impl AuthService {
    /// A question: the state as of now, and who asks.
    async fn look<T>(&self, request: &Request<T>) -> Result<(Arc<dyn View>, Option<Caller>), Status> {
        let call = self.0.admit(request, OnLearner::Refused)?;
        self.0.linearize(&call).await?;
        self.0.visitor(&call).await
    }

    /// Checks a password and gives the token of the login.
    async fn login(&self, request: AuthenticateRequest, call: &Call) -> Result<String, Status> {
        let state = &self.0;
        let AuthenticateRequest { name, password } = request;
        loop {
            let view = state.view();
            if !view.auth().is_enabled() {
                return Err(errors::AUTH_NOT_ENABLED.into());
            }
            let user = view.auth().user(&name).ok_or(errors::AUTH_FAILED)?;
            if user.no_password {
                return Err(errors::NO_PASSWORD_USER.into());
            }
            if !state.passwords.matches(password.clone(), user.password.clone()).await? {
                tracing::warn!(user = name, "a login failed: wrong password");
                return Err(errors::AUTH_FAILED.into());
            }
            let checked_revision = view.auth().revision();
            if let TokenKind::Jwt(jwt) = &state.options.token_kind {
                if !jwt.can_sign() {
                    return Err(errors::VERIFY_ONLY.into());
                }
                // A change since makes the token an old one, so its user would have to come again at once.
                if state.view().auth().revision() == checked_revision {
                    let token = jwt.sign(&name, checked_revision, state.clock.unix_ms() / 1000);
                    return token.ok_or_else(|| Status::internal("signing the token failed"));
                }
                continue;
            }
            let login = AuthCommand::Login { user: name.clone(), token: new_prefix(), checked_revision };
            match state.propose_once(Command::Auth(login), call).await?.outcome {
                Ok(Outcome::Login { token }) => return Ok(token),
                // Somebody changed users or roles since the password was looked at.
                Err(ApplyError::Auth(AuthError::OldRevision)) => {}
                Err(error) => return Err(errors::from_apply(&error).into()),
                Ok(outcome) => return Err(unexpected(&outcome)),
            }
        }
    }
}

/// The service: first the methods that are one command and answer with a header alone, then the others. One macro
/// around everything, because the trait's attribute does not see into macros.
macro_rules! service {
    (
        changes {
            $($method:ident($request:ty) -> $response:ident = |$state:ident, $message:ident| $command:expr;)*
        }
        others { $($others:tt)* }
    ) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            $(
                async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let $state = &self.0;
                    let call = $state.admit(&request, OnLearner::Refused)?;
                    let $message = request.into_inner();
                    let command: AuthCommand = $command;
                    $state.propose(Command::Auth(command), &call).await?;
                    Ok(Response::new($response { header: Some($state.header_now()) }))
                }
            )*

            $($others)*
        }
    };
}

service! {
    changes {
        auth_enable(AuthEnableRequest) -> AuthEnableResponse = |state, _request| AuthCommand::Enable;
        auth_disable(AuthDisableRequest) -> AuthDisableResponse = |state, _request| AuthCommand::Disable;
        user_add(AuthUserAddRequest) -> AuthUserAddResponse = |state, request| {
            let password = match request.options.is_some_and(|options| options.no_password) {
                true => None,
                false => Some(state.passwords.hash(request.password).await?),
            };
            AuthCommand::UserAdd { name: request.name, password }
        };
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse =
            |state, request| AuthCommand::UserDelete { name: request.name };
        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse =
            |state, request| {
                // Without a password the client sends the hash itself.
                let password = match request.password.is_empty() {
                    true => STANDARD.decode(&request.hashed_password).ok().map(Into::into),
                    false => Some(state.passwords.hash(request.password).await?),
                };
                AuthCommand::UserSetPassword { name: request.name, password }
            };
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse =
            |state, request| AuthCommand::UserGrantRole { user: request.user, role: request.role };
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse =
            |state, request| AuthCommand::UserRevokeRole { user: request.name, role: request.role };
        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse =
            |state, request| AuthCommand::RoleAdd { name: request.name };
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse =
            |state, request| AuthCommand::RoleDelete { name: request.role };
        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse =
            |state, request| AuthCommand::RoleGrant {
                role: request.name,
                permission: request.perm.map(|given| Permission {
                    kind: given.perm_type,
                    range: KeyRange { key: given.key, end: given.range_end },
                }),
            };
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse =
            |state, request| AuthCommand::RoleRevoke {
                role: request.role,
                range: KeyRange { key: request.key, end: request.range_end },
            };
    }

    others {
    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let (view, _) = self.look(&request).await?;
        Ok(Response::new(AuthStatusResponse {
            header: Some(self.0.header(view.revision())),
            enabled: view.auth().is_enabled(),
            auth_revision: view.auth().revision(),
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let call = self.0.admit(&request, OnLearner::Refused)?;
        self.0.linearize(&call).await?;
        let token = self.login(request.into_inner(), &call).await?;
        Ok(Response::new(AuthenticateResponse { header: Some(self.0.header_now()), token }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let (view, caller) = self.look(&request).await?;
        let name = request.into_inner().name;
        let own = caller.as_ref().map_or("", |caller| &caller.user) == name;
        view.auth().check_admin(caller.as_ref()).or_else(|error| if own { Ok(()) } else { Err(error) })
            .map_err(errors::from_auth)?;
        let user = view.auth().user(&name).ok_or(errors::USER_NOT_FOUND)?;
        let header = Some(self.0.header(view.revision()));
        Ok(Response::new(AuthUserGetResponse { header, roles: user.roles.clone() }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let (view, caller) = self.look(&request).await?;
        view.auth().check_admin(caller.as_ref()).map_err(errors::from_auth)?;
        let users = view.auth().users().map(|(name, _)| name.to_owned()).collect();
        Ok(Response::new(AuthUserListResponse { header: Some(self.0.header(view.revision())), users }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let (view, caller) = self.look(&request).await?;
        let name = request.into_inner().role;
        let own = view.auth().has_role(caller.as_ref(), &name);
        view.auth().check_admin(caller.as_ref()).or_else(|error| if own { Ok(()) } else { Err(error) })
            .map_err(errors::from_auth)?;
        let permissions = view.auth().role(&name).ok_or(errors::ROLE_NOT_FOUND)?;
        let perm = match name == ROOT {
            true => vec![everything()],
            false => permissions.iter().map(convert::permission).collect(),
        };
        Ok(Response::new(AuthRoleGetResponse { header: Some(self.0.header(view.revision())), perm }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let (view, caller) = self.look(&request).await?;
        view.auth().check_admin(caller.as_ref()).map_err(errors::from_auth)?;
        let roles = view.auth().roles().map(|(name, _)| name.to_owned()).collect();
        Ok(Response::new(AuthRoleListResponse { header: Some(self.0.header(view.revision())), roles }))
    }
    }
}

/// What the role root may do, whatever was granted to it.
fn everything() -> authpb::Permission {
    authpb::Permission { perm_type: 2, key: Default::default(), range_end: vec![0].into() }
}
