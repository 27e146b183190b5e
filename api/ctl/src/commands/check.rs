//! `check`: whether a cluster is up to a load. Writes for a minute, or so many keys, and judges.
//!
//! Source: etcdctl 3.7.3, check.go for loads and limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use tokio::sync::{Mutex, mpsc};

use super::kv::{compact, range};
use super::maintenance::defragment;
use super::range::prefix;
use super::{Context, Done};
use crate::clock::{Clock, pause};
use crate::failure::{ERROR, FEATURE, Failure, INPUT};
use crate::go;
use crate::inspect::page;
use crate::net::client::{Client, Repeat};
use crate::net::settings::Settings;
use crate::print::out;

struct Load {
    writes_per_second: u32,
    keys: u32,
    clients: usize,
}

const PERIOD: Duration = Duration::from_secs(60);

fn load(name: &str) -> Result<Load, Failure> {
    let (writes_per_second, keys, clients) = match name {
        "s" | "small" => (150, 10_000, 50),
        "m" | "medium" => (1_000, 100_000, 200),
        "l" | "large" => (8_000, 1_000_000, 500),
        "xl" | "xLarge" => (15_000, 3_000_000, 1_000),
        _ => {
            return Err(
                Failure::new(FEATURE, format!("unknown load option {name}")).help("--load is s, m, l or xl")
            );
        }
    };
    Ok(Load { writes_per_second, keys, clients })
}

/// What the writes came to.
#[derive(Default)]
struct Tally {
    seconds: Vec<f64>,
    errors: Vec<String>,
}

/// Clients that write what comes in.
struct Writers {
    work: mpsc::Sender<Bytes>,
    tasks: Vec<tokio::task::JoinHandle<Tally>>,
}

impl Writers {
    async fn start(context: &Context<'_>, clients: usize, value_bytes: usize) -> Result<Self, Failure> {
        let (work, queue) = mpsc::channel::<Bytes>(clients);
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let (client, queue) = (context.client().await?, queue.clone());
            let value = Bytes::from(vec![0; value_bytes]);
            tasks.push(tokio::spawn(async move {
                let mut tally = Tally::default();
                loop {
                    let Some(key) = queue.lock().await.recv().await else { return tally };
                    let clock = Clock::start();
                    let request = pb::PutRequest { key, value: value.clone(), ..Default::default() };
                    let settings = &client.settings;
                    let put = client.call(Repeat::No, request, |channel, request| async move {
                        Client::kv(channel, settings).put(request).await
                    });
                    match put.await {
                        Ok(_) => tally.seconds.push(clock.elapsed().as_secs_f64()),
                        Err(failure) => tally.errors.push(failure.message().to_owned()),
                    }
                }
            }));
        }
        Ok(Self { work, tasks })
    }

    async fn finish(self) -> Tally {
        drop(self.work);
        let mut all = Tally::default();
        for task in self.tasks {
            let tally = task.await.unwrap_or_default();
            all.seconds.extend(tally.seconds);
            all.errors.extend(tally.errors);
        }
        all
    }
}

/// A key below `prefix` of about `size` bytes, different every time.
fn random_key(prefix: &str, size: usize) -> Bytes {
    let mut key = prefix.as_bytes().to_vec();
    key.extend_from_slice(&rand::random::<u64>().to_be_bytes());
    key.resize(prefix.len() + size, 0);
    key.into()
}

async fn refuse_if_used(client: &Client, below: &str, quotes: &str) -> Done {
    let (key, range_end) = prefix(below);
    let request = pb::RangeRequest { key, range_end, limit: 1, ..Default::default() };
    if range(client, request).await?.kvs.is_empty() {
        return Ok(());
    }
    let quoted = go::quote(below.as_bytes());
    Err(Failure::new(
        INPUT,
        format!("prefix {quoted} has keys. Delete with {quotes}etcdctl del --prefix {below}{quotes} first"),
    ))
}

pub(super) async fn perf(context: &Context<'_>) -> Done {
    let load = load(context.call.text("load"))?;
    let below = context.call.text("prefix");
    let client = context.client().await?;
    refuse_if_used(&client, below, "'").await?;
    let writers = Writers::start(context, load.clients, 1024).await?;
    let clock = Clock::start();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / load.writes_per_second);
    while clock.elapsed() < PERIOD {
        tick.tick().await;
        if writers.work.send(random_key(below, 256)).await.is_err() {
            break;
        }
    }
    let tally = writers.finish().await;
    let seconds = clock.elapsed().as_secs_f64();
    clean_up(context, &client, below).await?;
    judge(&tally, seconds, load.writes_per_second)
}

