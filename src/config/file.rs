//! Reads the configuration file: YAML (or JSON, which is YAML), keys as the flags, TLS settings in two maps.
//!
//! Invariants: every key is a setting, a key etcd 3.7 itself skips, or an error with a suggestion. Called by: `resolve`.
//! Differs from etcd: an unknown key is refused (etcd skips it, and so a misspelt `client-cert-auth` opens the store);
//! durations may be written `10m` as well as in integer nanoseconds; lists may be YAML lists everywhere.
//! Source: etcd server/embed/config.go.

use std::path::Path;

use serde_json::{Map, Value as Yaml};

use super::error::ConfigError;
use super::given::{Given, Source};
use super::setting::{FileKey, Kind, Setting};
use super::suggest;
use super::table::{self, retired};

/// Reads a file into settings, and returns remarks for the log.
///
/// # Errors
/// The first fault: the file, its syntax, an unknown key, a value of the wrong kind.
pub(super) fn read(path: &Path) -> Result<(Given, Vec<String>), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::FileRead { path: path.to_owned(), source })?;
    Reader { path, text: &text, given: Given::default(), remarks: Vec::new() }.run()
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    given: Given,
    remarks: Vec<String>,
}

impl Reader<'_> {
    fn run(mut self) -> Result<(Given, Vec<String>), ConfigError> {
        let syntax = |problem: String| ConfigError::FileSyntax { path: self.path.to_owned(), problem };
        // A file of comments only is a file without settings.
        let root: Option<Yaml> =
            serde_saphyr::from_str(self.text).map_err(|error| syntax(error.to_string()))?;
        let root = match root {
            None | Some(Yaml::Null) => Map::new(),
            Some(Yaml::Object(map)) => map,
            Some(_) => return Err(syntax("it is not a map of settings".to_owned())),
        };
        for (key, value) in &root {
            self.top_level(key, value)?;
        }
        Ok((self.given, self.remarks))
    }

    fn top_level(&mut self, key: &str, value: &Yaml) -> Result<(), ConfigError> {
        if let Some(setting) = table::find(key).filter(|setting| setting.file == FileKey::SameAsFlag) {
            return self.set(setting, value);
        }
        if table::all().any(|setting| matches!(setting.file, FileKey::Nested(map, _) if map == key)) {
            return self.nested(key, value);
        }
        if key == "discovery-config" {
            return Err(ConfigError::Unsupported {
                setting: "discovery-endpoints",
                remedy: "discovery services are not supported; drop discovery-config and list the members with initial-cluster",
            });
        }
        if retired::FILE_LEFTOVERS.contains(&key) {
            self.remarks.push(format!(
                "the key {key} of the configuration file has no meaning since etcd 3.6; drop it"
            ));
            return Ok(());
        }
        if let Some(instead) = retired::replacement(key).filter(|_| key.starts_with("experimental-")) {
            let instead = instead.replace("--", "");
            return Err(ConfigError::Removed {
                shown: format!("the key {key}"),
                instead,
                on_command_line: false,
            });
        }
        Err(self.unknown(key, key))
    }

    fn nested(&mut self, map: &str, value: &Yaml) -> Result<(), ConfigError> {
        let entries = match value {
            Yaml::Null => return Ok(()),
            Yaml::Object(entries) => entries,
            _ => {
                return Err(ConfigError::FileSyntax {
                    path: self.path.to_owned(),
                    problem: format!("{map} is not a map of settings"),
                });
            }
        };
        for (key, value) in entries {
            let path = format!("{map}.{key}");
            match table::all()
                .find(|setting| setting.file_path() == path && setting.file != FileKey::SameAsFlag)
            {
                Some(setting) => self.set(setting, value)?,
                // etcd reads these two for clients also; the first guards a door and must not be skipped.
                None if path == "client-transport-security.allowed-cn" => {
                    if !matches!(value, Yaml::Null) {
                        return Err(ConfigError::contradiction(
                            format!("{path} is not supported"),
                            "use allowed-hostname, or users and roles",
                        ));
                    }
                }
                None if path == "client-transport-security.skip-client-san-verification" => {
                    self.remarks.push(format!(
                        "the key {path} has no meaning: addresses of clients are never compared"
                    ));
                }
                None => return Err(self.unknown(&path, key)),
            }
        }
        Ok(())
    }

    fn set(&mut self, setting: &'static Setting, value: &Yaml) -> Result<(), ConfigError> {
        let text = match value {
            Yaml::Null => return Ok(()),
            Yaml::String(text) => text.clone(),
            Yaml::Bool(on) => on.to_string(),
            // As etcd's: a bare number is nanoseconds.
            Yaml::Number(number) if setting.kind == Kind::Duration => format!("{number}ns"),
            // An integral float, such as 1.0e9, is the integer.
            Yaml::Number(number) => match number.as_f64() {
                Some(float) if !number.is_i64() && !number.is_u64() && float.fract() == 0.0 => {
                    format!("{float:.0}")
                }
                _ => number.to_string(),
            },
            Yaml::Array(items) if matches!(setting.kind, Kind::List | Kind::Urls | Kind::Origins) => items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(","),
            Yaml::Object(_) | Yaml::Array(_) => {
                return Err(ConfigError::FileSyntax {
                    path: self.path.to_owned(),
                    problem: format!("{} wants a single value", setting.file_path()),
                });
            }
        };
        // etcd keeps the default where the file has an empty text, except for settings whose default is empty anyway.
        if text.is_empty() && !matches!(setting.kind, Kind::Text | Kind::Path | Kind::List | Kind::Origins) {
            return Ok(());
        }
        self.given.set(setting, &text, Source::File)
    }

    fn unknown(&self, shown: &str, key: &str) -> ConfigError {
        let paths: Vec<String> = table::all().map(Setting::file_path).collect();
        // A TLS setting at the top level is the most common mistake: show where it belongs.
        let nearest = table::find(key)
            .map(Setting::file_path)
            .or_else(|| suggest::nearest(shown, paths.iter().map(String::as_str)).map(str::to_owned));
        let line =
            self.text
                .lines()
                .position(|line| {
                    line.trim_start().trim_start_matches(['"', '\'']).strip_prefix(key).is_some_and(|rest| {
                        rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':')
                    })
                })
                .map(|index| index + 1);
        ConfigError::UnknownKey { path: self.path.to_owned(), key: shown.to_owned(), line, nearest }
    }
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
