//! Secrets asked for at the terminal, without showing what is typed.
//!
//! Invariant: the terminal is as before afterwards. Called by: logins and `user add`.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::{ERROR, Failure};

/// Asks for one line.
///
/// # Errors
/// Without a terminal.
pub(crate) fn ask_secret(prompt: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(ERROR, format!("cannot ask for a password: {error}"))
            .help("without a terminal give --password, or ETCDCTL_PASSWORD; `user add` and `user passwd` take --interactive=false")
    };
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    terminal.write_all(prompt.as_bytes()).map_err(failed)?;
    let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = BufReader::new(&terminal).read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(|error| failed(error.into()))?;
    terminal.write_all(b"\n").map_err(failed)?;
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
