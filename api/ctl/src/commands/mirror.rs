//! `make-mirror`: keys of one cluster copied to another, and their changes as they come.
//!
//! Invariant: what one revision changed is written in one transaction there, as far as its limit of operations allows.
//! Source: etcd client/v3/mirror/syncer.go, etcdctl make_mirror_command.go.

use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::{Event, event::EventType};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

use super::kv::range;
use super::range::prefix;
use super::watcher::{Spec, Watcher, reason};
use super::{Context, Done, expect_arguments};
use crate::failure::{ERROR, Failure};
use crate::net::client::{Client, Repeat};
use crate::net::settings::{Settings, login};
use crate::print::out;

/// Keys read at once.
const BATCH: i64 = 1000;
/// How often the number of copied keys is told.
const REPORT: Duration = Duration::from_secs(30);

struct Mirror {
    destination: Client,
    /// Replaced at the beginning of each key.
    from: String,
    to: String,
    operations_max: usize,
    total: u64,
}

pub(super) async fn run(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "make-mirror takes one destination argument")?;
    let call = &context.call;
    let without_prefix = call.switch("no-dest-prefix");
    if without_prefix && !call.text("dest-prefix").is_empty() {
        return Err(Failure::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let destination = Client::open(&destination(context)?).await?;
    let source = context.client().await?;
    let from = call.text("prefix").to_owned();
    let start = call.number("rev");
    let to = match call.text("dest-prefix") {
        "" if !without_prefix && start <= 1 => from.clone(),
        given => given.to_owned(),
    };
    let operations_max = usize::try_from(call.number("max-txn-ops")).unwrap_or(128).max(1);
    let mut mirror = Mirror { destination, from, to, operations_max, total: 0 };
    let base = if start > 1 { start - 1 } else { mirror.copy_all(&source).await? };
    mirror.follow(&source, base + 1).await
}

fn destination(context: &Context<'_>) -> Result<Settings, Failure> {
    let call = &context.call;
    let file = |name| Some(call.text(name)).filter(|path| !path.is_empty()).map(Into::into);
    let auth = match call.text("dest-user") {
        "" => None,
        user => Some(login(user, call.text("dest-password"), "Destination Password: ")?),
    };
    Ok(Settings {
        endpoints: vec![context.arguments()[0].clone()],
        cert: file("dest-cert"),
        key: file("dest-key"),
        ca: file("dest-cacert"),
        insecure_transport: call.switch("dest-insecure-transport"),
        skip_verify: false,
        auth,
        ..context.settings.clone()
    })
}

impl Mirror {
    /// Copies what there is now and returns the revision of it.
    async fn copy_all(&mut self, source: &Client) -> Result<i64, Failure> {
        let (mut key, end) = prefix(&self.from);
        let mut revision = 0;
        loop {
            let request = pb::RangeRequest {
                key,
                range_end: end.clone(),
                limit: BATCH,
                revision,
                sort_order: SortOrder::None.into(),
                sort_target: SortTarget::Key.into(),
                ..Default::default()
            };
            let answer = range(source, request).await?;
            if revision == 0 {
                revision = answer.header.as_ref().map_or(0, |header| header.revision);
            }
            for kv in &answer.kvs {
                self.put(&kv.key, &kv.value).await?;
            }
            match answer.kvs.last() {
                Some(last) if answer.more => key = [&last.key[..], &[0]].concat().into(),
                _ => return Ok(revision),
            }
        }
    }

    async fn put(&mut self, key: &[u8], value: &Bytes) -> Done {
        let request = pb::PutRequest { key: self.renamed(key), value: value.clone(), ..Default::default() };
        let settings = &self.destination.settings;
        self.destination
            .call(Repeat::No, request, |channel, request| async move {
                Client::kv(channel, settings).put(request).await
            })
            .await?;
        self.total += 1;
        Ok(())
    }

    /// Writes changes as they come, until the source cannot tell them any more.
    async fn follow(&mut self, source: &Client, revision: i64) -> Done {
        let mut watcher = Watcher::new(source, Spec::prefix(&self.from, revision));
        let mut ticks = tokio::time::interval(REPORT);
        ticks.tick().await;
        loop {
            let answer = tokio::select! {
                answer = watcher.next() => answer?,
                _ = ticks.tick() => {
                    out::line(&self.total.to_string())?;
                    continue;
                }
            };
            if answer.canceled {
                return Err(Failure::new(ERROR, reason(&answer))
                    .help("history is gone that was not copied yet: start the mirror again, it then copies all keys first"));
            }
            let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            for changes in answer.events.chunk_by(|left, right| revision_of(left) == revision_of(right)) {
                for part in changes.chunks(self.operations_max) {
                    self.write(part).await?;
                }
            }
        }
    }

    async fn write(&mut self, events: &[Event]) -> Done {
        let operation = |event: &Event| {
            let kv = event.kv.clone().unwrap_or_default();
            let key = self.renamed(&kv.key);
            let request = match event.r#type() {
                EventType::Put => {
                    Request::RequestPut(pb::PutRequest { key, value: kv.value, ..Default::default() })
                }
                EventType::Delete => {
                    Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
                }
            };
            pb::RequestOp { request: Some(request) }
        };
        let request =
            pb::TxnRequest { success: events.iter().map(operation).collect(), ..Default::default() };
        let settings = &self.destination.settings;
        self.destination
            .call(Repeat::No, request, |channel, request| async move {
                Client::kv(channel, settings).txn(request).await
            })
            .await?;
        self.total += events.len() as u64;
        Ok(())
    }

    fn renamed(&self, key: &[u8]) -> Bytes {
        match key.strip_prefix(self.from.as_bytes()) {
            Some(rest) => [self.to.as_bytes(), rest].concat().into(),
            None => Bytes::copy_from_slice(key),
        }
    }
}
