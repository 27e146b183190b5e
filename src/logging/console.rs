//! One event as one line for people: time, level, message, then `key=value`.
//!
//! Called by: `logging`, when a terminal reads the log.

use serde_json::Value;
use tracing::{Level, Metadata};

use super::fields::Fields;
use keelson_api::edge::timestamp::Timestamp;

/// The line, newline included.
pub(super) fn line(metadata: &Metadata<'_>, now: Timestamp, fields: &Fields, colours: bool) -> String {
    let (level, colour) = match *metadata.level() {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => ("WARN ", "33"),
        Level::INFO => ("INFO ", "32"),
        Level::DEBUG | Level::TRACE => ("DEBUG", "36"),
    };
    let paint = |text: &str, code: &str| {
        if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out =
        format!("{} {} {}", paint(&now.time_of_day(), "2"), paint(level, colour), one_line(&fields.message));
    for (name, value) in &fields.others {
        let text = match value {
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => one_line(text),
            other => other.to_string(),
        };
        out.push_str(&format!(" {}{text}", paint(&format!("{}=", name.replace('_', "-")), "2")));
    }
    out.push('\n');
    out
}

/// Control characters would break the line, or the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}
