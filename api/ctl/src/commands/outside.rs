//! What is outside of this program and blocks: standard input, and programs it starts.
//!
//! Owns: the threads that wait for them, so that watches and leases go on meanwhile. Called by: the commands.

use std::io::{BufRead as _, Read as _};
use std::process::{Command, ExitStatus};

use tokio::sync::mpsc;

/// All of standard input.
pub(super) async fn whole_input() -> std::io::Result<Vec<u8>> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    });
    reading.await.map_err(std::io::Error::other)?
}

/// The lines of standard input, one after the other, with their ends.
pub(super) struct Lines(mpsc::Receiver<std::io::Result<String>>);

impl Lines {
    pub(super) fn open() -> Self {
        // One line ahead: who reads is a person or a short script.
        let (send, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut line = String::new();
                let read = input.read_line(&mut line);
                let last = !matches!(read, Ok(size) if size > 0);
                if matches!(read, Ok(0)) || send.blocking_send(read.map(|_| line)).is_err() || last {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next one; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<std::io::Result<String>> {
        self.0.recv().await
    }
}

/// Runs a program to its end.
pub(super) async fn run(mut command: Command) -> std::io::Result<ExitStatus> {
    tokio::task::spawn_blocking(move || command.status()).await.map_err(std::io::Error::other)?
}
