//! `txn`: comparisons and requests from standard input, done in one step.

use keelson_proto::etcdserverpb as pb;

use super::outside::Lines;
use super::txn_text::{comparison, operation};
use super::{Context, Done, expect_arguments};
use crate::failure::{Failure, INPUT};
use crate::net::client::{Client, Repeat};
use crate::print::out;

pub(super) async fn run(context: &Context<'_>) -> Done {
    expect_arguments(context, 0, "txn command does not accept argument")?;
    let client = context.client().await?;
    let mut input = Lines::open();
    let prompt = |text: &str| if context.call.switch("interactive") { out::line(text) } else { Ok(()) };
    prompt("compares:")?;
    let compare = read_list(&mut input, comparison).await?;
    prompt("success requests (get, put, del):")?;
    let success = read_list(&mut input, operation).await?;
    prompt("failure requests (get, put, del):")?;
    let failure = read_list(&mut input, operation).await?;
    let request = pb::TxnRequest { compare, success, failure };
    let settings = &client.settings;
    let answer = client
        .call_unlimited(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).txn(request).await
        })
        .await?;
    context.printer.txn(&answer)
}

/// Lines up to an empty one.
async fn read_list<T>(
    input: &mut Lines,
    read: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut list = Vec::new();
    loop {
        let line = match input.next().await {
            Some(line) => line.map_err(|error| Failure::new(INPUT, error.to_string()))?,
            None => String::new(),
        };
        if !line.ends_with('\n') {
            return Err(Failure::new(INPUT, "EOF")
                .help("three lists are read: comparisons, requests if they hold, requests if not; an empty line ends each"));
        }
        match line.trim() {
            "" => return Ok(list),
            line => list.push(read(line)?),
        }
    }
}
