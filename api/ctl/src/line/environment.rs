//! Flags from variables: `ETCDCTL_ENDPOINTS` is `--endpoints`.
//!
//! Owns: which variable is which flag. Invariant: a flag and its variable together are refused, as etcdctl does.
//! Called by: every command that talks to a server. Source: etcd pkg/flags/flag.go.

use super::globals::GLOBALS;
use super::parse::Call;
use crate::failure::{ERROR, Failure};

/// Variables that are none of flags, and fine.
const OTHERS: [&str; 3] = ["ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// Takes the variables into the flags.
///
/// # Errors
/// A variable of a flag that is given too, or with a wrong value.
pub(crate) fn apply(call: &mut Call, environment: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("ETCDCTL_") else { continue };
        let flag = GLOBALS.iter().find(|flag| flag.name.to_ascii_uppercase().replace('-', "_") == rest);
        match flag {
            Some(flag) if call.given(flag.name) => {
                return Err(Failure::new(ERROR, format!("{name} is set, and --{} is given", flag.name))
                    .help("give one of the two: unset the variable, or leave the flag out"));
            }
            Some(_) if value.is_empty() => {}
            Some(flag) => call.set(flag, value, name)?,
            None if OTHERS.contains(&name.as_str()) => {}
            None => eprintln!("warning: {name} is no variable of this program"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::parse::{Parsed, parse};

    fn with(line: &[&str], name: &str, value: &str) -> Result<Call, Failure> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let Ok(Parsed::Run(mut call)) = parse(&words) else { panic!("{line:?}") };
        apply(&mut call, &[(name.to_owned(), value.to_owned())])?;
        Ok(call)
    }

    #[test]
    fn a_variable_is_a_flag() {
        let call = with(&["get", "a"], "ETCDCTL_WRITE_OUT", "json").expect("a variable");
        assert_eq!(call.text("write-out"), "json");
        assert_eq!(with(&["get", "a"], "ETCDCTL_API", "3").expect("known").text("write-out"), "simple");
    }

    #[test]
    fn both_are_refused_and_so_is_nonsense() {
        let both = with(&["-w", "json", "get", "a"], "ETCDCTL_WRITE_OUT", "json").expect_err("both");
        assert_eq!(both.code(), 1);
        assert!(with(&["get", "a"], "ETCDCTL_DIAL_TIMEOUT", "soon").is_err());
    }
}
