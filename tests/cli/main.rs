//! The program as its user meets it: arguments in, output and exit code out.

mod commands;
mod day2;
mod lifecycle;
mod program;
mod refusals;
