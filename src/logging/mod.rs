//! Log lines: etcd's JSON keys for machines, aligned text for people.
//!
//! Owns: the subscriber of `tracing`, the destinations, the panic hook. Invariants: one event is one line and one
//! write; our own crates log at the level asked for, libraries only warnings. Called by: `cli::store`, once.
//! Source: the keys `level`, `ts`, `caller`, `msg` of etcd's logs, which log shippers already know.

mod console;
mod destination;
mod fields;
mod json;
mod rotation;

use std::io::IsTerminal;
use std::panic;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::effective::Logging;
use destination::Destination;
use fields::Fields;

/// Why logs cannot be written as asked.
#[derive(Debug, Error)]
pub enum LogError {
    /// A file of `--log-outputs` cannot be opened.
    #[error("open the log file {path}")]
    Open {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The variable KEELSON_LOG cannot be read.
    #[error("KEELSON_LOG is not a list of target=level")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Logs were set up before.
    #[error("set up logs twice")]
    Twice(#[source] TryInitError),
}

/// Sends all events to the destinations asked for.
///
/// # Errors
/// A destination that cannot be opened, or a wrong KEELSON_LOG.
pub fn install(logging: &Logging) -> Result<(), LogError> {
    let destinations = logging
        .outputs
        .iter()
        .map(|output| Destination::open(output, logging.rotation.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let form = if logging.json { Form::Json } else { Form::Console { colours } };
    let filter = filter(&logging.level, std::env::var("KEELSON_LOG").ok().as_deref())?;
    tracing_subscriber::registry()
        .with(Lines { form, destinations }.with_filter(filter))
        .try_init()
        .map_err(LogError::Twice)?;
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let trace = std::backtrace::Backtrace::capture().to_string();
        let trace = (!trace.starts_with("disabled")).then_some(trace);
        tracing::error!(place, backtrace = trace, "panic: {}", info.payload_as_str().unwrap_or("no message"));
    }));
    Ok(())
}

/// Ours at the level asked for, libraries at most warnings (information when we debug); KEELSON_LOG replaces both.
fn filter(level: &str, variable: Option<&str>) -> Result<Targets, LogError> {
    if let Some(text) = variable.filter(|text| !text.is_empty()) {
        return text.parse().map_err(LogError::Filter);
    }
    let ours = match level {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        // There is nothing above an error here.
        _ => LevelFilter::ERROR,
    };
    let theirs = if ours == LevelFilter::DEBUG { LevelFilter::INFO } else { ours.min(LevelFilter::WARN) };
    Ok(Targets::new().with_default(theirs).with_target("keelson", ours))
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Console { colours: bool },
}

/// Writes each event as one line to all destinations.
struct Lines {
    form: Form,
    destinations: Vec<Destination>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = keelson_api::edge::timestamp::now();
        let line = match self.form {
            Form::Json => json::line(event.metadata(), now, &fields),
            Form::Console { colours } => console::line(event.metadata(), now, &fields, colours),
        };
        for destination in &self.destinations {
            destination.write(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_speak_only_when_it_matters() {
        use tracing::Level;
        let check = |level: &str, target: &str, event: Level, expected: bool| {
            assert_eq!(
                filter(level, None).unwrap().would_enable(target, &event),
                expected,
                "{level} {target} {event}"
            );
        };
        check("info", "keelson_wal", Level::INFO, true);
        check("info", "keelson::cli", Level::DEBUG, false);
        check("info", "h2::codec", Level::INFO, false);
        check("info", "h2::codec", Level::WARN, true);
        check("debug", "keelson_api", Level::DEBUG, true);
        check("debug", "h2::codec", Level::DEBUG, false);
        check("error", "h2::codec", Level::WARN, false);
        check("panic", "keelson_api", Level::ERROR, true);
        assert!(filter("info", Some("warn,h2=trace")).unwrap().would_enable("h2", &Level::TRACE));
        assert!(filter("info", Some("h2=loud")).is_err());
    }
}
