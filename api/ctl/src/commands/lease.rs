//! `lease`: grant, revoke, look, list, keep alive.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;

use super::{Context, Done, expect_arguments};
use crate::clock::pause;
use crate::failure::{CONNECTION, ERROR, Failure};
use crate::go;
use crate::net::client::{Client, Repeat};
use crate::print::{Form, out};

fn id_of(text: &str) -> Result<i64, Failure> {
    go::parse_int(text, 16)
        .map_err(|why| Failure::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}

pub(super) async fn grant(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "lease grant command needs TTL argument")?;
    let ttl = go::parse_int(&context.arguments()[0], 10)
        .map_err(|why| Failure::arguments(format!("bad TTL ({why})")))?;
    let client = context.client().await?;
    let answer =
        grant_lease(&client, ttl).await.map_err(|failure| failure.wrapped("failed to grant lease (", ")"))?;
    context.printer.lease_grant(&answer)
}

/// Makes a lease.
pub(super) async fn grant_lease(client: &Client, ttl: i64) -> Result<pb::LeaseGrantResponse, Failure> {
    client
        .call(Repeat::No, pb::LeaseGrantRequest { ttl, id: 0 }, |channel, request| async move {
            LeaseClient::new(channel).lease_grant(request).await
        })
        .await
}

pub(super) async fn revoke(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "lease revoke command needs 1 argument")?;
    let id = id_of(&context.arguments()[0])?;
    let client = context.client().await?;
    let answer = revoke_lease(&client, id)
        .await
        .map_err(|failure| failure.wrapped("failed to revoke lease (", ")"))?;
    context.printer.lease_revoke(id, &answer)
}

/// Ends a lease.
pub(super) async fn revoke_lease(client: &Client, id: i64) -> Result<pb::LeaseRevokeResponse, Failure> {
    client
        .call(Repeat::No, pb::LeaseRevokeRequest { id }, |channel, request| async move {
            LeaseClient::new(channel).lease_revoke(request).await
        })
        .await
}

pub(super) async fn time_to_live(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "lease timetolive command needs lease ID as argument")?;
    let keys = context.call.switch("keys");
    let request = pb::LeaseTimeToLiveRequest { id: id_of(&context.arguments()[0])?, keys };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, request, |channel, request| async move {
            LeaseClient::new(channel).lease_time_to_live(request).await
        })
        .await
        .map_err(|failure| failure.with_code(CONNECTION))?;
    context.printer.lease_time_to_live(&answer, keys)
}

pub(super) async fn list(context: &Context<'_>) -> Done {
    let client = context.client().await?;
    let answer = client
        .call(Repeat::Yes, pb::LeaseLeasesRequest {}, |channel, request| async move {
            LeaseClient::new(channel).lease_leases(request).await
        })
        .await
        .map_err(|failure| failure.with_code(CONNECTION))?;
    context.printer.leases(&answer)
}

pub(super) async fn keep_alive(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "lease keep-alive command needs lease ID as argument")?;
    let id = id_of(&context.arguments()[0])?;
    let client = context.client().await?;
    if context.call.switch("once") {
        return match renew(&client, id).await? {
            Some(answer) => context.printer.lease_keep_alive(&answer),
            None => Err(Failure::new(CONNECTION, "etcdserver: requested lease not found")
                .help("it has run out or been revoked: `lease list` shows those there are")),
        };
    }
    while let Some(answer) = renew(&client, id).await? {
        context.printer.lease_keep_alive(&answer)?;
        pause(third_of(answer.ttl)).await;
    }
    match context.printer.form {
        Form::Simple => out::line(&format!("lease {id:016x} expired or revoked.")),
        _ => Ok(()),
    }
}

/// How long to wait between renewals.
pub(super) fn third_of(ttl: i64) -> Duration {
    Duration::from_millis(u64::try_from(ttl).unwrap_or(1).max(1) * 1000 / 3)
}

/// Renews a lease once; nothing if there is none.
pub(super) async fn renew(client: &Client, id: i64) -> Result<Option<pb::LeaseKeepAliveResponse>, Failure> {
    let one = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
    let exchange = async {
        let mut service = LeaseClient::new(client.channel());
        let mut answers = service.lease_keep_alive(client.request(one)).await?.into_inner();
        answers.message().await
    };
    let limit = client.settings.command_timeout;
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(Some(answer))) if answer.ttl > 0 => Ok(Some(answer)),
        Ok(Ok(Some(_))) => Ok(None),
        Ok(Ok(None)) => {
            Err(Failure::new(ERROR, "the server ended the renewal without an answer").help("try again"))
        }
        Ok(Err(status)) => Err(client.explain(&status).await.with_code(CONNECTION)),
        Err(_) => Err(crate::diagnose::timed_out(client, limit).await.with_code(CONNECTION)),
    }
}
