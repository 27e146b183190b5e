//! `role`: add, delete, get, list, grant-permission, revoke-permission.

use bytes::Bytes;
use keelson_proto::authpb::{Permission, permission::Type};
use keelson_proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;

use super::range::prefix_end;
use super::{Context, Done, expect_arguments};
use crate::failure::Failure;
use crate::net::client::{Client, Repeat};

pub(super) async fn add(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "role add command requires role name as its argument")?;
    let name = &context.arguments()[0];
    let answer = make(&context.client().await?, name).await?;
    let line = format!("Role {name} created");
    context.printer.change("etcdserverpb.AuthRoleAddResponse", &answer, answer.header.as_ref(), &line)
}

/// Makes a role.
pub(super) async fn make(client: &Client, name: &str) -> Result<pb::AuthRoleAddResponse, Failure> {
    client
        .call(Repeat::No, pb::AuthRoleAddRequest { name: name.to_owned() }, |channel, request| async move {
            AuthClient::new(channel).role_add(request).await
        })
        .await
}

pub(super) async fn delete(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "role delete command requires role name as its argument")?;
    let role = context.arguments()[0].clone();
    let line = format!("Role {role} deleted");
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, pb::AuthRoleDeleteRequest { role }, |channel, request| async move {
            AuthClient::new(channel).role_delete(request).await
        })
        .await?;
    context.printer.change("etcdserverpb.AuthRoleDeleteResponse", &answer, answer.header.as_ref(), &line)
}

pub(super) async fn get(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "role get command requires role name as its argument")?;
    let role = &context.arguments()[0];
    let answer = look(&context.client().await?, role).await?;
    context.printer.role_get(role, &answer)
}

/// The permissions of a role.
pub(super) async fn look(client: &Client, role: &str) -> Result<pb::AuthRoleGetResponse, Failure> {
    client
        .call(Repeat::Yes, pb::AuthRoleGetRequest { role: role.to_owned() }, |channel, request| async move {
            AuthClient::new(channel).role_get(request).await
        })
        .await
}

pub(super) async fn list(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "role list command requires no arguments")?;
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, pb::AuthRoleListRequest {}, |channel, request| async move {
            AuthClient::new(channel).role_list(request).await
        })
        .await?;
    context.printer.role_list(&answer)
}

pub(super) async fn grant(context: &Context<'_>) -> Done {
    let [role, kind, keys @ ..] = context.arguments() else { return Err(grant_usage()) };
    if keys.is_empty() {
        return Err(grant_usage());
    }
    let kind_of = Type::from_str_name(&kind.to_uppercase()).ok_or_else(|| {
        Failure::arguments(format!("invalid permission type: {kind}")).help("it is read, write or readwrite")
    })?;
    let (key, range_end) = range(context, keys)?;
    let permission = Permission { perm_type: kind_of.into(), key, range_end };
    let request = pb::AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(permission) };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            AuthClient::new(channel).role_grant_permission(request).await
        })
        .await?;
    let name = "etcdserverpb.AuthRoleGrantPermissionResponse";
    context.printer.change(name, &answer, answer.header.as_ref(), &format!("Role {role} updated"))
}

fn grant_usage() -> Failure {
    Failure::arguments(
        "role grant command requires role name, permission type, and key [endkey] as its argument",
    )
}

pub(super) async fn revoke(context: &Context<'_>) -> Done {
    let [role, keys @ ..] = context.arguments() else { return Err(revoke_usage()) };
    let Some(first) = keys.first() else { return Err(revoke_usage()) };
    let (key, range_end) = range(context, keys)?;
    let end = String::from_utf8_lossy(&range_end).into_owned();
    let request = pb::AuthRoleRevokePermissionRequest { role: role.clone(), key, range_end };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            AuthClient::new(channel).role_revoke_permission(request).await
        })
        .await?;
    let line = match end.as_str() {
        "" => format!("Permission of key {first} is revoked from role {role}"),
        "\0" => format!("Permission of range [{first}, <open ended> is revoked from role {role}"),
        end => format!("Permission of range [{first}, {end}) is revoked from role {role}"),
    };
    let name = "etcdserverpb.AuthRoleRevokePermissionResponse";
    context.printer.change(name, &answer, answer.header.as_ref(), &line)
}

fn revoke_usage() -> Failure {
    Failure::arguments("role revoke-permission command requires role name and key [endkey] as its argument")
}

/// Key and end that arguments and flags name. All keys are written as those from a zero byte on.
fn range(context: &Context<'_>, keys: &[String]) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (context.call.switch("prefix"), context.call.switch("from-key"));
    let both = || Failure::arguments("--from-key and --prefix flags are mutually exclusive");
    let open = Bytes::from_static(b"\0");
    let key = Bytes::copy_from_slice(keys[0].as_bytes());
    match keys {
        [first, ..] if first.is_empty() => match (prefix, from_key) {
            (true, true) => Err(both()),
            (false, false) => Ok((open, Bytes::new())),
            _ => Ok((open.clone(), open)),
        },
        [first] => match (prefix, from_key) {
            (true, true) => Err(both()),
            (true, false) => Ok((key, prefix_end(first.as_bytes()).into())),
            (false, true) => Ok((key, open)),
            (false, false) => Ok((key, Bytes::new())),
        },
        [_, end, ..] if !prefix && !from_key => Ok((key, Bytes::copy_from_slice(end.as_bytes()))),
        _ => {
            let flag = if prefix { "--prefix" } else { "--from-key" };
            Err(Failure::arguments(format!("unexpected endkey argument with {flag} flag")))
        }
    }
}