fn judge(tally: &Tally, seconds: f64, wanted: u32) -> Done {
    let count = tally.seconds.len() as f64;
    let rate = count / seconds;
    let mean = tally.seconds.iter().sum::<f64>() / count.max(1.0);
    let deviation =
        (tally.seconds.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count.max(1.0)).sqrt();
    let slowest = tally.seconds.iter().copied().fold(0.0, f64::max);
    let mut good = true;
    let mut line = |passed: bool, pass: String, fail: String| {
        good &= passed;
        out::line(if passed { &pass } else { &fail })
    };
    if !tally.errors.is_empty() {
        line(false, String::new(), "FAIL: too many errors".to_owned())?;
        for (error, count) in counted(&tally.errors) {
            line(false, String::new(), format!("FAIL: ERROR({error}) -> {count}"))?;
        }
    }
    let whole = rate as u64 + 1;
    line(
        rate / f64::from(wanted) > 0.9,
        format!("PASS: Throughput is {whole} writes/s"),
        format!("FAIL: Throughput too low: {whole} writes/s"),
    )?;
    line(
        slowest <= 0.5,
        format!("PASS: Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    )?;
    line(
        deviation <= 0.1,
        format!("PASS: Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    )?;
    out::line(if good { "PASS" } else { "FAIL" })?;
    if good { Ok(()) } else { Err(Failure::quiet(ERROR)) }
}

fn counted(errors: &[String]) -> std::collections::BTreeMap<&str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    errors.iter().for_each(|error| *counts.entry(error.as_str()).or_default() += 1);
    counts
}

/// Removes the keys; compacts and defragments if asked to.
async fn clean_up(context: &Context<'_>, client: &Client, below: &str) -> Done {
    let (key, range_end) = prefix(below);
    let request = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
    let settings = &client.settings;
    let deleted = client
        .call_unlimited(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).delete_range(request).await
        })
        .await;
    let deleted = match deleted {
        Ok(answer) => answer,
        Err(failure) => {
            return out::line(&format!(
                "FAIL: Cleanup failed during key deletion: ERROR({})",
                failure.message()
            ));
        }
    };
    if context.call.switch("auto-compact") {
        let revision = deleted.header.map_or(0, |header| header.revision);
        out::line(&format!("Compacting with revision {revision}"))?;
        compact(client, revision, true).await?;
        out::line(&format!("Compacted with revision {revision}"))?;
    }
    if context.call.switch("auto-defrag") {
        for endpoint in &context.settings.endpoints {
            let quoted = go::quote(endpoint.as_bytes());
            out::line(&format!("Defragmenting {quoted}"))?;
            defragment(&Client::open(&context.settings.at(endpoint)).await?).await?;
            out::line(&format!("Defragmented {quoted}"))?;
        }
    }
    Ok(())
}

pub(super) async fn datascale(context: &Context<'_>) -> Done {
    let load = load(context.call.text("load"))?;
    let below = context.call.text("prefix");
    let client = context.client().await?;
    refuse_if_used(&client, below, "").await?;
    let writers = Writers::start(context, load.clients, 512).await?;
    let before = memory(&context.settings, "before").await?;
    out::line(&format!(
        "Start data scale check for work load [{} key-value pairs, 1024 bytes per key-value, {} concurrent clients].",
        load.keys, load.clients
    ))?;
    for _ in 0..load.keys {
        if writers.work.send(random_key(below, 512)).await.is_err() {
            break;
        }
    }
    let tally = writers.finish().await;
    // The server may still be putting away what it has taken.
    pause(Duration::from_millis(100)).await;
    let after = memory(&context.settings, "after").await?;
    clean_up(context, &client, below).await?;
    if !tally.errors.is_empty() {
        out::line("FAIL: too many errors")?;
        for (error, count) in counted(&tally.errors) {
            out::line(&format!("FAIL: ERROR({error}) -> {count}"))?;
        }
        return Err(Failure::quiet(ERROR));
    }
    out::line(&format!("PASS: Approximate system memory used : {:.2} MB.", (after - before) / 1_048_576.0))
}

/// What the first endpoint's process takes, from its metrics.
async fn memory(settings: &Settings, when: &str) -> Result<f64, Failure> {
    let failed = |why: String| {
        Failure::new(
            ERROR,
            format!("FAIL: Could not read process_resident_memory_bytes {when} the put operations."),
        )
        .seen(why)
        .help("give an endpoint that serves /metrics: client ports do")
    };
    let answer =
        page(settings, &settings.endpoints[0], "/metrics").await.map_err(|failure| failed(failure.text()))?;
    let value = answer.body.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    value
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| failed("no such figure in the answer".to_owned()))
}
