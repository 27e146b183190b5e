//! `lock`: held until stopped, or while a command runs.

use std::process::Command;

use keelson_proto::etcdserverpb as pb;

use super::kv::range;
use super::outside;
use super::session::{Session, release};
use super::signals::Stop;
use super::{Context, Done};
use crate::failure::{ERROR, Failure};

pub(super) async fn run(context: &Context<'_>) -> Done {
    let Some((name, command)) = context.arguments().split_first() else {
        return Err(Failure::arguments("lock takes a lock name argument and an optional command to execute"));
    };
    let client = context.client().await?;
    let mut stop = Stop::listen()?;
    let session = Session::open(&client, context.call.number("ttl")).await?;
    let place = tokio::select! {
        place = session.acquire(name, "") => place?,
        () = stop.asked() => {
            // Our place in the queue goes with the lease.
            session.close().await?;
            return Err(Failure::new(ERROR, "context canceled").help("stopped while waiting for the lock"));
        }
    };
    if let Some((program, arguments)) = command.split_first() {
        let variables = [("ETCD_LOCK_KEY", place.key.clone()), ("ETCD_LOCK_REV", place.held_at.to_string())];
        let mut started = Command::new(program);
        started.args(arguments).envs(variables);
        let ran = outside::run(started).await;
        release(&client, &place).await?;
        session.close().await?;
        let status = ran.map_err(|error| {
            Failure::new(ERROR, format!("exec: \"{program}\": {error}"))
                .help("the lock was held and is free again")
        })?;
        return match status.code() {
            Some(0) => Ok(()),
            code => {
                let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(ERROR);
                Err(Failure::new(code, format!("{status}").replace("exit status:", "exit status")))
            }
        };
    }
    let own =
        range(&client, pb::RangeRequest { key: place.key.clone().into(), ..Default::default() }).await?;
    if own.kvs.is_empty() {
        return Err(Failure::new(ERROR, "lock lost on init")
            .help("somebody removed the key, or the lease ran out: try again"));
    }
    context.printer.get(&own)?;
    tokio::select! {
        () = stop.asked() => {
            release(&client, &place).await?;
            session.close().await
        }
        () = session.ended() => Err(Failure::new(ERROR, "session expired")
            .help("the lease was not renewed in time: the lock may be another's by now")),
    }
}
