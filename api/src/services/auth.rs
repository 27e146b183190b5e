//! The Auth service of a cluster without users: authentication is off, and cannot be switched on yet.
//!
//! Owns: what is true while there are no users, roles or permissions. Called by: tonic. Invariants: a question is
//! answered exactly as etcd answers it on an empty auth store; only the requests that would create something say
//! Unimplemented.
//! Source: etcd `server/auth/store.go` (the checks in their order).

use keelson_proto::authpb::Permission;
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
use tonic::{Request, Response, Status};

use crate::{call::OnLearner, errors, state::AppState};

/// What an auth store that was never changed reports.
const AUTH_REVISION_FRESH: u64 = 1;

pub(super) struct AuthService(pub(super) AppState);

impl AuthService {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.0.admit(request.metadata(), OnLearner::Refused).map(drop)
    }
}

fn unsupported() -> Status {
    Status::unimplemented("users and roles are not supported by this version")
}

/// True if the keys of a permission are a range at all.
fn is_range(permission: &Permission) -> bool {
    let end = permission.range_end.as_ref();
    !permission.key.is_empty() && (end.is_empty() || end == [0] || permission.key.as_ref() < end)
}

/// Methods with one constant answer.
macro_rules! constant {
    ($($method:ident($request:ty) -> $response:ty = |$state:ident, $message:ident| $answer:expr;)*) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            $(
                async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    self.admit(&request)?;
                    let ($state, $message) = (&self.0, request.into_inner());
                    let answer: Result<$response, Status> = $answer;
                    answer.map(Response::new)
                }
            )*
        }
    };
}

constant! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse =
        |_state, _request| Err(errors::ROOT_USER_NOT_EXIST.into());
    auth_disable(AuthDisableRequest) -> AuthDisableResponse =
        |state, _request| Ok(AuthDisableResponse { header: Some(state.header_now()) });
    auth_status(AuthStatusRequest) -> AuthStatusResponse =
        |state, _request| Ok(AuthStatusResponse {
            header: Some(state.header_now()),
            enabled: false,
            auth_revision: AUTH_REVISION_FRESH,
        });
    authenticate(AuthenticateRequest) -> AuthenticateResponse =
        |_state, _request| Err(errors::AUTH_NOT_ENABLED.into());
    user_add(AuthUserAddRequest) -> AuthUserAddResponse =
        |_state, request| Err(if request.name.is_empty() { errors::USER_EMPTY.into() } else { unsupported() });
    user_get(AuthUserGetRequest) -> AuthUserGetResponse =
        |_state, _request| Err(errors::USER_NOT_FOUND.into());
    user_list(AuthUserListRequest) -> AuthUserListResponse =
        |state, _request| Ok(AuthUserListResponse { header: Some(state.header_now()), users: Vec::new() });
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse =
        |_state, _request| Err(errors::USER_NOT_FOUND.into());
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse =
        |_state, _request| Err(errors::USER_NOT_FOUND.into());
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse =
        |_state, _request| Err(errors::USER_NOT_FOUND.into());
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse =
        |_state, _request| Err(errors::USER_NOT_FOUND.into());
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse =
        |_state, request| Err(if request.name.is_empty() { errors::ROLE_EMPTY.into() } else { unsupported() });
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse =
        |_state, _request| Err(errors::ROLE_NOT_FOUND.into());
    role_list(AuthRoleListRequest) -> AuthRoleListResponse =
        |state, _request| Ok(AuthRoleListResponse { header: Some(state.header_now()), roles: Vec::new() });
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse =
        |_state, _request| Err(errors::ROLE_NOT_FOUND.into());
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse =
        |_state, request| Err(match request.perm {
            None => errors::PERMISSION_NOT_GIVEN.into(),
            Some(permission) if !is_range(&permission) => errors::INVALID_AUTH_MGMT.into(),
            Some(_) => errors::ROLE_NOT_FOUND.into(),
        });
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse =
        |_state, _request| Err(errors::ROLE_NOT_FOUND.into());
}
