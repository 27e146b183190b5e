//! Where log lines go: a standard stream or a file.
//!
//! Invariants: a line is one write, so that lines of several processes in one file do not mix. Called by: `logging`.
//! A line that cannot be written is lost: a full disk under the log must not stop the store.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::LogError;
use super::rotation::RotatingFile;
use crate::config::log_rotation::LogRotation;

/// An open destination.
pub(super) enum Destination {
    Stdout,
    Stderr,
    File(File),
    Rotating(RotatingFile),
}

impl Destination {
    /// Opens an element of `--log-outputs`.
    pub(super) fn open(output: &str, rotation: Option<&LogRotation>) -> Result<Destination, LogError> {
        let path = Path::new(output);
        let opened = match (output, rotation) {
            // Under systemd the journal reads stderr; its own protocol is not spoken.
            ("default" | "stderr" | "systemd/journal", _) => return Ok(Destination::Stderr),
            ("stdout", _) => return Ok(Destination::Stdout),
            (_, Some(limits)) => RotatingFile::open(path, limits.clone()).map(Destination::Rotating),
            (_, None) => append(path).map(Destination::File),
        };
        opened.map_err(|source| LogError::Open { path: output.to_owned(), source })
    }

    /// Writes a whole line.
    pub(super) fn write(&self, line: &str) {
        let _ = match self {
            Destination::Stdout => std::io::stdout().write_all(line.as_bytes()),
            Destination::Stderr => std::io::stderr().write_all(line.as_bytes()),
            // A file opened for appending takes writes of several threads without a lock.
            Destination::File(file) => (&*file).write_all(line.as_bytes()),
            Destination::Rotating(file) => file.write(line),
        };
    }
}

/// Opens a file to append to; makes it and its folder where they are missing.
pub(super) fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
