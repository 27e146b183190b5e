//! What a watcher, a stream and a connection keep in the server's memory.
//!
//! Called by: `workload::run`.
//! Invariants: three steps, each adding many of one thing, and the server is left alone before each reading; what a step
//! adds besides is taken off by what the steps before it found. Pages that merely mirror files do not count.

use keelson_proto::etcdserverpb as pb;

use super::{Options, path, watch};
use crate::client::{CallError, Connection, frame};
use crate::clock::pause;
use crate::figures::{Figures, Metric};
use crate::target::Target;

pub(super) async fn measure(target: &Target, options: &Options) -> Result<Figures, CallError> {
    const STREAMS_PER_CONNECTION: usize = 100;
    let shape = options.shape;
    let (watchers, streams, connections) = (options.watchers, options.streams, options.connections);
    // Whatever the first request and the first watcher set up belongs to none of them.
    let mut first = Connection::open(&target.endpoints[0]).await?;
    let put = pb::PutRequest { key: shape.key(0), value: shape.value(0, 0), ..Default::default() };
    let template = first.template(path::PUT);
    first.call(&template, frame(&put)).await?;
    let mut kept = vec![watch::open(&mut first, 1, |_| shape.key(0)).await?];
    let crowd = target.connect(streams.div_ceil(STREAMS_PER_CONNECTION)).await?;
    for connection in &crowd {
        kept.push(watch::open(&mut connection.clone(), 1, |_| shape.key(0)).await?);
    }
    let mut at = settled(target, options).await?;

    kept.push(watch::open(&mut first, watchers, |number| shape.key(number as u64)).await?);
    let per_watcher = growth(&mut at, settled(target, options).await?) / watchers as f64;

    for number in 0..streams {
        let mut connection = crowd[number % crowd.len()].clone();
        kept.push(watch::open(&mut connection, 1, |_| shape.key(number as u64)).await?);
    }
    let per_stream = growth(&mut at, settled(target, options).await?) / streams as f64 - per_watcher;

    let mut more = target.connect(connections).await?;
    for (number, connection) in more.iter_mut().enumerate() {
        kept.push(watch::open(connection, 1, |_| shape.key(number as u64)).await?);
    }
    let per_connection =
        growth(&mut at, settled(target, options).await?) / connections as f64 - per_stream - per_watcher;

    let mut figures = Figures::default();
    figures.set(Metric::PerWatcher, per_watcher);
    figures.set(Metric::PerStream, per_stream);
    figures.set(Metric::PerConnection, per_connection);
    figures.set(Metric::Resident, target.usage().map_or(f64::NAN, |usage| usage.resident_bytes as f64));
    Ok(figures)
}

async fn settled(target: &Target, options: &Options) -> Result<u64, CallError> {
    pause(options.settle).await;
    target.usage().map(|usage| usage.anonymous_bytes).ok_or(CallError::NoPids)
}

fn growth(at: &mut u64, now: u64) -> f64 {
    let before = std::mem::replace(at, now);
    now as f64 - before as f64
}
