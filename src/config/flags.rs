//! Reads a command line the way etcd does: `-name value`, `--name value`, `--name=value`, `--switch`, `--switch=false`.
//!
//! Invariants: the last of several equal flags wins; reading stops at the first fault. Called by: `resolve`.
//! Why our own: Go's rules (one dash or two, a switch never takes the next word) are not those of clap.
//! Source: the documentation of Go's flag package; checked against etcd 3.7.3.

use super::error::ConfigError;
use super::given::{Given, Source};
use super::setting::Kind;
use super::suggest;
use super::table::{self, retired};

/// A command line, read.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// The settings given.
    pub given: Given,
    /// The value of `--config-file`.
    pub config_file: Option<String>,
    /// Whether `--version` was given.
    pub version: bool,
    /// Whether `-h`, `-help` or `--help` was given.
    pub help: bool,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// The first fault, with a suggestion where one is near.
pub(super) fn parse(arguments: &[String]) -> Result<CommandLine, ConfigError> {
    let mut line = CommandLine::default();
    let mut rest = arguments.iter();
    let mut last_switch = None;
    while let Some(argument) = rest.next() {
        let Some(body) = body(argument)? else {
            return Err(ConfigError::UnexpectedArgument {
                argument: argument.clone(),
                after_switch: last_switch
                    .filter(|_| matches!(argument.as_str(), "true" | "false" | "0" | "1")),
            });
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        last_switch = None;
        match name {
            "h" | "help" => {
                line.help = true;
                return Ok(line);
            }
            "version" => line.version = value != Some("false"),
            "config-file" => line.config_file = Some(value_or_next("config-file", value, &mut rest)?),
            // Like Go's boolean-less ignored flags, these eat a value.
            ignored if retired::IGNORED.contains(&ignored) => {
                value_or_next(ignored, value, &mut rest)?;
            }
            name => {
                let setting = table::find(name).ok_or_else(|| unknown(name))?;
                let text = match (setting.kind, value) {
                    (Kind::Switch, None) => {
                        last_switch = Some(setting.name);
                        "true".to_owned()
                    }
                    _ => value_or_next(name, value, &mut rest)?,
                };
                line.given.set(setting, &text, Source::Flag)?;
            }
        }
    }
    Ok(line)
}

/// The argument without its dashes; `None` if it is no flag at all.
fn body(argument: &str) -> Result<Option<&str>, ConfigError> {
    let Some(one) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
        return Ok(None);
    };
    let body = one.strip_prefix('-').unwrap_or(one);
    if body.is_empty() || body.starts_with(['-', '=']) {
        return Err(ConfigError::BadFlagSyntax { argument: argument.to_owned() });
    }
    Ok(Some(body))
}

fn value_or_next(
    flag: &str,
    value: Option<&str>,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<String, ConfigError> {
    value
        .map(str::to_owned)
        .or_else(|| rest.next().cloned())
        .ok_or_else(|| ConfigError::MissingValue { flag: flag.to_owned() })
}

fn unknown(name: &str) -> ConfigError {
    if let Some(instead) = retired::replacement(name) {
        return ConfigError::Removed { shown: format!("--{name}"), instead, on_command_line: true };
    }
    let known = table::all().map(|setting| setting.name).chain(["config-file", "version", "help"]);
    ConfigError::UnknownFlag { flag: name.to_owned(), nearest: suggest::nearest(name, known) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    fn read(arguments: &[&str]) -> Result<CommandLine, ConfigError> {
        parse(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn all_forms_of_a_flag_mean_the_same() {
        for arguments in
            [&["--name", "a"][..], &["-name", "a"], &["--name=a"], &["-name=a"], &["--name=b", "--name=a"]]
        {
            assert_eq!(
                read(arguments).unwrap().given.value("name"),
                Value::Text("a".into()),
                "{arguments:?}"
            );
        }
        for (arguments, expected) in [
            (&["--pre-vote"][..], true),
            (&["--pre-vote=false"], false),
            (&["-pre-vote=0"], false),
            (&["--pre-vote", "--name=a"], true),
        ] {
            assert_eq!(
                read(arguments).unwrap().given.value("pre-vote"),
                Value::Switch(expected),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        assert_eq!(
            read(&["--quota-backend-bytes", "-1"]).unwrap().given.value("quota-backend-bytes"),
            Value::Signed(-1)
        );
        assert_eq!(
            read(&["--initial-cluster=a=http://b:1"]).unwrap().given.value("initial-cluster").text(),
            "a=http://b:1"
        );
    }

    #[test]
    fn faults_say_what_to_do() {
        let check = |arguments: &[&str], code: u8, problem: &str, remedy: &str| {
            let error = read(arguments).unwrap_err();
            assert_eq!(
                (error.exit_code(), error.to_string().as_str(), error.remedy().as_str()),
                (code, problem, remedy)
            );
        };
        check(&["--nmae=a"], 2, "unknown flag --nmae", "did you mean --name?");
        check(&["--zzzzzz"], 2, "unknown flag --zzzzzz", "--help lists all flags");
        check(&["--name"], 2, "--name needs a value", "write --name=VALUE");
        check(&["--pre-vote=x"], 2, "--pre-vote: \"x\" is not true or false", "give true or false");
        check(
            &["--experimental-max-learners=2"],
            2,
            "--experimental-max-learners no longer exists",
            "write --max-learners",
        );
        check(
            &["---name=a"],
            2,
            "\"---name=a\" is not a flag",
            "flags are written --name=value; --help lists them",
        );
        check(
            &["--pre-vote", "false"],
            1,
            "unexpected argument \"false\"",
            "a switch takes its value with an equals sign: --pre-vote=false",
        );
        check(
            &["start"],
            1,
            "unexpected argument \"start\"",
            "settings are given as flags: --name=value; --help lists them",
        );
    }

    #[test]
    fn help_and_version_are_seen() {
        assert!(read(&["--name=a", "-h", "--nonsense"]).unwrap().help);
        assert!(read(&["--help"]).unwrap().help);
        assert!(read(&["--version"]).unwrap().version);
    }

    #[test]
    fn flags_of_the_first_years_are_skipped() {
        assert!(read(&["--snapshot", "true", "--name=a"]).unwrap().given.is_set("name"));
    }
}
