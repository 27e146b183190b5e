//! What the operator set explicitly, each with the place it came from.
//!
//! Invariants: an entry's value has the kind of its setting; a name has at most one entry, the one that wins.
//! Called by: the three readers, which fill it, and `effective` and `print`, which read it.

use std::collections::BTreeMap;
use std::fmt;

use super::error::ConfigError;
use super::setting::Setting;
use super::table;
use super::value::{self, Value};

/// Where a value came from, strongest first (a file excludes the other two).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// An `ETCD_` variable.
    Environment,
    /// The configuration file.
    File,
    /// Nothing was given.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Flag => "flag",
            Source::Environment => "environment",
            Source::File => "file",
            Source::Default => "default",
        })
    }
}

/// The explicitly given settings.
#[derive(Debug, Clone, Default)]
pub struct Given {
    entries: BTreeMap<&'static str, (Value, Source)>,
}

impl Given {
    /// Parses and keeps a value; a later one replaces an earlier one.
    ///
    /// # Errors
    /// `InvalidValue`, with the name as the source writes it.
    pub fn set(&mut self, setting: &'static Setting, text: &str, source: Source) -> Result<(), ConfigError> {
        let value = value::parse(setting.kind, text).map_err(|expected| ConfigError::InvalidValue {
            shown: match source {
                Source::Environment => setting.variable(),
                Source::File => setting.file_path(),
                Source::Flag | Source::Default => format!("--{}", setting.name),
            },
            value: text.to_owned(),
            expected,
            on_command_line: source == Source::Flag,
        })?;
        self.entries.insert(setting.name, (value, source));
        Ok(())
    }

    /// Whether the operator set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Where its value comes from.
    pub fn source(&self, name: &str) -> Source {
        self.entries.get(name).map_or(Source::Default, |(_, source)| *source)
    }

    /// The value: the given one, else the table's default.
    ///
    /// # Panics
    /// If the table has no such setting; the test of `effective` reads every name.
    pub fn value(&self, name: &str) -> Value {
        if let Some((value, _)) = self.entries.get(name) {
            return value.clone();
        }
        let setting = table::find(name).unwrap_or_else(|| panic!("setting {name} is missing from the table"));
        value::parse(setting.kind, setting.default).expect("each default is a value of its kind (tested)")
    }

    /// The given settings in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }
}
