//! The load generator as a program of its own, so that it can be built without the server.

use std::process::ExitCode;

fn main() -> ExitCode {
    keelson_bench::cli::run(std::env::args_os())
}
