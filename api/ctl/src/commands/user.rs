//! `user`: add, delete, get, list, passwd, grant-role, revoke-role.

use keelson_proto::{authpb, etcdserverpb as pb};
use pb::auth_client::AuthClient;

use super::{Context, Done, expect_arguments, role};
use crate::failure::Failure;
use crate::net::client::{Client, Repeat};
use crate::print::{out, terminal};

pub(super) async fn add(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "user add command requires user name as its argument")?;
    let given = &context.arguments()[0];
    let no_password = context.call.switch("no-password");
    let (name, password) = match (no_password, context.call.text("new-user-password"), given.split_once(':'))
    {
        (true, ..) => (given.as_str(), String::new()),
        (false, "", Some(("", _))) => return Err(Failure::arguments("empty user name is not allowed")),
        (false, "", Some((name, password))) => (name, password.to_owned()),
        (false, "", None) => (given.as_str(), ask(context, given).await?),
        (false, password, _) => (given.as_str(), password.to_owned()),
    };
    let request = pb::AuthUserAddRequest {
        name: name.to_owned(),
        password,
        options: Some(authpb::UserAddOptions { no_password }),
        ..Default::default()
    };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            AuthClient::new(channel).user_add(request).await
        })
        .await?;
    let line = format!("User {name} created");
    context.printer.change("etcdserverpb.AuthUserAddResponse", &answer, answer.header.as_ref(), &line)
}

/// A new password: from standard input, or twice from the terminal.
async fn ask(context: &Context<'_>, name: &str) -> Result<String, Failure> {
    if !context.call.switch("interactive") {
        // What is no text is no password; the server says what it thinks of an empty one.
        let input = super::outside::whole_input().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&input);
        let first = text.lines().next().and_then(|line| line.split_whitespace().next());
        return Ok(first.unwrap_or_default().to_owned());
    }
    let refused = |failure: Failure| {
        Failure::arguments(format!("failed to ask password: {}", failure.message()))
        .help("without a terminal give --new-user-password (user add), or --interactive=false and the password on standard input")
    };
    let first = terminal::ask_secret(&format!("Password of {name}: ")).map_err(refused)?;
    if first.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    let second = terminal::ask_secret(&format!("Type password of {name} again for confirmation: "))
        .map_err(refused)?;
    if first == second { Ok(first) } else { Err(Failure::arguments("given passwords are different")) }
}

pub(super) async fn delete(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "user delete command requires user name as its argument")?;
    let name = context.arguments()[0].clone();
    let line = format!("User {name} deleted");
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, pb::AuthUserDeleteRequest { name }, |channel, request| async move {
            AuthClient::new(channel).user_delete(request).await
        })
        .await?;
    context.printer.change("etcdserverpb.AuthUserDeleteResponse", &answer, answer.header.as_ref(), &line)
}

pub(super) async fn get(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "user get command requires user name as its argument")?;
    let name = context.arguments()[0].clone();
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, pb::AuthUserGetRequest { name: name.clone() }, |channel, request| async move {
            AuthClient::new(channel).user_get(request).await
        })
        .await?;
    if !context.call.switch("detail") {
        return context.printer.user_get(&name, &answer);
    }
    out::line(&format!("User: {name}"))?;
    for role in &answer.roles {
        out::line("")?;
        context.printer.role_get(role, &role::look(&client, role).await?)?;
    }
    Ok(())
}

pub(super) async fn list(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "user list command requires no arguments")?;
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, pb::AuthUserListRequest {}, |channel, request| async move {
            AuthClient::new(channel).user_list(request).await
        })
        .await?;
    context.printer.user_list(&answer)
}

pub(super) async fn password(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "user passwd command requires user name as its argument")?;
    let name = context.arguments()[0].clone();
    let password = ask(context, &name).await?;
    let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            AuthClient::new(channel).user_change_password(request).await
        })
        .await?;
    let name = "etcdserverpb.AuthUserChangePasswordResponse";
    context.printer.change(name, &answer, answer.header.as_ref(), "Password updated")
}

pub(super) async fn grant(context: &Context<'_>) -> Done {
    expect_arguments(context, 2, "user grant command requires user name and role name as its argument")?;
    let (user, role) = (&context.arguments()[0], &context.arguments()[1]);
    let client = context.client().await?;
    let answer = give_role(&client, user, role).await?;
    let line = format!("Role {role} is granted to user {user}");
    context.printer.change("etcdserverpb.AuthUserGrantRoleResponse", &answer, answer.header.as_ref(), &line)
}

/// Gives a user a role.
pub(super) async fn give_role(
    client: &Client,
    user: &str,
    role: &str,
) -> Result<pb::AuthUserGrantRoleResponse, Failure> {
    let request = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
    client
        .call(Repeat::No, request, |channel, request| async move {
            AuthClient::new(channel).user_grant_role(request).await
        })
        .await
}

pub(super) async fn revoke(context: &Context<'_>) -> Done {
    expect_arguments(context, 2, "user revoke-role requires user name and role name as its argument")?;
    let (name, role) = (context.arguments()[0].clone(), context.arguments()[1].clone());
    let line = format!("Role {role} is revoked from user {name}");
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, pb::AuthUserRevokeRoleRequest { name, role }, |channel, request| async move {
            AuthClient::new(channel).user_revoke_role(request).await
        })
        .await?;
    context.printer.change("etcdserverpb.AuthUserRevokeRoleResponse", &answer, answer.header.as_ref(), &line)
}
