//! From arguments to a command with its flags.
//!
//! Owns: how flags are written: `--name value`, `--name=value`, `-x value`, `-xvalue`, switches without a value, `--` before
//! what is no flag; flags and arguments may alternate. A command may be shortened while only one begins so.
//! Invariant: values are checked here, so that reading them later cannot fail. Called by: `run`, `txn`, `watch`.
//! Source: cobra and pflag, as etcdctl uses them.

use std::collections::BTreeMap;

use super::globals::GLOBALS;
use super::spec::{Action, Command, Flag, Kind};
use super::tables::ROOT;
use crate::failure::{ERROR, Failure};
use crate::go;

/// What is asked for.
#[derive(Debug)]
pub enum Parsed {
    /// The help of the command at this path.
    Help(Vec<&'static str>),
    /// To do something.
    Run(Call),
}

/// A command with its flags and arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to do.
    pub action: Action,
    /// What is no flag.
    pub arguments: Vec<String>,
    /// How many of them stand before `--`, where there is one.
    pub before_dashes: Option<usize>,
    values: BTreeMap<&'static str, String>,
    flags: Vec<&'static Flag>,
}

impl Call {
    /// Whether a flag was given, here or by the environment.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text.
    ///
    /// # Panics
    /// If the command has no such flag.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or_else(|| self.flag(name).default, String::as_str)
    }

    /// A switch.
    ///
    /// # Panics
    /// If the command has no such flag.
    pub fn switch(&self, name: &str) -> bool {
        go::parse_bool(self.text(name)).expect("checked when it was read")
    }

    /// A number.
    ///
    /// # Panics
    /// If the command has no such flag.
    pub fn number(&self, name: &str) -> i64 {
        number(self.text(name)).expect("checked when it was read")
    }

    /// A period.
    ///
    /// # Panics
    /// If the command has no such flag.
    pub fn duration(&self, name: &str) -> std::time::Duration {
        go::parse_duration(self.text(name)).expect("checked when it was read")
    }

    /// A list.
    ///
    /// # Panics
    /// If the command has no such flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        if text.is_empty() {
            Vec::new()
        } else {
            text.split(',').map(|item| item.trim().to_owned()).collect()
        }
    }

    /// Gives a flag a value.
    ///
    /// # Errors
    /// If the value is none of its kind.
    pub(crate) fn set(&mut self, flag: &'static Flag, value: &str, written: &str) -> Result<(), Failure> {
        check(flag, value).map_err(|why| {
            Failure::new(
                ERROR,
                format!(
                    "invalid argument {} for {} flag: {why}",
                    go::quote(value.as_bytes()),
                    go::quote(written.as_bytes())
                ),
            )
            .help(format!("--{} is {}", flag.name, describe(flag.kind)))
        })?;
        match self.values.get_mut(flag.name) {
            Some(before) if flag.kind == Kind::List => {
                before.push(',');
                before.push_str(value);
            }
            _ => {
                self.values.insert(flag.name, value.to_owned());
            }
        }
        Ok(())
    }

    fn flag(&self, name: &str) -> &'static Flag {
        self.flags
            .iter()
            .find(|flag| flag.name == name)
            .unwrap_or_else(|| panic!("no flag {name} in the table"))
    }
}

/// Reads a whole command line.
///
/// # Errors
/// Unknown commands and flags, wrong values.
pub fn parse(arguments: &[String]) -> Result<Parsed, Failure> {
    parse_below(&ROOT, GLOBALS, arguments)
}

/// Reads the flags and arguments of one command, without its name and without global flags.
///
/// # Errors
/// Unknown flags, wrong values.
pub(crate) fn parse_command(name: &str, arguments: &[String]) -> Result<Call, Failure> {
    let command = ROOT.commands.iter().find(|command| command.name == name).expect("a name in the table");
    match parse_below(command, &[], arguments)? {
        Parsed::Run(call) => Ok(call),
        Parsed::Help(_) => Err(Failure::new(ERROR, "help is not a request")),
    }
}

fn parse_below(
    root: &'static Command,
    globals: &'static [Flag],
    arguments: &[String],
) -> Result<Parsed, Failure> {
    let mut path = vec![root];
    let mut call = Call {
        // Replaced by the command's own before anybody looks.
        action: Action::Version,
        arguments: Vec::new(),
        before_dashes: None,
        values: BTreeMap::new(),
        flags: globals.iter().chain(root.flags).collect(),
    };
    let mut help = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let command = *path.last().expect("the root is never taken away");
        match argument.as_str() {
            "--" => {
                call.before_dashes = Some(call.arguments.len());
                call.arguments.extend(rest.by_ref().cloned());
            }
            "--help" | "-h" => help = true,
            long if long.starts_with("--") => {
                let (name, value) = match long[2..].split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (&long[2..], None),
                };
                let flag = find(&call, |flag| flag.name == name)
                    .or_else(|| later_flag(command, name))
                    .ok_or_else(|| unknown_flag(&call, &format!("--{name}"), name))?;
                let value = take(flag, value, &mut rest, &format!("--{name}"))?;
                call.set(flag, &value, &format!("--{name}"))?;
            }
            short if short.len() > 1 && short.starts_with('-') => letters(&mut call, short, &mut rest)?,
            word if !command.commands.is_empty() => match word {
                "help" if path.len() == 1 => help = true,
                _ => match descend(command, word) {
                    Some(below) => {
                        call.flags.extend(below.flags);
                        path.push(below);
                    }
                    None => return Err(unknown_command(command, word)),
                },
            },
            word => call.arguments.push(word.to_owned()),
        }
    }
    let command = *path.last().expect("the root is never taken away");
    match command.action {
        Some(action) if !help => Ok(Parsed::Run(Call { action, ..call })),
        _ => Ok(Parsed::Help(path.iter().skip(1).map(|command| command.name).collect())),
    }
}

