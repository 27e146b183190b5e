//! A progress line on a terminal, nothing in a pipe.
//!
//! Owns: what the line shows. Called by: `load`, `fill`, `cli`, `compare`.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line that is rewritten; clones share it.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line that begins with `label`.
    pub fn new(label: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style =
            ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {msg}").expect("a valid template");
        Progress(
            ProgressBar::with_draw_target(Some(0), target).with_style(style).with_prefix(label.to_owned()),
        )
    }

    /// A part of the time is over.
    pub fn show(&self, elapsed: Duration, of: Duration, done: u64) {
        self.0.set_length(of.as_millis() as u64);
        self.0.set_position(elapsed.as_millis() as u64);
        self.0.set_message(format!("{:.0}/s", done as f64 / elapsed.as_secs_f64().max(0.001)));
    }

    /// A part of the pieces is done.
    pub fn pieces(&self, done: u64, of: u64, what: &'static str) {
        // Drawing costs more than a request.
        if done.is_multiple_of(1000) {
            self.0.set_length(of);
            self.0.set_position(done);
            self.0.set_message(what);
        }
    }

    /// Removes the line.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
