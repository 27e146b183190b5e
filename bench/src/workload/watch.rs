//! Watch fan-out: one key, many watchers.
//!
//! Owns: opening watchers, counting events, matching an event to its put. Called by: `workload::run`.
//! Invariants: every watcher is acknowledged before the first put; fan-out is throttled by delivery, not by puts, so the
//! rate is what the server sustains; a latency counts from the moment the put was due.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use keelson_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Options, path};
use crate::client::{CallError, Connection, Stream, decode, frame};
use crate::clock::{Clock, pause};
use crate::figures::{Figures, Metric};
use crate::load::window;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::target::Target;
use crate::wire;

/// The number of `events` in a WatchResponse.
const EVENTS_FIELD: u64 = 11;

/// Opens a stream with `watchers` watchers of keys chosen by `key`, and waits until all are acknowledged.
///
/// # Errors
/// The connection broke, or the server cancelled one.
pub(super) async fn open(
    connection: &mut Connection,
    watchers: usize,
    key: impl Fn(usize) -> Bytes,
) -> Result<Stream, CallError> {
    // Created ones are waited for in groups, so that neither side queues without bound.
    const GROUP: usize = 500;
    let create = |number| {
        let create = pb::WatchCreateRequest { key: key(number), ..Default::default() };
        frame(&pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    };
    let template = connection.template(path::WATCH);
    let mut stream = connection.stream(&template, create(0), false).await?;
    let mut created = 0;
    for number in 1..=watchers {
        if number < watchers {
            stream.send(create(number))?;
        }
        let sent = (number + 1).min(watchers);
        if sent % GROUP == 0 || sent == watchers {
            while created < sent {
                acknowledged(&mut stream).await?;
                created += 1;
            }
        }
    }
    Ok(stream)
}

async fn acknowledged(stream: &mut Stream) -> Result<(), CallError> {
    let refused = |reason: String| CallError::Answer { path: path::WATCH, reason };
    let answer = stream.answers.message().await?.ok_or_else(|| refused("the stream ended".into()))?;
    let answer: pb::WatchResponse = decode(path::WATCH, answer)?;
    if answer.created && !answer.canceled {
        return Ok(());
    }
    Err(refused(format!("a watcher was not created: {}", answer.cancel_reason)))
}

/// Opens all streams of the options, each with its watchers of one and the same key.
async fn open_all(target: &Target, options: &Options) -> Result<Vec<Stream>, CallError> {
    let connections = target.connect(options.connections.min(options.streams)).await?;
    let key = options.shape.key(0);
    let mut streams = Vec::with_capacity(options.streams);
    for number in 0..options.streams {
        let mut connection = connections[number % connections.len()].clone();
        streams.push(open(&mut connection, options.watchers, |_| key.clone()).await?);
    }
    Ok(streams)
}

type Task = JoinHandle<Result<(), CallError>>;

/// Reads every stream and hands each message to `seen`.
fn read_all(
    streams: Vec<Stream>,
    seen: impl Fn(Bytes) -> Result<(), CallError> + Clone + 'static,
) -> Vec<Task> {
    let read = |mut stream: Stream| {
        let seen = seen.clone();
        async move {
            while let Some(message) = stream.answers.message().await? {
                seen(message)?;
            }
            Err(CallError::Answer { path: path::WATCH, reason: "the stream ended".into() })
        }
    };
    streams.into_iter().map(|stream| tokio::task::spawn_local(read(stream))).collect()
}

/// Ends the readers; the first that failed by itself is the error.
async fn stop(readers: Vec<Task>) -> Result<(), CallError> {
    for reader in readers {
        if reader.is_finished() {
            reader.await.expect("a load task does not panic")?;
        } else {
            reader.abort();
        }
    }
    Ok(())
}

/// How many events a second leave the server, and what one costs it.
pub(super) async fn fan_out(
    target: &Target,
    options: &Options,
    progress: &Progress,
) -> Result<Figures, CallError> {
    // Puts whose events are under way: enough to keep the server busy while the client reads.
    const PUTS_AHEAD: usize = 16;
    let streams = open_all(target, options).await?;
    let per_put = (options.streams * options.watchers) as u64;
    let recorder = Rc::new(Recorder::new(options.timing.warm_up, options.timing.duration));
    let ahead = Rc::new(Semaphore::new(PUTS_AHEAD));
    let received = Rc::new(Cell::new(0u64));
    let readers = {
        let (recorder, ahead) = (recorder.clone(), ahead.clone());
        read_all(streams, move |message| {
            let events = wire::fields(&message, EVENTS_FIELD).count() as u64;
            recorder.done_more(events);
            let before = received.replace(received.get() + events);
            ahead.add_permits((received.get() / per_put - before / per_put) as usize);
            Ok(())
        })
    };
    let mut writers: Vec<Task> = Vec::new();
    for mut connection in target.connect(PUTS_AHEAD).await? {
        let (recorder, ahead) = (recorder.clone(), ahead.clone());
        let put = pb::PutRequest {
            key: options.shape.key(0),
            value: options.shape.value(0, 0),
            ..Default::default()
        };
        let request = frame(&put);
        writers.push(tokio::task::spawn_local(async move {
            let template = connection.template(path::PUT);
            while recorder.clock.elapsed() < recorder.until {
                ahead.acquire().await.expect("nobody closes it").forget();
                connection.call(&template, request.clone()).await?;
            }
            Ok(())
        }));
    }
    let (before, after) = window(target, &recorder, &readers, progress).await;
    for writer in &writers {
        writer.abort();
    }
    stop(readers).await?;
    let mut figures = Figures::default();
    figures.set(Metric::EventsPerS, recorder.done() as f64 / options.timing.duration.as_secs_f64());
    figures.spent_on_events(before, after, recorder.done());
    Ok(figures)
}

/// How long after its put an event arrives, at a fixed rate of puts.
pub(super) async fn latency(
    target: &Target,
    options: &Options,
    progress: &Progress,
) -> Result<Figures, CallError> {
    let rate = match options.timing.pace {
        Pace::Open { rate } => rate,
        Pace::Closed => 20.0,
    };
    let streams = open_all(target, options).await?;
    let connection = Connection::open(&target.endpoints[0]).await?;
    let recorder = Rc::new(Recorder::new(options.timing.warm_up, options.timing.duration));
    let due = move |number: u64| Duration::from_secs_f64(number as f64 / rate);
    let readers = {
        let recorder = recorder.clone();
        read_all(streams, move |message| {
            let now = recorder.clock.elapsed();
            let message: pb::WatchResponse = decode(path::WATCH, message)?;
            for event in message.events {
                let value = event.kv.map(|kv| kv.value).unwrap_or_default();
                let number = value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                recorder.note(due(number), now);
            }
            Ok(())
        })
    };
    let writer: Task = {
        let recorder = recorder.clone();
        let (key, body) = (options.shape.key(0), options.shape.value(0, 0));
        tokio::task::spawn_local(async move {
            let template = connection.template(path::PUT);
            let mut puts: Vec<Task> = Vec::new();
            for number in (0..).take_while(|&number| due(number) < recorder.until) {
                let mut value = BytesMut::with_capacity(8 + body.len());
                value.put_u64(number);
                value.put_slice(&body);
                let put = pb::PutRequest { key: key.clone(), value: value.freeze(), ..Default::default() };
                let (request, template, mut connection) = (frame(&put), template.clone(), connection.clone());
                recorder.clock.reach(due(number)).await;
                puts.push(tokio::task::spawn_local(async move {
                    connection.call(&template, request).await.map(drop)
                }));
            }
            for put in puts {
                put.await.expect("a load task does not panic")?;
            }
            Ok(())
        })
    };
    let (before, after) = window(target, &recorder, &readers, progress).await;
    let puts =
        (0..).map(due).take_while(|due| *due < recorder.until).filter(|due| *due >= recorder.from).count();
    let expected = (puts * options.streams * options.watchers) as u64;
    let missing = wait_for(&recorder, expected, options.timing.duration * 2).await;
    stop(readers).await?;
    if writer.is_finished() {
        writer.await.expect("a load task does not panic")?;
    }
    let mut figures = Figures::default();
    figures.set(Metric::EventsPerS, recorder.done() as f64 / options.timing.duration.as_secs_f64());
    figures.set(Metric::EventsMissing, missing as f64);
    recorder.latencies(&mut figures);
    figures.spent_on_events(before, after, recorder.done());
    Ok(figures)
}

/// Waits for events under way at the end; what has not come then counts as late as it is by now.
async fn wait_for(recorder: &Recorder, expected: u64, patience: Duration) -> u64 {
    let clock = Clock::start();
    while recorder.noted() < expected && clock.elapsed() < patience {
        pause(Duration::from_millis(20)).await;
    }
    let missing = expected.saturating_sub(recorder.noted());
    let last = recorder.until - Duration::from_nanos(1);
    for _ in 0..missing {
        recorder.answered(last);
    }
    missing
}