/// Flags of commands may stand before their names.
fn later_flag(command: &'static Command, name: &str) -> Option<&'static Flag> {
    command.commands.iter().find_map(|below| {
        below.flags.iter().find(|flag| flag.name == name).or_else(|| later_flag(below, name))
    })
}

/// Letters behind one dash: switches, the last one perhaps with a value.
fn letters<'a>(
    call: &mut Call,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), Failure> {
    let mut left = &word[1..];
    while let Some(letter) = left.chars().next() {
        left = &left[letter.len_utf8()..];
        let name = format!("-{letter}");
        let flag = find(call, |flag| flag.short == Some(letter)).ok_or_else(|| {
            Failure::new(ERROR, format!("unknown shorthand flag: {} in {word}", quote_letter(letter)))
                .help("see --help for the flags there are")
        })?;
        if flag.kind == Kind::Switch && !left.starts_with('=') {
            call.set(flag, "true", &name)?;
            continue;
        }
        let value = (!left.is_empty()).then(|| left.strip_prefix('=').unwrap_or(left));
        let value = take(flag, value, rest, &name)?;
        return call.set(flag, &value, &name);
    }
    Ok(())
}

fn quote_letter(letter: char) -> String {
    format!("'{letter}'")
}

fn take<'a>(
    flag: &Flag,
    value: Option<&str>,
    rest: &mut impl Iterator<Item = &'a String>,
    written: &str,
) -> Result<String, Failure> {
    match (value, flag.kind) {
        (Some(value), _) => Ok(value.to_owned()),
        (None, Kind::Switch) => Ok("true".to_owned()),
        (None, _) => rest.next().cloned().ok_or_else(|| {
            Failure::new(ERROR, format!("flag needs an argument: {written}")).help(format!(
                "--{} is {}",
                flag.name,
                describe(flag.kind)
            ))
        }),
    }
}

fn find(call: &Call, wanted: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    call.flags.iter().copied().find(|flag| wanted(flag))
}

/// The command of this name, or the only one that begins so.
fn descend(command: &'static Command, word: &str) -> Option<&'static Command> {
    if let Some(exact) = command.commands.iter().find(|below| below.name == word) {
        return Some(exact);
    }
    let mut matching = command.commands.iter().filter(|below| below.name.starts_with(word));
    match (matching.next(), matching.next()) {
        (Some(only), None) if !word.is_empty() => Some(only),
        _ => None,
    }
}

fn unknown_command(command: &Command, word: &str) -> Failure {
    let names = command.commands.iter().map(|below| below.name);
    let known = names.clone().collect::<Vec<_>>().join(", ");
    let help = match closest(word, names) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are: {known}"),
    };
    Failure::new(ERROR, format!("unknown command {} for \"{}\"", go::quote(word.as_bytes()), command.name))
        .help(help)
}

fn unknown_flag(call: &Call, written: &str, name: &str) -> Failure {
    let failure = Failure::new(ERROR, format!("unknown flag: {written}"));
    match closest(name, call.flags.iter().map(|flag| flag.name)) {
        Some(name) => failure.help(format!("did you mean --{name}?")),
        None => failure.help("see --help for the flags of a command, and `options` for those of all"),
    }
}

/// The name that differs in two letters at most.
fn closest(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    names
        .map(|name| (distance(word, name), name))
        .filter(|(steps, name)| *steps <= 2 && *steps < name.len())
        .min()
        .map(|(_, name)| name)
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let change = diagonal + usize::from(letter != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// A number as flags write it: base 10, or 16, 8, 2 with the usual beginnings.
fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1_i128, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|digit: char| digit.is_digit(radix)) {
        return None;
    }
    i64::try_from(sign * i128::from(u64::from_str_radix(digits, radix).ok()?)).ok()
}

fn check(flag: &Flag, value: &str) -> Result<(), String> {
    let syntax = |function: &str| {
        format!("strconv.{function}: parsing {}: invalid syntax", go::quote(value.as_bytes()))
    };
    match flag.kind {
        Kind::Switch => go::parse_bool(value).map(drop).ok_or_else(|| syntax("ParseBool")),
        Kind::Number => number(value).map(drop).ok_or_else(|| syntax("ParseInt")),
        Kind::Count => number(value).filter(|value| *value >= 0).map(drop).ok_or_else(|| syntax("ParseUint")),
        Kind::Duration => go::parse_duration(value)
            .map(drop)
            .ok_or_else(|| format!("time: invalid duration {}", go::quote(value.as_bytes()))),
        Kind::Text | Kind::List => Ok(()),
    }
}

fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true or false",
        Kind::Text => "a text",
        Kind::Number => "a whole number",
        Kind::Count => "a whole number, not negative",
        Kind::Duration => "a period such as 5s or 1m30s",
        Kind::List => "a list, separated by commas",
    }
}

#[cfg(test)]
#[path = "parse_test.rs"]
mod tests;
