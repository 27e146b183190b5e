//! Versions of a downgrade request.
//!
//! Owns: [`ClusterVersion`]. Called by: the maintenance service.
//! Source: etcd `server/etcdserver/cluster_util.go` (`convertToClusterVersion`), `server/etcdserver/version`.

use std::fmt;

use crate::errors::{self, WireError};

/// A version without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl ClusterVersion {
    /// Reads "3.6" or "3.6.1"; the patch level is dropped.
    pub fn parse(text: &str) -> Result<ClusterVersion, WireError> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        let parts: Vec<Option<u32>> = release.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_slice() {
            [Some(major), Some(minor), Some(_)] => Ok(ClusterVersion { major: *major, minor: *minor }),
            [Some(major), Some(minor)] if release == text => {
                Ok(ClusterVersion { major: *major, minor: *minor })
            }
            _ => Err(errors::WRONG_DOWNGRADE_VERSION_FORMAT),
        }
    }

    /// True if `target` is the one version a cluster at `self` may go back to: one minor below.
    pub fn may_downgrade_to(self, target: ClusterVersion) -> bool {
        target.major == self.major && target.minor.checked_add(1) == Some(self.minor)
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.0", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_judged() {
        let wrong: Result<(u32, u32), _> = Err(errors::WRONG_DOWNGRADE_VERSION_FORMAT);
        for (text, expected) in [
            ("3.6", Ok((3, 6))),
            ("3.6.2", Ok((3, 6))),
            ("3.6.0-rc.1", Ok((3, 6))),
            ("3.6-rc", wrong),
            ("3", wrong),
            ("3.6.2.1", wrong),
            ("three.six", wrong),
            ("", wrong),
        ] {
            assert_eq!(ClusterVersion::parse(text).map(|v| (v.major, v.minor)), expected, "{text:?}");
        }
    }

    #[test]
    fn only_one_minor_down_is_a_downgrade() {
        let at = ClusterVersion::parse("3.7.0").unwrap();
        for (target, allowed) in
            [("3.6", true), ("3.7", false), ("3.5", false), ("3.8", false), ("2.6", false)]
        {
            assert_eq!(at.may_downgrade_to(ClusterVersion::parse(target).unwrap()), allowed, "{target}");
        }
    }
}
