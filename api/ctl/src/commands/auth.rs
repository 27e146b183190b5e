//! `auth`: enable, disable, status.

use keelson_proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;

use super::{Context, Done, expect_arguments, user};
use crate::failure::Failure;
use crate::net::client::{Client, Repeat};
use crate::print::out;

pub(super) async fn enable(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "auth enable command does not accept any arguments")?;
    let client = context.client().await?;
    match turn_on(&client).await {
        // The user root is there and has no role yet: make it, once.
        Err(failure) if failure.message() == "etcdserver: root user does not have root role" => {
            super::role::make(&client, "root").await?;
            user::give_role(&client, "root", "root").await?;
            turn_on(&client).await?;
        }
        other => other?,
    }
    out::line("Authentication Enabled")
}

async fn turn_on(client: &Client) -> Result<(), Failure> {
    client
        .call(Repeat::No, pb::AuthEnableRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_enable(request).await
        })
        .await
        .map(drop)
}

pub(super) async fn disable(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "auth disable command does not accept any arguments")?;
    let client = context.client().await?;
    client
        .call(Repeat::No, pb::AuthDisableRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_disable(request).await
        })
        .await?;
    out::line("Authentication Disabled")
}

pub(super) async fn status(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "auth status command does not accept any arguments")?;
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, pb::AuthStatusRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_status(request).await
        })
        .await?;
    context.printer.auth_status(&answer)
}
