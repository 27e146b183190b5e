//! The end of the process when the log fails.
//!
//! Owns: the default of `WriterOptions::on_fatal`. After a failed write or sync the file system may hold
//! anything, and asking again gives false answers; only what is read back at the next start is known.
//! Called by: `Writer::fail`. Source: "Can Applications Recover from fsync Failures?" (ATC 2020).

use std::error::Error;
use std::fmt::Write as _;

use crate::error::WalError;

/// The message: cause, errno, and what to do.
pub(super) fn message(error: &WalError) -> String {
    let mut text = format!("keelson: fatal: write-ahead log: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    let advice = if error.is_full() {
        "free some space on this disk (compact, lower retention, or grow the volume) and start again"
    } else {
        "check the disk (kernel log, SMART); if it is sound, start again: the log is read back and checked; \
         if it is not, replace this member"
    };
    let _ = write!(
        text,
        "; the process ends now, and nothing that is not on disk was acknowledged; what to do: {advice}"
    );
    text
}

/// Prints the error with its causes and what to do, and aborts.
pub fn abort_process(error: &WalError) {
    eprintln!("{}", message(error));
    // Not `exit`: its handlers run other libraries' destructors, which may wait for this very disk.
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_file_operation_errno_and_remedy() {
        let error = WalError::io("fdatasync", "/d/1.wal", std::io::Error::from_raw_os_error(5));
        let text = message(&error);
        for part in ["fdatasync", "/d/1.wal", "os error 5", "what to do", "check the disk"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let full = WalError::io("write", "/d/1.wal", std::io::Error::from_raw_os_error(28));
        assert!(message(&full).contains("free some space"));
    }
}
