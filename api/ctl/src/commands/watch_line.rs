//! What `watch` is asked to watch, and which command it runs: arguments, variables, what stands behind `--`.
//!
//! Source: etcdctl 3.7.3, watch_command.go.

use super::range;
use super::watcher::Spec;
use crate::failure::Failure;
use crate::line::parse::Call;

/// Key and end from `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`.
pub(super) struct Variables {
    pub(super) key: String,
    pub(super) end: String,
}

impl Variables {
    pub(super) fn read(environment: &[(String, String)]) -> Result<Self, Failure> {
        let value = |wanted: &str| {
            environment
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
                .unwrap_or_default()
        };
        let (key, end) = (value("ETCDCTL_WATCH_KEY"), value("ETCDCTL_WATCH_RANGE_END"));
        if key.is_empty() && !end.is_empty() {
            let quoted = crate::go::quote(end.as_bytes());
            return Err(Failure::arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quoted}"
            )));
        }
        Ok(Self { key, end })
    }
}

/// What to watch and what to run.
pub(super) fn read(call: &Call, variables: &Variables) -> Result<(Spec, Vec<String>), Failure> {
    const USAGE: &str = "bad number of arguments";
    let (keys, command) = match call.before_dashes {
        Some(count) => call.arguments.split_at(count),
        None => (&call.arguments[..], &[][..]),
    };
    if call.before_dashes.is_some() && command.is_empty() {
        return Err(Failure::arguments(format!("{USAGE} (found separator --, but no commands)")));
    }
    let keys: Vec<&str> = match (variables.key.as_str(), keys) {
        ("", keys) => keys.iter().map(String::as_str).collect(),
        (key, []) if variables.end.is_empty() => vec![key],
        (key, []) => vec![key, &variables.end],
        _ => return Err(Failure::arguments(format!("{USAGE} (found conflicting environment key)"))),
    };
    let Some(key) = keys.first() else { return Err(Failure::arguments(USAGE).help("watch needs a key")) };
    let mut spec = Spec {
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        revision: call.number("rev"),
        prev_kv: call.switch("prev-kv"),
        progress_notify: call.switch("progress-notify"),
        ..Spec::default()
    };
    match (&keys[..], call.switch("prefix")) {
        ([_, _], true) => {
            return Err(Failure::arguments("`range_end` and `--prefix` are mutually exclusive"));
        }
        ([_, end], false) => spec.end = bytes::Bytes::copy_from_slice(end.as_bytes()),
        (_, true) => (spec.key, spec.end) = range::prefix(key),
        _ => {}
    }
    Ok((spec, command.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::parse::parse_command;

    fn read_line(line: &[&str], key: &str) -> Result<(String, String, Vec<String>), String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let call = parse_command("watch", &words).expect("flags");
        let variables = Variables { key: key.to_owned(), end: String::new() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        read(&call, &variables)
            .map(|(spec, command)| (text(&spec.key), text(&spec.end), command))
            .map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn keys_stand_before_the_dashes_and_a_command_behind() {
        let plain = read_line(&["foo", "--rev", "1", "bar", "--", "echo", "foo"], "").expect("a watch");
        assert_eq!(plain, ("foo".to_owned(), "bar".to_owned(), vec!["echo".to_owned(), "foo".to_owned()]));
        assert_eq!(read_line(&["--prefix", "a"], "").expect("a prefix").1, "b");
        assert_eq!(read_line(&["--", "echo"], "k").expect("a variable").0, "k");
    }

    #[test]
    fn conflicts_are_refused() {
        assert_eq!(
            read_line(&["foo", "--"], ""),
            Err("bad number of arguments (found separator --, but no commands)".to_owned())
        );
        assert_eq!(
            read_line(&["foo"], "k"),
            Err("bad number of arguments (found conflicting environment key)".to_owned())
        );
        assert_eq!(read_line(&[], ""), Err("bad number of arguments".to_owned()));
        assert!(read_line(&["a", "b", "--prefix"], "").is_err());
    }
}
