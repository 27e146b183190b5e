//! Starts the program. Everything is in the library beside it, so that tests can reach it.

use std::process::ExitCode;

/// Values are copied out of request buffers into blocks of their own size; mimalloc keeps those dense and fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keelson::cli::run(std::env::args_os().collect())
}
