//! `endpoint`: health, status, hashkv; each endpoint is asked by itself.

use futures::future::join_all;
use keelson_proto::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;

use super::kv::range;
use super::{Context, Done};
use crate::clock::Clock;
use crate::failure::{ERROR, Failure};
use crate::go;
use crate::net::client::{Client, Repeat};
use crate::net::settings::Settings;
use crate::print::{Health, Of};

/// The endpoints given, or with `--cluster` those of all members.
pub(super) async fn endpoints(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    if !context.call.switch("cluster") {
        return Ok(context.settings.endpoints.clone());
    }
    let wrapped = |failure: Failure| {
        failure.wrapped("failed to fetch endpoints from etcd cluster member list: ", "").with_code(ERROR)
    };
    let client = context.client().await.map_err(wrapped)?;
    let answer = client.members(true).await.map_err(wrapped)?;
    Ok(answer.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

pub(super) async fn health(context: &Context<'_>) -> Done {
    let endpoints = endpoints(context).await?;
    let checks = endpoints.iter().map(|endpoint| check(&context.settings, endpoint));
    let checked = join_all(checks).await;
    let list: Vec<Health> = checked.iter().map(|(health, _)| health.clone()).collect();
    context.printer.endpoint_health(&list)?;
    if list.iter().all(|health| health.error.is_empty()) {
        return Ok(());
    }
    let mut failure = Failure::new(ERROR, "unhealthy cluster");
    for (health, why) in &checked {
        for (label, text) in why.iter().flat_map(|why| why.notes()) {
            let text = format!("{}: {text}", health.endpoint);
            failure = match *label {
                "tried" => failure.tried(text),
                "seen" => failure.seen(text),
                _ => failure.help(text),
            };
        }
    }
    Err(failure)
}

async fn check(settings: &Settings, endpoint: &str) -> (Health, Option<Failure>) {
    let clock = Clock::start();
    let failed = |took: String, failure: Failure| {
        let health = Health {
            endpoint: endpoint.to_owned(),
            healthy: false,
            took,
            error: failure.message().to_owned(),
        };
        (health, Some(failure))
    };
    let client = match Client::open(&settings.at(endpoint)).await {
        Ok(client) => client,
        Err(failure) => return failed(String::new(), failure),
    };
    let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
    let read = range(&client, request).await;
    let took = go::duration(clock.elapsed());
    match read {
        // The read has gone through consensus before rights are looked at.
        Err(failure) if failure.message() != "etcdserver: permission denied" => return failed(took, failure),
        _ => {}
    }
    let error = match client.alarms().await {
        Ok(answer) if answer.alarms.is_empty() => String::new(),
        Ok(answer) => {
            let name = |alarm: &pb::AlarmMember| match alarm.alarm() {
                pb::AlarmType::Nospace => "NOSPACE ",
                pb::AlarmType::Corrupt => "CORRUPT ",
                pb::AlarmType::None => "UNKNOWN ",
            };
            "Active Alarm(s): ".to_owned() + &answer.alarms.iter().map(name).collect::<String>()
        }
        Err(_) => "Unable to fetch the alarm list".to_owned(),
    };
    let why = (!error.is_empty()).then(|| {
        Failure::new(ERROR, error.clone()).help(
            "NOSPACE: make room (delete, compact, or a higher quota), then `alarm disarm`; CORRUPT: compare `endpoint hashkv --cluster`",
        )
    });
    (Health { endpoint: endpoint.to_owned(), healthy: error.is_empty(), took, error }, why)
}

pub(super) async fn status(context: &Context<'_>) -> Done {
    let mut list = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(context).await? {
        let answer = match Client::open(&context.settings.at(&endpoint)).await {
            Ok(client) => client.status().await,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(answer) => list.push(Of { endpoint, answer }),
            Err(failure) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({})", failure.message());
                failed = Some(failure);
            }
        }
    }
    context.printer.endpoint_status(&list)?;
    failed.map_or(Ok(()), |failure| Err(failure.with_code(ERROR)))
}

pub(super) async fn hash(context: &Context<'_>) -> Done {
    let revision = context.call.number("rev");
    let mut list = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(context).await? {
        let answer = match Client::open(&context.settings.at(&endpoint)).await {
            Ok(client) => {
                client
                    .call(Repeat::Yes, pb::HashKvRequest { revision }, |channel, request| async move {
                        MaintenanceClient::new(channel).hash_kv(request).await
                    })
                    .await
            }
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(answer) => list.push(Of { endpoint, answer }),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", failure.message());
                failed = Some(failure);
            }
        }
    }
    context.printer.endpoint_hash(&list)?;
    failed.map_or(Ok(()), |failure| Err(failure.with_code(ERROR)))
}
