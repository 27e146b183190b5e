//! The program `keelson`: command line, configuration, logs, signals, and the wiring of the store.
//!
//! Owns: everything between the operating system and the crates that do the work; nothing here knows a key or a log
//! entry. Entry points: `cli::run`, called by `main`; `server::run`, called by `cli::store`; `offline` and `replace`, called by the
//! commands that make, mend and change members.

pub mod bundle;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod lifecycle;
pub mod logging;
pub mod offline;
pub mod replace;
pub mod server;
pub mod version;
