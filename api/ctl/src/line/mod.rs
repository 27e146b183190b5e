//! The command line: what commands and flags there are, how they are read, their help.
//!
//! Owns: [`spec`], the one table; parsing, help, and completions of other programs are drawn from it.
//! Source: etcdctl 3.7.3 for names, defaults and which command has which flag; pflag for how flags are written.

mod access;
pub(crate) mod environment;
pub(crate) mod globals;
pub mod help;
pub mod parse;
pub mod spec;
mod tables;

pub use globals::GLOBALS;
pub use tables::ROOT;
