//! The load loops.
//!
//! Owns: running clients in a closed or an open loop, and measuring what that cost. Called by: `workload`.
//! Invariants: all clients run on one thread, so that the load generator needs one core and leaves the others to the
//! server; the first request that fails ends the run.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::client::CallError;
use crate::figures::Figures;
use crate::pace::{Pace, Schedule};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::target::Target;

/// One client of a workload. All its state, and all that it can prepare, is made before the clock starts.
pub trait Client: 'static {
    /// One request, or what counts as one, to its complete answer.
    fn operate(&mut self) -> impl Future<Output = Result<(), CallError>>;
}

/// When, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Closed or open loop.
    pub pace: Pace,
    /// Load before the clock starts.
    pub warm_up: Duration,
    /// Length of the measured part.
    pub duration: Duration,
}

/// Runs the clients against the target they are connected to; throughput, latencies and what the servers spent.
///
/// # Errors
/// The first failed request.
pub async fn run<C: Client>(
    target: &Target,
    clients: Vec<C>,
    timing: Timing,
    progress: &Progress,
) -> Result<Figures, CallError> {
    let recorder = Rc::new(Recorder::new(timing.warm_up, timing.duration));
    let tasks = match timing.pace {
        Pace::Closed => clients
            .into_iter()
            .map(|client| tokio::task::spawn_local(closed_loop(recorder.clone(), client)))
            .collect(),
        Pace::Open { rate } => open_loop(&recorder, clients, rate),
    };
    let (before, after) = window(target, &recorder, &tasks, progress).await;
    for task in tasks {
        task.await.expect("a load task does not panic")?;
    }
    let mut figures = recorder.figures();
    figures.spent(before, after, recorder.done());
    Ok(figures)
}

/// Reads the counters at both ends of the measured part and shows the progress between them.
pub async fn window<T>(
    target: &Target,
    recorder: &Recorder,
    tasks: &[JoinHandle<T>],
    progress: &Progress,
) -> (crate::target::Reading, crate::target::Reading) {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let clock = recorder.clock;
    // What the warm-up left in memory is not to be counted, if the disk can take it in time.
    const FLUSH_AHEAD: Duration = Duration::from_millis(300);
    clock.sleep_until(recorder.from.saturating_sub(FLUSH_AHEAD)).await;
    tokio::select! {
        () = target.flush() => {}
        () = clock.sleep_until(recorder.from) => {}
    }
    clock.sleep_until(recorder.from).await;
    let before = target.before().await;
    loop {
        let now = clock.elapsed();
        // A client that failed ends the run at once.
        if now >= recorder.until || tasks.iter().any(JoinHandle::is_finished) {
            break;
        }
        progress.show(now - recorder.from, recorder.until - recorder.from, recorder.done());
        clock.sleep_until((now + LOOK_EVERY).min(recorder.until)).await;
    }
    let after = target.after().await;
    progress.clear();
    (before, after)
}

async fn closed_loop<C: Client>(recorder: Rc<Recorder>, mut client: C) -> Result<(), CallError> {
    loop {
        let issued = recorder.clock.elapsed();
        if issued >= recorder.until {
            return Ok(());
        }
        client.operate().await?;
        recorder.answered(issued);
    }
}

/// What the pacer and the clients of an open loop share.
struct Open {
    schedule: RefCell<Schedule>,
    /// One permit per request that is due and not taken.
    due: Semaphore,
}

fn open_loop<C: Client>(
    recorder: &Rc<Recorder>,
    clients: Vec<C>,
    rate: f64,
) -> Vec<JoinHandle<Result<(), CallError>>> {
    let schedule = RefCell::new(Schedule::new(rate, recorder.until));
    let open = Rc::new(Open { schedule, due: Semaphore::new(0) });
    let pacer = tokio::task::spawn_local(pace(recorder.clone(), open.clone()));
    let mut tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::task::spawn_local(paced_client(recorder.clone(), open.clone(), client)))
        .collect();
    tasks.push(pacer);
    tasks
}

async fn pace(recorder: Rc<Recorder>, open: Rc<Open>) -> Result<(), CallError> {
    loop {
        let Some(due) = open.schedule.borrow().next_due() else { break };
        recorder.clock.reach(due).await;
        let released = open.schedule.borrow_mut().release(recorder.clock.elapsed());
        open.due.add_permits(released);
    }
    // The tasks of an open loop end together: one that ended earlier would look like a failure.
    recorder.clock.sleep_until(recorder.until).await;
    open.due.close();
    Ok(())
}

async fn paced_client<C: Client>(
    recorder: Rc<Recorder>,
    open: Rc<Open>,
    mut client: C,
) -> Result<(), CallError> {
    // How long requests that are due may wait for a server that does not keep up, counted from the end.
    let patience = recorder.until + (recorder.until - recorder.from);
    loop {
        // A closed semaphore means that nothing more becomes due, not that nothing waits.
        if let Ok(permit) = open.due.acquire().await {
            permit.forget();
        }
        let Some(due) = open.schedule.borrow_mut().take() else {
            if open.due.is_closed() {
                return Ok(());
            }
            continue;
        };
        // What was never sent has waited at least until now.
        if recorder.clock.elapsed() < patience {
            client.operate().await?;
        }
        recorder.answered(due);
    }
}
