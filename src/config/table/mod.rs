//! The table of all settings, in the order of the help text, and the names that are gone.
//!
//! Owns: the complete flag surface of etcd 3.7. Invariants (tested): names are unique and sorted into groups; each
//! default parses as its own kind. Called by: every reader of settings. Source: etcd 3.7 server, its flag set and help.

mod cluster;
mod member;
mod monitoring;
pub mod retired;
mod security;
mod tuning;

use super::setting::{Group, Setting};

/// All groups in the order shown.
pub const GROUPS: &[Group] = &[
    member::GROUP,
    cluster::GROUP,
    security::GROUP,
    security::AUTH,
    monitoring::GROUP,
    monitoring::LOGGING,
    monitoring::TRACING,
    tuning::GROUP,
    tuning::UNSAFE,
];

/// Every setting, in the order of the help text.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings.iter())
}

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::value;

    #[test]
    fn names_are_unique() {
        let mut seen = BTreeSet::new();
        for setting in all() {
            assert!(seen.insert(setting.name), "{} stands twice in the table", setting.name);
        }
    }

    #[test]
    fn each_default_is_a_value_of_its_kind() {
        for setting in all() {
            let parsed = value::parse(setting.kind, setting.default);
            assert!(parsed.is_ok(), "default of {}: {parsed:?}", setting.name);
        }
    }

    /// The flags that etcd 3.7.3 accepts, read from its flag set. A name missing here breaks somebody's start script.
    #[test]
    fn the_surface_is_etcds() {
        let expected = include_str!("etcd-3.7-flags.txt");
        let ours: BTreeSet<&str> = all()
            .map(|setting| setting.name)
            .chain(retired::IGNORED.iter().copied())
            .chain(["config-file", "version"])
            .collect();
        let theirs: BTreeSet<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(ours, theirs);
    }
}
