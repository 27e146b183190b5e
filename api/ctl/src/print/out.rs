//! Standard output. A reader that has closed the pipe, as `head` does, ends the program without a word.

use std::io::{ErrorKind, Write as _};

use crate::failure::{ERROR, Failure};

/// Writes bytes at once.
///
/// # Errors
/// If nobody can read them.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::quiet(0),
        _ => Failure::new(ERROR, format!("write to standard output: {error}"))
            .help("check where the output goes"),
    })
}

/// Writes a text.
///
/// # Errors
/// If nobody can read it.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes a line.
///
/// # Errors
/// If nobody can read it.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}
