//! Reads and writes durations as Go does: `1h30m`, `100ms`, `1.5s`, `0`.
//!
//! Called by: `value`. Negative durations are refused: no setting has a meaning for one.
//! Source: the documentation of Go's time.ParseDuration.

use std::time::Duration;

const UNITS_NS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// The duration that a text gives, or `None` if it is not one.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, unit_ns) = UNITS_NS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(part(number, *unit_ns)?)?;
        rest = next;
    }
    // Go keeps nanoseconds in a signed 64-bit number; longer ones are an error there.
    (total.as_nanos() <= i64::MAX as u128).then_some(total)
}

/// A number with a unit. Whole parts are exact, only the fraction goes through floating point.
fn part(number: &str, unit_ns: f64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole_ns = whole.checked_mul(unit_ns as u64)?;
    let fraction_ns =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse::<f64>().ok()? * unit_ns };
    Some(Duration::from_nanos(whole_ns.checked_add(fraction_ns as u64)?))
}

/// A text that `parse` reads back, with the largest units that fit: `1h30m`, `100ms`, `0s`.
pub(super) fn format(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    if !ns.is_multiple_of(1_000_000_000) {
        let (unit, per) = [("ms", 1_000_000), ("us", 1_000)]
            .into_iter()
            .find(|(_, per)| ns.is_multiple_of(*per))
            .unwrap_or(("ns", 1));
        return format!("{}{unit}", ns / per);
    }
    let seconds = duration.as_secs();
    [("h", seconds / 3600), ("m", seconds / 60 % 60), ("s", seconds % 60)]
        .into_iter()
        .filter(|(_, amount)| *amount > 0)
        .map(|(unit, amount)| format!("{amount}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let check = |text: &str, expected_ms: Option<u64>| {
            assert_eq!(parse(text), expected_ms.map(Duration::from_millis), "{text:?}");
        };
        check("0", Some(0));
        check("0s", Some(0));
        check("100ms", Some(100));
        check("1.5s", Some(1500));
        check(".5s", Some(500));
        check("1h30m", Some(5_400_000));
        check("+2m", Some(120_000));
        check("1000us", Some(1));
        check("", None);
        check("5", None);
        check("5 m", None);
        check("-5m", None);
        check("5x", None);
        check(".s", None);
        check("9999999999999h", None);
        check("1s2", None);
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0s", "100ms", "5s", "1m", "2h", "1h30m", "90us", "7ns", "1h1s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
