//! What one setting is: its name, the kind of its value, its default, and what this store does with it.
//!
//! Owns: the types of the table in `table/`. Invariants: a name is written once, in the table; flags,
//! environment, file keys, help, completions and `config print` are all read from it.
//! Called by: every module of `config` and `cli`. Source: the flags of etcd 3.7.

/// One row of the table of settings.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag without its dashes; the environment name and the file key follow from it.
    pub name: &'static str,
    /// Which texts are values of this setting.
    pub kind: Kind,
    /// The default as a user would write it; empty for "none".
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// What this store does when it is given.
    pub status: Status,
    /// Where the configuration file has it.
    pub file: FileKey,
}

/// The kind of a value. Sizes and times carry their unit in the setting's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path; relative ones are relative to the working directory.
    Path,
    /// `--x`, `--x=true`, `--x=false`.
    Switch,
    /// A whole number from zero; Go's prefixes and underscores are accepted.
    Unsigned,
    /// A whole number, negative ones included.
    Signed,
    /// A Go duration: `5m`, `100ms`, `1h30m`. In a file also integer nanoseconds.
    Duration,
    /// Comma separated URLs of the schemes http, https, unix and unixs.
    Urls,
    /// As `Urls`, or `*` for all.
    Origins,
    /// Comma separated texts.
    List,
    /// One of the given words.
    Choice(&'static [&'static str]),
}

/// What the store does with a setting that is given explicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has its meaning.
    Honoured,
    /// Accepted, checked, and answered with a warning that gives this reason: it has no meaning here.
    Inert(&'static str),
    /// Accepting it silently would break a promise (security, membership): the start is refused with this remedy.
    Refused(&'static str),
}

/// Where a setting stands in the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKey {
    /// At the top level under the flag's own name.
    SameAsFlag,
    /// In a nested map: the map's key and the key inside it.
    Nested(&'static str, &'static str),
}

impl Setting {
    /// A setting that is honoured and stands in the file under its own name.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
        Setting { name, kind, default, help, status: Status::Honoured, file: FileKey::SameAsFlag }
    }

    /// The same setting, accepted without effect for the given reason.
    pub const fn inert(mut self, why: &'static str) -> Setting {
        self.status = Status::Inert(why);
        self
    }

    /// The same setting, refused with the given remedy when it is set away from its default.
    pub const fn refused(mut self, remedy: &'static str) -> Setting {
        self.status = Status::Refused(remedy);
        self
    }

    /// The same setting, kept in a nested map of the file.
    pub const fn nested(mut self, map: &'static str, key: &'static str) -> Setting {
        self.file = FileKey::Nested(map, key);
        self
    }

    /// The environment variable: `ETCD_` and the name in capitals, dashes as underscores.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// How the file names it, for messages: `name`, or `map.key`.
    pub fn file_path(&self) -> String {
        match self.file {
            FileKey::SameAsFlag => self.name.to_owned(),
            FileKey::Nested(map, key) => format!("{map}.{key}"),
        }
    }
}

/// A headed part of the help text.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// Its settings in the order shown.
    pub settings: &'static [Setting],
}
