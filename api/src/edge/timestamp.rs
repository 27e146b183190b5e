//! The time of a log line in UTC, to the microsecond: `2026-11-21T12:00:40.331295Z`.
//!
//! Owns: [`Timestamp`]. Called by: the binary's log, lines about requests. Only log lines carry wall-clock time; nothing decides by it.

use std::fmt;
use std::time::Duration;

use super::clock;

/// A moment, counted from 1970.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp {
    seconds: u64,
    microseconds: u32,
}

/// The present moment.
#[must_use]
pub fn now() -> Timestamp {
    at(clock::unix_now())
}

/// The moment so long after 1970 began.
#[must_use]
pub fn at(since_1970: Duration) -> Timestamp {
    Timestamp { seconds: since_1970.as_secs(), microseconds: since_1970.subsec_micros() }
}

impl Timestamp {
    /// Year, month, day of the Gregorian calendar. Source: the days-to-civil algorithm of H. Hinnant, in own words:
    /// count years from March, in cycles of 400 years, so that the leap day is the last day of its year.
    fn date(self) -> (u64, u64, u64) {
        let days = self.seconds / 86_400 + 719_468;
        let cycle = days / 146_097;
        let day_of_cycle = days % 146_097;
        let year_of_cycle =
            (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
        (year, month, day)
    }

    /// `12:00:40.331`
    #[must_use]
    pub fn time_of_day(self) -> String {
        let second = self.seconds % 86_400;
        format!(
            "{:02}:{:02}:{:02}.{:03}",
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.microseconds / 1000
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let second = self.seconds % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.microseconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_etcd_writes_them() {
        let check = |seconds: u64, microseconds: u32, expected: &str| {
            assert_eq!(Timestamp { seconds, microseconds }.to_string(), expected);
        };
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(951_782_399, 5, "2000-02-28T23:59:59.000005Z");
        check(951_782_400, 0, "2000-02-29T00:00:00.000000Z");
        check(951_868_800, 0, "2000-03-01T00:00:00.000000Z");
        check(1_795_262_440, 331_295, "2026-11-21T12:00:40.331295Z");
        check(4_102_444_799, 999_999, "2099-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp { seconds: 1_795_262_440, microseconds: 331_295 }.time_of_day(), "12:00:40.331");
    }
}
