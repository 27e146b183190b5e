//! Reads the `ETCD_` variables.
//!
//! Invariants: a flag wins over its variable; an empty variable counts as not set. Called by: `resolve`.
//! Differs from etcd in one point: where a flag and its variable are both set etcd refuses to start, we warn.

use super::error::ConfigError;
use super::given::{Given, Source};
use super::suggest;
use super::table;

/// Variables of the prefix that are not settings: read elsewhere, or meant for other programs of the family.
const OTHER: &[&str] = &["ETCD_CONFIG_FILE", "ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"];

/// Adds what the environment gives to what the flags gave, and returns remarks for the log.
///
/// # Errors
/// `InvalidValue`, naming the variable.
pub(super) fn merge(given: &mut Given, environment: &[(String, String)]) -> Result<Vec<String>, ConfigError> {
    let mut remarks = Vec::new();
    for (variable, text) in
        environment.iter().filter(|(name, text)| name.starts_with("ETCD_") && !text.is_empty())
    {
        if OTHER.contains(&variable.as_str()) {
            continue;
        }
        match table::all().find(|setting| setting.variable() == *variable) {
            Some(setting) if given.is_set(setting.name) => {
                remarks.push(format!("{variable} is set and so is --{}; the flag wins", setting.name));
            }
            Some(setting) => given.set(setting, text, Source::Environment)?,
            None => {
                let names: Vec<String> = table::all().map(|setting| setting.variable()).collect();
                let lower: Vec<String> =
                    names.iter().map(|name| name.replace('_', "-").to_ascii_lowercase()).collect();
                let nearest = suggest::nearest(variable, lower.iter().map(String::as_str))
                    .map(|near| format!("; did you mean {}?", near.replace('-', "_").to_ascii_uppercase()));
                remarks.push(format!("{variable} is not a setting{}", nearest.unwrap_or_default()));
            }
        }
    }
    Ok(remarks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags;

    fn merged(flags: &[&str], environment: &[(&str, &str)]) -> Result<(Given, Vec<String>), ConfigError> {
        let arguments: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let mut given = flags::parse(&arguments)?.given;
        let remarks = merge(&mut given, &environment)?;
        Ok((given, remarks))
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let (given, remarks) = merged(
            &["--name=flag"],
            &[("ETCD_NAME", "env"), ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:1")],
        )
        .unwrap();
        assert_eq!(given.value("name").text(), "flag");
        assert_eq!(given.value("listen-client-urls").text(), "http://0.0.0.0:1");
        assert_eq!(given.source("listen-client-urls"), Source::Environment);
        assert_eq!(remarks, ["ETCD_NAME is set and so is --name; the flag wins"]);
    }

    #[test]
    fn empty_and_foreign_variables_change_nothing() {
        let (given, remarks) =
            merged(&[], &[("ETCD_NAME", ""), ("HOME", "/x"), ("ETCDCTL_API", "3")]).unwrap();
        assert!(!given.is_set("name"));
        assert!(remarks.is_empty());
    }

    #[test]
    fn slips_are_remarked_and_bad_values_refused() {
        let (_, remarks) = merged(&[], &[("ETCD_NMAE", "a")]).unwrap();
        assert_eq!(remarks, ["ETCD_NMAE is not a setting; did you mean ETCD_NAME?"]);
        let error = merged(&[], &[("ETCD_PRE_VOTE", "maybe")]).unwrap_err();
        assert_eq!(error.to_string(), "ETCD_PRE_VOTE: \"maybe\" is not true or false");
        assert_eq!(error.exit_code(), 1);
    }
}
