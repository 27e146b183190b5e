//! The value of a setting, parsed once by its kind.
//!
//! Invariants: a `Value` of a setting always has the variant of the setting's kind (`parse` is the only way in).
//! Called by: `flags`, `env`, `file`, `layers`. Source: Go's flag and strconv packages for what a number or bool is.

use std::time::Duration;

use super::duration;
use super::setting::Kind;
use super::url::{self, Url};

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of the kinds `Text`, `Path` and `Choice`.
    Text(String),
    /// Of the kind `Switch`.
    Switch(bool),
    /// Of the kind `Unsigned`.
    Unsigned(u64),
    /// Of the kind `Signed`.
    Signed(i64),
    /// Of the kind `Duration`.
    Duration(Duration),
    /// Of the kind `Urls`, sorted and unique.
    Urls(Vec<Url>),
    /// Of the kinds `List` and `Origins`.
    List(Vec<String>),
}

impl Value {
    /// The text that `parse` reads back.
    pub fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Switch(on) => on.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Signed(number) => number.to_string(),
            Value::Duration(time) => duration::format(*time),
            Value::Urls(urls) => url::join(urls),
            Value::List(items) => items.join(","),
        }
    }
}

/// Reads a text as a value of this kind.
///
/// # Errors
/// What a value of this kind looks like, to stand after "give" or "is not".
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text | Kind::Path => Ok(Value::Text(text.to_owned())),
        Kind::Switch => switch(text).map(Value::Switch).ok_or_else(|| "true or false".to_owned()),
        Kind::Unsigned => {
            unsigned(text).map(Value::Unsigned).ok_or_else(|| "a whole number from 0".to_owned())
        }
        Kind::Signed => signed(text).map(Value::Signed).ok_or_else(|| "a whole number".to_owned()),
        // Two settings have no default of their own in etcd's help.
        Kind::Duration if text.is_empty() => Ok(Value::Duration(Duration::ZERO)),
        Kind::Duration => duration::parse(text)
            .map(Value::Duration)
            .ok_or_else(|| "a duration such as 5m, 100ms or 1h30m".to_owned()),
        Kind::Urls => url::parse_list(text).map(Value::Urls),
        Kind::Origins if text == "*" => Ok(Value::List(vec!["*".to_owned()])),
        Kind::Origins => {
            url::parse_list(text).map(|urls| Value::List(urls.iter().map(Url::to_string).collect()))
        }
        Kind::List => Ok(Value::List(
            text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect(),
        )),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => Err(format!(
            "one of {}",
            words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(", ")
        )),
    }
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal, or 0x, 0o, 0b, and an old octal 0 in front; underscores between digits.
fn unsigned(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.starts_with(['+', '-']) || digits.ends_with('_') {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

fn signed(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(digits) => i64::try_from(-i128::from(unsigned(digits)?)).ok(),
        None => i64::try_from(unsigned(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(unsigned(text), expected, "{text:?}");
        check("0", Some(0));
        check("128", Some(128));
        check("0x10", Some(16));
        check("010", Some(8));
        check("1_000", Some(1000));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("-1", None);
        check("+1", None);
        check("1.5", None);
        check("1_", None);
        check("", None);
        assert_eq!(signed("-1"), Some(-1));
        assert_eq!(signed("+7"), Some(7));
        assert_eq!(signed("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed("9223372036854775808"), None);
        assert_eq!(signed("--1"), None);
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        for (kind, text) in [
            (Kind::Switch, "true"),
            (Kind::Unsigned, "100"),
            (Kind::Signed, "-1"),
            (Kind::Duration, "5m"),
            (Kind::Urls, "http://a:1,https://b:2"),
            (Kind::Origins, "*"),
            (Kind::List, "a,b"),
            (Kind::Choice(&["new", "existing"]), "existing"),
        ] {
            assert_eq!(parse(kind, text).unwrap().text(), text);
        }
    }

    #[test]
    fn wrong_values_are_answered_with_right_ones() {
        let check =
            |kind: Kind, text: &str, expected: &str| assert_eq!(parse(kind, text).unwrap_err(), expected);
        check(Kind::Switch, "maybe", "true or false");
        check(Kind::Unsigned, "-3", "a whole number from 0");
        check(Kind::Duration, "5", "a duration such as 5m, 100ms or 1h30m");
        check(Kind::Choice(&["", "a", "b"]), "c", "one of a, b");
    }
}
