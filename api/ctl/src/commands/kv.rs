//! `get`, `put`, `del`, `compaction`.

use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;

use super::range::{del_request, get_request};
use super::{Context, Done};
use crate::clock::pause;
use crate::failure::{ERROR, Failure};
use crate::go;
use crate::line::parse::Call;
use crate::net::client::{Client, Repeat};
use crate::print::{Form, Printer, out};

pub(super) async fn get(context: &Context<'_>) -> Done {
    let request = get_request(&context.call)?;
    let form = context.printer.form;
    if context.call.switch("count-only") && form != Form::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    let value_only = context.call.switch("print-value-only");
    if value_only && form != Form::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    let client = context.client().await?;
    let answer = match context.call.switch("stream") {
        true => stream(&client, request).await?,
        false => range(&client, request).await?,
    };
    Printer { value_only, ..context.printer }.get(&answer)
}

/// A range in one answer.
pub(crate) async fn range(client: &Client, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    let settings = &client.settings;
    client
        .call(Repeat::Yes, request, |channel, request| async move {
            Client::kv(channel, settings).range(request).await
        })
        .await
}

/// A range in pieces, put together.
async fn stream(client: &Client, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    let settings = &client.settings;
    let mut pieces = client
        .call(Repeat::Yes, request, |channel, request| async move {
            Client::kv(channel, settings).range_stream(request).await
        })
        .await?;
    let mut whole = pb::RangeResponse::default();
    loop {
        match pieces.message().await {
            Ok(Some(piece)) => {
                let piece = piece.range_response.unwrap_or_default();
                whole.header = piece.header.or(whole.header);
                whole.kvs.extend(piece.kvs);
                whole.more |= piece.more;
                whole.count = whole.count.max(piece.count);
            }
            Ok(None) => return Ok(whole),
            Err(status) => return Err(client.explain(&status).await),
        }
    }
}

pub(super) async fn put(context: &Context<'_>) -> Done {
    let stdin = read_stdin_if_needed(&context.call).await?;
    let request = put_request(&context.call, stdin)?;
    let client = context.client().await?;
    let settings = &client.settings;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).put(request).await
        })
        .await?;
    context.printer.put(&answer)
}

const PUT_USAGE: &str = "put command needs 1 argument and input from stdin or 2 arguments";

async fn read_stdin_if_needed(call: &Call) -> Result<Option<Vec<u8>>, Failure> {
    if call.arguments.len() != 1 || call.switch("ignore-value") {
        return Ok(None);
    }
    match super::outside::whole_input().await {
        Ok(value) if !value.is_empty() => Ok(Some(value)),
        _ => Err(Failure::arguments(PUT_USAGE)),
    }
}

/// The request of a `put`; `stdin` is the value that is no argument.
pub(super) fn put_request(call: &Call, stdin: Option<Vec<u8>>) -> Result<pb::PutRequest, Failure> {
    let Some(key) = call.arguments.first() else { return Err(Failure::arguments(PUT_USAGE)) };
    let ignore_value = call.switch("ignore-value");
    if ignore_value && call.arguments.len() > 1 {
        return Err(Failure::arguments("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match (ignore_value, call.arguments.get(1), stdin) {
        (true, ..) => Bytes::new(),
        (false, Some(value), _) => Bytes::copy_from_slice(value.as_bytes()),
        (false, None, Some(value)) => value.into(),
        (false, None, None) => return Err(Failure::arguments(PUT_USAGE)),
    };
    let lease = go::parse_int(call.text("lease"), 16)
        .map_err(|why| Failure::arguments(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        lease,
        prev_kv: call.switch("prev-kv"),
        ignore_value,
        ignore_lease: call.switch("ignore-lease"),
    })
}

pub(super) async fn del(context: &Context<'_>) -> Done {
    const SECOND_THOUGHTS: Duration = Duration::from_secs(2);
    let request = del_request(&context.call)?;
    if context.arguments().len() > 1 && !context.call.switch("range") {
        let quoted = |index: usize| go::quote(context.arguments()[index].as_bytes());
        eprintln!(
            "Warning: all keys from {} to {} go in 2 seconds; interrupt to keep them. --range leaves out this wait.",
            quoted(0),
            quoted(1)
        );
        pause(SECOND_THOUGHTS).await;
    }
    let client = context.client().await?;
    let settings = &client.settings;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).delete_range(request).await
        })
        .await?;
    context.printer.del(&answer)
}

pub(super) async fn compaction(context: &Context<'_>) -> Done {
    super::expect_arguments(context, 1, "compaction command needs 1 argument")?;
    let revision = go::parse_int(&context.arguments()[0], 10).map_err(|why| Failure::new(ERROR, why))?;
    let client = context.client().await?;
    compact(&client, revision, context.call.switch("physical")).await?;
    out::line(&format!("compacted revision {revision}"))
}

/// Drops history before a revision.
pub(super) async fn compact(client: &Client, revision: i64, physical: bool) -> Done {
    let request = pb::CompactionRequest { revision, physical };
    let settings = &client.settings;
    client
        .call(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).compact(request).await
        })
        .await
        .map(drop)
}
