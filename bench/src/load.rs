//! The load loops.
//!
//! Owns: opening connections, running clients, collecting latencies. Called by: `cli`, `compare`.
//! Invariants: all clients run on one thread, so that the load generator needs one core and leaves the others to the
//! server; an open loop counts latency from the moment a request was due, so a stalled server is not flattered
//! (coordinated omission).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use crate::client::{CallError, Connection};
use crate::clock::Clock;
use crate::workload::{Kind, Requests, Shape, preload};

/// How the load is shaped in time.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each client sends its next request when the last is answered.
    Closed,
    /// Requests are due at a fixed total rate per second, answered or not.
    Open {
        /// Requests per second over all clients.
        rate: f64,
    },
}

/// One run of load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers; connections are spread over them in turn.
    pub endpoints: Vec<String>,
    /// HTTP/2 connections in all.
    pub connections: usize,
    /// Concurrent clients in all; in an open loop the most requests in flight.
    pub clients: usize,
    /// What is asked.
    pub kind: Kind,
    /// Sizes.
    pub shape: Shape,
    /// When it is asked.
    pub pace: Pace,
    /// Load before the clock starts.
    pub warm_up: Duration,
    /// Length of the measured part.
    pub duration: Duration,
}

/// What a run gave.
pub struct Measured {
    /// Requests answered in the measured part.
    pub operations: u64,
    /// Length of the measured part.
    pub elapsed: Duration,
    /// Latencies in microseconds.
    pub latency_us: Histogram<u64>,
}

/// Shared by the clients of a run; they live on one thread.
struct Run {
    clock: Clock,
    warm_until: Duration,
    stop_at: Duration,
    operations: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
}

impl Run {
    fn record(&self, from: Duration) {
        let now = self.clock.elapsed();
        if from >= self.warm_until && now <= self.stop_at {
            self.operations.set(self.operations.get() + 1);
            self.latency_us.borrow_mut().saturating_record((now - from).as_micros() as u64);
        }
    }
}

/// Writes every key of the key space once, with many requests in flight.
///
/// # Errors
/// The first failed call.
pub async fn fill(endpoints: &[String], shape: Shape, progress: &ProgressBar) -> Result<(), CallError> {
    const WRITERS: u64 = 64;
    let mut connections = Vec::new();
    for endpoint in endpoints.iter().cycle().take(8) {
        connections.push(Connection::open(endpoint).await?);
    }
    progress.set_length(shape.key_space);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut connection = connections[writer as usize % connections.len()].clone();
            let progress = progress.clone();
            tokio::task::spawn_local(async move {
                let template = connection.template(Kind::Put.path());
                for number in (writer..shape.key_space).step_by(WRITERS as usize) {
                    connection.call(&template, preload(shape, number)).await?;
                    progress.inc(1);
                }
                Ok::<(), CallError>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a load task does not panic")?;
    }
    Ok(())
}

/// Runs the load; `at_start` and `at_end` are called when the measured part begins and ends.
///
/// # Errors
/// The first failed call ends the run.
pub async fn run(
    options: &Options,
    progress: &ProgressBar,
    at_start: impl FnOnce(),
    at_end: impl FnOnce(),
) -> Result<Measured, CallError> {
    let mut connections = Vec::with_capacity(options.connections);
    for endpoint in options.endpoints.iter().cycle().take(options.connections) {
        connections.push(Connection::open(endpoint).await?);
    }
    let clients: Vec<(Connection, Requests)> = (0..options.clients)
        .map(|client| {
            let requests =
                Requests::encode(options.kind, options.shape, client as u64, options.clients as u64);
            (connections[client % connections.len()].clone(), requests)
        })
        .collect();
    let run = Rc::new(Run {
        clock: Clock::start(),
        warm_until: options.warm_up,
        stop_at: options.warm_up + options.duration,
        operations: Cell::new(0),
        latency_us: RefCell::new(histogram()),
    });
    let interval = match options.pace {
        Pace::Closed => Duration::ZERO,
        Pace::Open { rate } => Duration::from_secs_f64(options.clients as f64 / rate),
    };
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(client, (connection, requests))| {
            let offset = interval.mul_f64(client as f64 / options.clients as f64);
            let kind = options.kind;
            let run = run.clone();
            tokio::task::spawn_local(async move {
                if interval.is_zero() {
                    closed_loop(&run, kind, connection, requests).await
                } else {
                    open_loop(&run, kind, connection, requests, offset, interval).await
                }
            })
        })
        .collect();

    run.clock.sleep_until(run.warm_until).await;
    at_start();
    progress.set_length(options.duration.as_millis() as u64);
    while run.clock.elapsed() < run.stop_at {
        let elapsed = run.clock.elapsed().saturating_sub(run.warm_until);
        progress.set_position(elapsed.as_millis() as u64);
        let rate = run.operations.get() as f64 / elapsed.as_secs_f64().max(0.001);
        progress.set_message(format!("{rate:.0} requests/s"));
        // A client that failed ends the run at once.
        if tasks.iter().any(|task| task.is_finished()) {
            break;
        }
        run.clock.sleep_until((run.clock.elapsed() + Duration::from_millis(100)).min(run.stop_at)).await;
    }
    at_end();
    let elapsed = run.clock.elapsed() - run.warm_until;
    for task in tasks {
        task.await.expect("a load task does not panic")?;
    }
    progress.finish_and_clear();
    let latency_us = run.latency_us.borrow().clone();
    Ok(Measured { operations: run.operations.get(), elapsed, latency_us })
}

async fn closed_loop(
    run: &Run,
    kind: Kind,
    mut connection: Connection,
    mut requests: Requests,
) -> Result<(), CallError> {
    let template = connection.template(kind.path());
    loop {
        let issued = run.clock.elapsed();
        if issued >= run.stop_at {
            return Ok(());
        }
        connection.call(&template, requests.next_frame()).await?;
        run.record(issued);
    }
}

async fn open_loop(
    run: &Run,
    kind: Kind,
    mut connection: Connection,
    mut requests: Requests,
    offset: Duration,
    interval: Duration,
) -> Result<(), CallError> {
    let template = connection.template(kind.path());
    let mut due = offset;
    while due < run.stop_at {
        run.clock.sleep_until(due).await;
        connection.call(&template, requests.next_frame()).await?;
        run.record(due);
        due += interval;
    }
    Ok(())
}

/// Latencies from a microsecond to ten minutes with three significant digits. The upper bound is explicit because
/// recording with saturation clamps to it instead of growing.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_latencies_are_kept_as_they_are() {
        let mut histogram = histogram();
        histogram.saturating_record(0);
        histogram.saturating_record(5_000_000);
        assert_eq!(histogram.len(), 2);
        assert!((4_990_000..5_010_000).contains(&histogram.max()));
    }
}
