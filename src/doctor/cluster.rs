//! The members as a client sees them: whether they answer, agree, have room, and share the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_ctl::{Client, Settings, inspect};

use super::Finding;

/// Leases and certificates bear this much.
const SKEW_GOOD: Duration = Duration::from_secs(1);
const SKEW_BEARABLE: Duration = Duration::from_secs(30);
/// The Date of a page counts in seconds.
const DATE_STEP: Duration = Duration::from_secs(1);
const QUOTA_WARNING_PERCENT: i64 = 80;
const QUOTA_FAILURE_PERCENT: i64 = 95;

/// The endpoints that answer, and what was found.
pub(super) async fn examine(settings: &Settings) -> (Vec<String>, Vec<Finding>) {
    let (mut running, mut findings) = (Vec::new(), Vec::new());
    let mut endpoints = settings.endpoints.clone();
    // Every member that one of the endpoints knows is asked, too.
    if let Ok(client) = Client::open(settings).await
        && let Ok(answer) = client.members(false).await
    {
        let known = answer.members.into_iter().flat_map(|member| member.client_ur_ls);
        for url in known {
            if !endpoints.contains(&url) {
                endpoints.push(url);
            }
        }
    }
    for endpoint in &endpoints {
        let check = format!("store at {endpoint}");
        let client = match Client::open(&settings.at(endpoint)).await {
            Ok(client) => client,
            Err(failure) => {
                findings.push(Finding::warning(check, failure.message(), help_of(&failure)));
                continue;
            }
        };
        match client.status().await {
            Ok(status) => {
                running.push(endpoint.clone());
                findings.push(agreement(&check, &status.version, status.leader, &status.errors));
                findings.push(quota(endpoint, status.db_size, status.db_size_quota));
                findings.extend(clock(settings, endpoint).await);
            }
            Err(failure) => findings.push(Finding::failure(check, failure.message(), help_of(&failure))),
        }
    }
    (running, findings)
}

fn help_of(failure: &keelson_ctl::Failure) -> String {
    let help = failure.notes().iter().find(|(label, _)| *label == "help");
    help.map_or_else(|| "start the store, or give --endpoints".to_owned(), |(_, text)| text.clone())
}

fn agreement(check: &str, version: &str, leader: u64, errors: &[String]) -> Finding {
    if leader == 0 {
        return Finding::failure(
            check,
            format!("version {version}, no leader"),
            "more than half of the members must be up and reach each other",
        );
    }
    if !errors.is_empty() {
        return Finding::failure(
            check,
            errors.join(", "),
            "`keelson ctl alarm list` and the store's log say more",
        );
    }
    Finding::ok(check, format!("version {version}, leader {leader:x}"))
}

fn quota(endpoint: &str, size: i64, quota: i64) -> Finding {
    let check = format!("quota at {endpoint}");
    if quota <= 0 {
        return Finding::ok(check, format!("{} MiB, no quota", size >> 20));
    }
    let percent = size.saturating_mul(100) / quota;
    let seen = format!("{} MiB of {} MiB, {percent}%", size >> 20, quota >> 20);
    let help =
        "delete keys and compact, or raise --quota-backend-bytes: at 100% writes that add data are refused";
    match percent {
        QUOTA_FAILURE_PERCENT.. => Finding::failure(check, seen, help),
        QUOTA_WARNING_PERCENT.. => Finding::warning(check, seen, help),
        _ => Finding::ok(check, seen),
    }
}

/// The member's clock, by the Date of a page, beside ours.
async fn clock(settings: &Settings, endpoint: &str) -> Option<Finding> {
    let page = inspect::page(settings, endpoint, "/version").await.ok()?;
    let theirs = parse_date(page.header("date")?)?;
    Some(judge_clock(endpoint, theirs, now(), page.took))
}

#[allow(clippy::disallowed_methods, reason = "clocks are what is compared")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

fn judge_clock(endpoint: &str, theirs: u64, ours: u64, took: Duration) -> Finding {
    let check = format!("clock at {endpoint}");
    let apart = Duration::from_secs(theirs.abs_diff(ours)).saturating_sub(took + DATE_STEP);
    let which = if theirs < ours { "behind" } else { "ahead of" };
    if apart <= SKEW_GOOD {
        return Finding::ok(check, "as here");
    }
    let seen = format!("{} s {which} this machine", apart.as_secs());
    let help = "let both machines follow the same time servers (chronyc tracking, timedatectl): certificates and tokens go by the clock";
    if apart <= SKEW_BEARABLE {
        Finding::warning(check, seen, help)
    } else {
        Finding::failure(check, seen, help)
    }
}

/// Seconds since 1970 of `Sat, 21 Nov 2026 22:00:00 GMT`. Source: RFC 9110, 5.6.7; days by Howard Hinnant's algorithm.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(str::parse::<u64>);
    let mut part = || time.next()?.ok();
    let seconds = part()? * 3600 + part()? * 60 + part()?;
    let (year, shifted) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era).checked_sub(719_468)? * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn dates_of_pages_are_read() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_date("Tue, 29 Feb 2000 12:34:56 GMT"), Some(951_827_696));
        assert_eq!(parse_date("soon"), None);
    }

    #[test]
    fn quota_and_clock_have_three_levels() {
        assert_eq!(
            [quota("e", 1, 100).level, quota("e", 80, 100).level, quota("e", 99, 100).level],
            [Level::Ok, Level::Warning, Level::Failure]
        );
        let judged = |theirs| judge_clock("e", theirs, 1_000_000, Duration::from_millis(3)).level;
        assert_eq!(
            [judged(1_000_001), judged(999_990), judged(1_003_600)],
            [Level::Ok, Level::Warning, Level::Failure]
        );
        assert_eq!(agreement("e", "3.7.3", 0, &[]).level, Level::Failure);
    }
}
