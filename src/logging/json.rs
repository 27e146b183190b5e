//! One event as one line of JSON with etcd's keys: `level`, `ts`, `caller`, `msg`, then the event's own.
//!
//! Called by: `logging`. A field of the event that bears the name of one of the four gets an underscore behind it.

use serde_json::Value;
use tracing::{Level, Metadata};

use super::fields::Fields;
use keelson_api::edge::timestamp::Timestamp;

/// The line, newline included.
pub(super) fn line(metadata: &Metadata<'_>, now: Timestamp, fields: &Fields) -> String {
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    };
    let mut out = format!("{{\"level\":\"{level}\",\"ts\":\"{now}\"");
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        member(&mut out, "caller", &Value::from(format!("{}:{line}", short(file))));
    }
    member(&mut out, "msg", &Value::from(fields.message.as_str()));
    for (name, value) in &fields.others {
        // Names are written in this program; Rust has no dashes in them, etcd's keys have.
        let key = name.replace('_', "-");
        let clash = matches!(key.as_str(), "level" | "ts" | "caller" | "msg");
        member(&mut out, &if clash { format!("{key}_") } else { key }, value);
    }
    out.push_str("}\n");
    out
}

fn member(out: &mut String, key: &str, value: &Value) {
    out.push_str(&format!(",{}:{value}", Value::from(key)));
}

/// The last two parts of a path: enough to find the place, and nothing of the machine that built it.
fn short(file: &str) -> &str {
    file.rmatch_indices('/').nth(1).map_or(file, |(index, _)| &file[index + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_short() {
        assert_eq!(short("/build/x/src/cli/store.rs"), "cli/store.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
        assert_eq!(short("main.rs"), "main.rs");
    }
}
