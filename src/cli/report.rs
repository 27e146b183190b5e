//! How the command line speaks: results to stdout, faults to stderr with what to do about them.
//!
//! Called by: every command.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Prints a result. A reader that has closed the pipe, as `head` does, is no fault.
pub(super) fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            usage(&format!("write to stdout: {error}"), "check where the output goes", 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells a fault of usage.
pub(super) fn usage(problem: &str, remedy: &str, code: u8) -> ExitCode {
    eprintln!("error: {problem}\n  help: {remedy}");
    ExitCode::from(code)
}

/// Tells why a configuration is refused.
pub(super) fn config(error: &ConfigError) -> ExitCode {
    usage(&chain(error), &error.remedy(), error.exit_code())
}

/// An error with all that caused it, on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("writing to a text never fails");
        cause = error.source();
    }
    text
}
