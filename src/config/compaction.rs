//! Reads the pair `--auto-compaction-mode`, `--auto-compaction-retention`.
//!
//! Called by: `resolve`. Source: etcd server/embed/etcd.go, the parse of the retention.

use std::time::Duration;

use super::duration;
use super::error::ConfigError;

/// What automatic compaction keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// History of this length.
    Periodic(Duration),
    /// This many revisions.
    Revisions(u64),
}

/// The pair's meaning; `None` is off.
///
/// # Errors
/// A retention that the mode cannot read.
pub fn parse(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, ConfigError> {
    let retention = if retention.is_empty() { "0" } else { retention };
    let whole: Option<u64> = retention.parse().ok();
    let refuse = |remedy: &str| {
        ConfigError::contradiction(
            format!("--auto-compaction-retention={retention} does not fit --auto-compaction-mode={mode}"),
            remedy,
        )
    };
    let compaction = match (mode, whole) {
        (_, Some(0)) => return Ok(None),
        ("revision", Some(revisions)) => AutoCompaction::Revisions(revisions),
        // etcd reads a duration in this mode as its nanoseconds; nobody can mean that.
        ("revision", None) => return Err(refuse("give the number of revisions to keep, such as 1000")),
        // A number without a unit is hours.
        (_, Some(hours)) => AutoCompaction::Periodic(Duration::from_secs(
            hours.checked_mul(3600).ok_or_else(|| refuse("give a shorter time"))?,
        )),
        (_, None) => match duration::parse(retention) {
            Some(time) if time.is_zero() => return Ok(None),
            Some(time) => AutoCompaction::Periodic(time),
            None => return Err(refuse("give a duration such as 5m, or whole hours")),
        },
    };
    Ok(Some(compaction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_by_its_mode() {
        let check = |mode: &str, retention: &str, expected: Option<AutoCompaction>| {
            assert_eq!(parse(mode, retention).unwrap(), expected, "{mode} {retention}");
        };
        let minutes = |count: u64| Some(AutoCompaction::Periodic(Duration::from_secs(count * 60)));
        check("periodic", "0", None);
        check("periodic", "", None);
        check("periodic", "0s", None);
        check("periodic", "5m", minutes(5));
        check("periodic", "1", minutes(60));
        check("periodic", "1h30m", minutes(90));
        check("revision", "1000", Some(AutoCompaction::Revisions(1000)));
        check("revision", "0", None);
        assert!(parse("revision", "5m").unwrap_err().remedy().contains("number of revisions"));
        assert!(parse("periodic", "soon").unwrap_err().to_string().contains("soon"));
        assert!(parse("periodic", "-1").is_err());
        assert!(parse("periodic", "18446744073709551615").is_err());
    }
}
