//! `alarm`, `move-leader`, `defrag`, `downgrade`.

use keelson_proto::etcdserverpb as pb;
use pb::downgrade_request::DowngradeAction;
use pb::maintenance_client::MaintenanceClient;

use super::{Context, Done, endpoint, expect_arguments};
use crate::clock::Clock;
use crate::failure::{ERROR, Failure};
use crate::go;
use crate::net::client::{Client, Repeat};
use crate::print::out;

pub(super) async fn alarm_list(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "alarm list command accepts no arguments")?;
    context.printer.alarm(&context.client().await?.alarms().await?)
}

pub(super) async fn alarm_disarm(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "alarm disarm command accepts no arguments")?;
    let client = context.client().await?;
    let mut disarmed = pb::AlarmResponse::default();
    for alarm in client.alarms().await?.alarms {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let answer = client
            .call(Repeat::No, request, |channel, request| async move {
                MaintenanceClient::new(channel).alarm(request).await
            })
            .await?;
        disarmed.alarms.extend(answer.alarms);
    }
    context.printer.alarm(&disarmed)
}

pub(super) async fn move_leader(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "move-leader command needs 1 argument")?;
    let target = go::parse_uint(&context.arguments()[0], 16).map_err(Failure::arguments)?;
    for endpoint in &context.settings.endpoints {
        let client = Client::open(&context.settings.at(endpoint)).await?;
        let status = client.status().await?;
        let member = status.header.as_ref().map_or(0, |header| header.member_id);
        if member != status.leader {
            continue;
        }
        let request = pb::MoveLeaderRequest { target_id: target };
        let answer = client
            .call(Repeat::No, request, |channel, request| async move {
                MaintenanceClient::new(channel).move_leader(request).await
            })
            .await?;
        return context.printer.move_leader(status.leader, target, &answer);
    }
    Err(Failure::arguments(format!("no leader endpoint given at [{}]", context.settings.endpoints.join(" ")))
        .help("give the endpoints of all members: `endpoint status --cluster -w table` shows who leads"))
}

pub(super) async fn defrag(context: &Context<'_>) -> Done {
    let mut failed = None;
    for endpoint in endpoint::endpoints(context).await? {
        let client = Client::open(&context.settings.at(&endpoint)).await?;
        let clock = Clock::start();
        let answer = defragment(&client).await;
        let took = go::duration(clock.elapsed());
        match answer {
            Ok(()) => out::line(&format!("Finished defragmenting etcd member[{endpoint}]. took {took}"))?,
            Err(failure) => {
                eprintln!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({})",
                    failure.message()
                );
                failed = Some(failure);
            }
        }
    }
    failed.map_or(Ok(()), |failure| Err(failure.with_code(ERROR)))
}

/// Defragments the member a client is connected to.
pub(super) async fn defragment(client: &Client) -> Done {
    client
        .call(Repeat::No, pb::DefragmentRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).defragment(request).await
        })
        .await
        .map(drop)
}

pub(super) async fn downgrade(context: &Context<'_>, what: &str) -> Done {
    let (action, version) = match (what, context.arguments()) {
        ("cancel", _) => (DowngradeAction::Cancel, String::new()),
        (_, []) => return Err(Failure::arguments("TARGET_VERSION not provided")),
        (_, [version]) if version.is_empty() => {
            return Err(Failure::arguments("target version not provided"));
        }
        ("enable", [version]) => (DowngradeAction::Enable, version.clone()),
        (_, [version]) => (DowngradeAction::Validate, version.clone()),
        _ => return Err(Failure::arguments("too many arguments")),
    };
    let request = pb::DowngradeRequest { action: action.into(), version };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            MaintenanceClient::new(channel).downgrade(request).await
        })
        .await?;
    context.printer.downgrade(what, &answer)
}
