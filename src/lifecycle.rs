//! The life of the process: signals in, readiness out, and the exit code at the end.
//!
//! Owns: the handlers of SIGINT, SIGTERM and SIGHUP, the notes to systemd. Invariants: the first signal to stop asks
//! for a graceful stop, the second ends the process at once; after a graceful stop the signal is raised again, so that
//! the parent sees 130 or 143 (as process 1, where that has no effect, 0); SIGHUP never stops anything.
//! Called by: `cli::store` (install, finish) and `server` (stop_requested, reload_requests, ready, stopping).
//! Source: etcd pkg/osutil/interrupt_unix.go. A hangup ends etcd; here it asks for the files to be read again, as it
//! does of most daemons.

use std::io;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The first signal received; 0 before.
static RECEIVED: OnceLock<watch::Sender<i32>> = OnceLock::new();

/// Shorter ones are no limit but a mistake.
const WATCHDOG_MIN: Duration = Duration::from_millis(10);

/// Counts the hangups.
static HANGUPS: OnceLock<watch::Sender<u64>> = OnceLock::new();

fn received() -> &'static watch::Sender<i32> {
    RECEIVED.get_or_init(|| watch::Sender::new(0))
}

fn hangups() -> &'static watch::Sender<u64> {
    HANGUPS.get_or_init(|| watch::Sender::new(0))
}

/// Takes over SIGINT, SIGTERM and SIGHUP. To be called once, before any thread of the server starts.
///
/// # Errors
/// If the system refuses a handler or a thread.
pub fn install() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watcher = move || {
        for signal in &mut signals {
            if signal == SIGHUP {
                hangups().send_modify(|count| *count += 1);
                continue;
            }
            if *received().borrow() != 0 {
                // Somebody insists. The data is safe: a start after this is a start after a crash.
                tracing::warn!(signal = name(signal), "received a second signal; ending at once");
                let _ = emulate_default_handler(signal);
            }
            tracing::info!(signal = name(signal), "received signal; shutting down");
            received().send_replace(signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watcher).map(drop)
}

/// Returns once a stop was asked for; at once if that has happened already.
///
/// # Cancel safety
/// Can be dropped and called again.
pub async fn stop_requested() {
    let mut stop = received().subscribe();
    // The sender is static and never dropped.
    let _ = stop.wait_for(|signal| *signal != 0).await;
}

/// Follows the requests to read files again; each hangup changes the number.
pub fn reload_requests() -> watch::Receiver<u64> {
    hangups().subscribe()
}

/// Whether a stop was asked for.
pub fn is_stop_requested() -> bool {
    *received().borrow() != 0
}

/// Says that clients are served now: the log line that tools wait for, and READY=1 to systemd.
pub fn ready() {
    tracing::info!("ready to serve client requests");
    notify(&[NotifyState::Ready]);
    let limit = sd_notify::watchdog_enabled().filter(|limit| *limit >= WATCHDOG_MIN);
    if let (Some(limit), Ok(runtime)) = (limit, Handle::try_current()) {
        runtime.spawn(stay_alive(limit));
    }
}

/// Tells systemd again and again that the runtime still turns, three times within its limit.
async fn stay_alive(limit: Duration) {
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Says that the graceful stop has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        tracing::error!(%error, "failed to notify systemd");
    }
}

/// Ends a process whose work is done: by the signal that asked for it, or with 0.
pub fn finish() -> ExitCode {
    let signal = *received().borrow();
    if signal != 0 && std::process::id() != 1 {
        // Returns only if the signal could not be raised.
        let _ = emulate_default_handler(signal);
    }
    ExitCode::SUCCESS
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "interrupt",
        SIGTERM => "terminated",
        _ => "other",
    }
}
