//! `keelson ctl`: etcd's command line client, for any server that speaks the etcd v3 API.
//!
//! Owns: commands, flags, output forms, and what a failure says. Entry point: [`run`], called by `keelson ctl`, by a link
//! named `etcdctl`, and by the program of this crate.
//!
//! Invariants: what goes to standard output, and the exit code, are those of etcdctl 3.7; what goes to standard error
//! begins with etcdctl's line where the server has said something, and always says what to do. Nothing here knows the
//! store: only the API. Source: etcdctl 3.7.3, compared byte by byte in `tests/tests/ctl.rs`.

pub mod inspect;
pub mod line;

mod clock;
mod commands;
mod diagnose;
mod failure;
mod go;
mod net;
mod print;

use std::process::ExitCode;

pub use failure::Failure;
pub use net::client::Client;
pub use net::settings::{Auth, Settings};

use line::parse::{Parsed, parse};

/// Runs one command.
///
/// `program`: the name people call it by, for messages and examples. `arguments`: without the program's name.
pub fn run(program: &str, arguments: &[String]) -> ExitCode {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let failure = match parse(arguments) {
        Ok(Parsed::Help(path)) => {
            return finish(print::out::text(&line::help::render(program, &path)));
        }
        Ok(Parsed::Run(call)) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs one file descriptor and no privilege");
            let result = runtime.block_on(commands::run(&call, &environment));
            // A read of standard input that nobody waits for any more must not hold up the end.
            runtime.shutdown_background();
            return finish(result);
        }
        Err(failure) => failure,
    };
    finish(Err(failure))
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code())
        }
    }
}
