//! Why a configuration is refused: what is wrong, which setting, what to do, and the exit code that follows.
//!
//! Invariants: each message names the setting as the user wrote it and ends with a remedy; a fault of the command
//! line exits with 2, everything else with 1, as etcd does. Called by: `config` and, for printing, `cli`.

use std::path::PathBuf;

use thiserror::Error;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The command line has a flag that never existed.
    #[error("unknown flag --{flag}")]
    UnknownFlag {
        /// As written, without dashes.
        flag: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
    },
    /// A flag or key that etcd once had.
    #[error("{shown} no longer exists")]
    Removed {
        /// As written.
        shown: String,
        /// What to write instead.
        instead: String,
        /// Whether it stood on the command line.
        on_command_line: bool,
    },
    /// A flag stands last and has no value.
    #[error("--{flag} needs a value")]
    MissingValue {
        /// The flag without dashes.
        flag: String,
    },
    /// A dash too many or a name missing.
    #[error("{argument:?} is not a flag")]
    BadFlagSyntax {
        /// The argument as written.
        argument: String,
    },
    /// Something that is not a flag.
    #[error("unexpected argument {argument:?}")]
    UnexpectedArgument {
        /// The argument as written.
        argument: String,
        /// The switch before it, when that explains the mistake.
        after_switch: Option<&'static str>,
    },
    /// A value that is not of the setting's kind.
    #[error("{shown}: {value:?} is not {expected}")]
    InvalidValue {
        /// The setting as written: `--x`, `ETCD_X` or the key of the file.
        shown: String,
        /// The value as written.
        value: String,
        /// What a value looks like.
        expected: String,
        /// Whether it stood on the command line.
        on_command_line: bool,
    },
    /// The file cannot be read.
    #[error("read the configuration file {}", path.display())]
    FileRead {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML, or not a map of settings.
    #[error("parse the configuration file {}: {problem}", path.display())]
    FileSyntax {
        /// Its path.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
    /// The file has a key that means nothing.
    #[error("unknown key {key:?} in {}{}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key with the map it stands in.
        key: String,
        /// Its line, when it could be found.
        line: Option<usize>,
        /// The most similar known key.
        nearest: Option<String>,
    },
    /// A setting that cannot be honoured and must not be ignored.
    #[error("--{setting} is not supported")]
    Unsupported {
        /// Its name.
        setting: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Values that are fine alone and wrong together, or out of bounds.
    #[error("{problem}")]
    Contradiction {
        /// What is wrong, with the settings and their values.
        problem: String,
        /// What to change.
        remedy: String,
    },
    /// The data folder holds something else.
    #[error("{} holds {holds}", path.display())]
    ForeignData {
        /// The folder.
        path: PathBuf,
        /// What was found.
        holds: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

impl ConfigError {
    /// A contradiction with its remedy.
    pub fn contradiction(problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError::Contradiction { problem: problem.into(), remedy: remedy.into() }
    }

    /// 2 for a command line that cannot be read, 1 for a start that fails.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::UnknownFlag { .. }
            | ConfigError::MissingValue { .. }
            | ConfigError::BadFlagSyntax { .. }
            | ConfigError::Removed { on_command_line: true, .. }
            | ConfigError::InvalidValue { on_command_line: true, .. } => 2,
            _ => 1,
        }
    }

    /// What to do about it, as one sentence without a full stop.
    pub fn remedy(&self) -> String {
        match self {
            ConfigError::UnknownFlag { nearest: Some(nearest), .. } => format!("did you mean --{nearest}?"),
            ConfigError::UnknownFlag { nearest: None, .. } => "--help lists all flags".to_owned(),
            ConfigError::Removed { instead, .. } => instead.clone(),
            ConfigError::MissingValue { flag } => format!("write --{flag}=VALUE"),
            ConfigError::BadFlagSyntax { .. } => {
                "flags are written --name=value; --help lists them".to_owned()
            }
            ConfigError::UnexpectedArgument { after_switch: Some(switch), argument } => {
                format!("a switch takes its value with an equals sign: --{switch}={argument}")
            }
            ConfigError::UnexpectedArgument { after_switch: None, .. } => {
                "settings are given as flags: --name=value; --help lists them".to_owned()
            }
            ConfigError::InvalidValue { expected, .. } => format!("give {expected}"),
            ConfigError::FileRead { .. } => "check the path and the permissions".to_owned(),
            ConfigError::FileSyntax { .. } => {
                "write one `name: value` per line, names as the flags without dashes in front".to_owned()
            }
            ConfigError::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean {nearest:?}?"),
            ConfigError::UnknownKey { nearest: None, .. } => {
                "keys are the names of the flags; `keelson config print --effective` lists them all"
                    .to_owned()
            }
            ConfigError::Unsupported { remedy, .. } | ConfigError::ForeignData { remedy, .. } => {
                (*remedy).to_owned()
            }
            ConfigError::Contradiction { remedy, .. } => remedy.clone(),
        }
    }
}
