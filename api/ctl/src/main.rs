//! The client alone, without the store: small to copy onto a machine that has only to talk to one.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    keelson_ctl::run("keelson-ctl", &arguments)
}
