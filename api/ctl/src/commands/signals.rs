//! Being asked to stop: Ctrl-C and SIGTERM.
//!
//! Owns: the thread that waits for signals; it ends with the program. Called by: `lock`, `elect`.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use crate::failure::{ERROR, Failure};

/// Listens from now on.
pub(super) struct Stop(mpsc::UnboundedReceiver<()>);

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|error| Failure::new(ERROR, format!("listen for signals: {error}")))?;
        let (asked, receiver) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if asked.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Waits until asked.
    pub(super) async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
