//! Prints a configuration: as a file that can be read back, or as JSON with the source of each value.
//!
//! Invariants: what is printed as YAML and read with `--config-file` gives the same `EffectiveConfig` (tested);
//! a password is never printed. Called by: `cli::config`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::effective::EffectiveConfig;
use super::given::Source;
use super::setting::{FileKey, Kind, Setting};
use super::table;
use super::url;
use super::value::Value;
use super::{Given, Resolved};

/// YAML with a comment that tells each value's source. `all`: with the defaults; else only what was given.
pub fn yaml(resolved: &Resolved, all: bool) -> String {
    let shown = |setting: &Setting| all || resolved.given.is_set(setting.name);
    let mut out = String::new();
    for group in table::GROUPS {
        let mut titled = false;
        for setting in
            group.settings.iter().filter(|setting| setting.file == FileKey::SameAsFlag && shown(setting))
        {
            if !titled {
                writeln!(out, "{}# {}", if out.is_empty() { "" } else { "\n" }, group.title)
                    .expect("writing to a text never fails");
                titled = true;
            }
            out.push_str(&line("", setting.name, setting, resolved));
        }
    }
    let mut maps: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for setting in table::all().filter(|setting| shown(setting)) {
        if let FileKey::Nested(map, key) = setting.file {
            maps.entry(map).or_default().push(line("  ", key, setting, resolved));
        }
    }
    for (map, lines) in maps {
        write!(out, "{}{map}:\n{}", if out.is_empty() { "" } else { "\n" }, lines.concat())
            .expect("writing to a text never fails");
    }
    out
}

/// One JSON object: name of the flag, value, source.
pub fn json(resolved: &Resolved, all: bool) -> String {
    let map: serde_json::Map<String, serde_json::Value> = table::all()
        .filter(|setting| all || resolved.given.is_set(setting.name))
        .map(|setting| {
            let value = value_of(setting, resolved).text();
            let source = source_of(setting, resolved).to_string();
            (setting.name.to_owned(), serde_json::json!({ "value": value, "source": source }))
        })
        .collect();
    serde_json::to_string_pretty(&map).expect("a map of texts is valid JSON")
}

fn line(indent: &str, key: &str, setting: &Setting, resolved: &Resolved) -> String {
    let value = value_of(setting, resolved);
    let text = match (&value, setting.kind) {
        (Value::Switch(_) | Value::Unsigned(_) | Value::Signed(_), _) => value.text(),
        // etcd reads these as YAML lists.
        (Value::List(items), Kind::List) if setting.name != "host-whitelist" => {
            format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
        }
        _ => quoted(&value.text()),
    };
    format!("{indent}{key}: {text} # {}\n", source_of(setting, resolved))
}

/// JSON texts are YAML texts too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn source_of(setting: &Setting, resolved: &Resolved) -> Source {
    resolved.given.source(setting.name)
}

/// The value in force: for a few settings it is worked out from others.
fn value_of(setting: &Setting, resolved: &Resolved) -> Value {
    let EffectiveConfig { member, cluster, logging, .. } = &resolved.config;
    match setting.name {
        "data-dir" => Value::Text(member.data_dir.display().to_string()),
        "initial-advertise-peer-urls" => Value::Urls(cluster.advertise_peer_urls.clone()),
        "advertise-client-urls" => Value::Urls(cluster.advertise_client_urls.clone()),
        "log-format" => Value::Text(if logging.json { "json" } else { "console" }.to_owned()),
        "initial-cluster" => {
            let pairs = cluster.initial_members.iter().flat_map(|(name, urls)| {
                urls.iter().map(move |address| format!("{name}={}", url::join(std::slice::from_ref(address))))
            });
            Value::Text(pairs.collect::<Vec<_>>().join(","))
        }
        "discovery-password" => hidden(&resolved.given, setting.name),
        name => resolved.given.value(name),
    }
}

fn hidden(given: &Given, name: &str) -> Value {
    let shown = if given.value(name).text().is_empty() { "" } else { "(hidden)" };
    Value::Text(shown.to_owned())
}
