//! `elect`: stand for an election, or look on.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::event::EventType;

use super::kv::range;
use super::session::{Session, head, release};
use super::signals::Stop;
use super::watcher::{Spec, Watcher};
use super::{Context, Done};
use crate::failure::{ERROR, Failure};
use crate::net::client::Client;

/// Seconds that etcd's client takes for a session.
const TTL: i64 = 60;

pub(super) async fn run(context: &Context<'_>) -> Done {
    let listen = context.call.switch("listen");
    match (context.arguments(), listen) {
        ([name], true) => observe(context, name).await,
        ([_], false) => Err(Failure::arguments("no proposal argument but -l not set")),
        ([name, proposal], false) => campaign(context, name, proposal).await,
        ([_, _], true) => Err(Failure::arguments("proposal given but -l is set")),
        _ => Err(Failure::arguments(
            "elect takes one election name argument and an optional proposal argument",
        )),
    }
}

async fn campaign(context: &Context<'_>, name: &str, proposal: &str) -> Done {
    let client = context.client().await?;
    let mut stop = Stop::listen()?;
    let session = Session::open(&client, TTL).await?;
    let place = tokio::select! {
        place = session.acquire(name, proposal) => place?,
        () = stop.asked() => {
            session.close().await?;
            return Err(Failure::new(ERROR, "context canceled").help("stopped before being elected"));
        }
    };
    let own =
        range(&client, pb::RangeRequest { key: place.key.clone().into(), ..Default::default() }).await?;
    context.printer.get(&own)?;
    tokio::select! {
        () = stop.asked() => {
            release(&client, &place).await?;
            session.close().await
        }
        () = session.ended() => Err(Failure::new(ERROR, "elect: session expired")
            .help("the lease was not renewed in time: another may be elected by now")),
    }
}

async fn observe(context: &Context<'_>, name: &str) -> Done {
    let client = context.client().await?;
    let mut stop = Stop::listen()?;
    tokio::select! {
        result = follow(context, &client, name) => result,
        () = stop.asked() => Ok(()),
    }
}

/// Prints every leader and everything a leader says, for ever.
async fn follow(context: &Context<'_>, client: &Client, name: &str) -> Done {
    loop {
        let found = head(client, name).await?;
        let now = found.header.as_ref().map_or(0, |header| header.revision);
        let (key, from) = match found.kvs.first() {
            Some(kv) => {
                let key = Bytes::copy_from_slice(&kv.key);
                context.printer.get(&found)?;
                (key, now + 1)
            }
            None => {
                let mut watcher = Watcher::new(client, Spec::prefix(&format!("{name}/"), now + 1));
                watcher.until_put().await?;
                continue;
            }
        };
        let mut watcher = Watcher::new(client, Spec::key(&key, from));
        'leader: loop {
            let answer = watcher.next().await?;
            for event in answer.events {
                if event.r#type() == EventType::Delete {
                    break 'leader;
                }
                let said = pb::RangeResponse {
                    header: answer.header,
                    kvs: event.kv.into_iter().collect(),
                    ..Default::default()
                };
                context.printer.get(&said)?;
            }
        }
    }
}
