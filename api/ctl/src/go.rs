//! How Go prints and reads quoted texts, durations, sizes and numbers, as far as etcdctl shows it.
//!
//! Owns: these spellings. Called by: the printers, flags, the text form of transactions.
//! Source: strconv and time of Go's library, go-humanize; expectations were recorded from them.

use std::fmt::Write as _;
use std::time::Duration;

/// A quoted text, as `%q` prints it. Bytes that are no UTF-8 become `\x..`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_char(&mut out, character);
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing to a text never fails");
        }
    }
    out.push('"');
    out
}

fn quote_char(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        other if is_printable(other) => out.push(other),
        other => {
            let code = u32::from(other);
            let written = match code {
                0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
                0..0x1_0000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            written.expect("writing to a text never fails");
        }
    }
}

/// Rust's own table of printable characters, asked through its escaping: behind a letter, so that marks count as such.
fn is_printable(character: char) -> bool {
    if matches!(character, '\'' | ' ') {
        return true;
    }
    let text = String::from_iter(['a', character]);
    text.escape_debug().count() == 2
}

/// Reads a quoted text at the start: its content, and what follows it.
pub(crate) fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let end = rest.find('`')?;
        return Some((rest[..end].replace('\r', "").into_bytes(), &rest[end + 1..]));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut out = Vec::new();
    loop {
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        match character {
            '"' => return Some((out, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut out)?,
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What follows a backslash.
fn unescape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let number = |digits: usize, radix: u32| {
        let digits = rest.get(..digits).filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
        u32::from_str_radix(digits, radix).ok()
    };
    let simple = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            out.push(u8::try_from(number(2, 16)?).ok()?);
            return Some(&rest[2..]);
        }
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let character = char::from_u32(number(digits, 16)?)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&rest[digits..]);
        }
        '0'..='7' => {
            let digits = text.get(..3).filter(|digits| digits.chars().all(|digit| digit.is_digit(8)))?;
            out.push(u8::try_from(u32::from_str_radix(digits, 8).ok()?).ok()?);
            return Some(&text[3..]);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

/// A duration as Go prints it: `1m0s`, `2.5ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let part = |unit: u128| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", nanos % unit);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        (nanos / unit, format!("{dot}{fraction}"))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}{}µs", part(1_000).0, part(1_000).1),
        1_000_000..1_000_000_000 => format!("{}{}ms", part(1_000_000).0, part(1_000_000).1),
        _ => {
            let (seconds, fraction) = part(1_000_000_000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}{fraction}s"),
                (0, _) => format!("{minutes}m{seconds}{fraction}s"),
                _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
            }
        }
    }
}

/// Reads `1h30m`, `2.5s`, `300ms`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end =
            rest.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += value * unit;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Bytes in thousands: `25 kB`, `2.1 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 10 {
        return format!("{count} B");
    }
    let (mut step, mut unit) = (0, 1_f64);
    while count as f64 / unit >= 1000.0 && step + 1 < UNITS.len() {
        (step, unit) = (step + 1, unit * 1000.0);
    }
    let value = (count as f64 / unit * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[step]) } else { format!("{value:.0} {}", UNITS[step]) }
}

/// Why a number was not read, in Go's words.
fn number_error(function: &str, text: &str, out_of_range: bool) -> String {
    let why = if out_of_range { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {}: {why}", quote(text.as_bytes()))
}

/// A signed number in base 10 or 16.
///
/// # Errors
/// Go's words.
pub(crate) fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| number_error("ParseInt", text, is_range(&error)))
}

/// An unsigned number in base 10 or 16; no sign is allowed.
///
/// # Errors
/// Go's words.
pub(crate) fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    if text.starts_with('+') {
        return Err(number_error("ParseUint", text, false));
    }
    u64::from_str_radix(text, radix).map_err(|error| number_error("ParseUint", text, is_range(&error)))
}

fn is_range(error: &std::num::ParseIntError) -> bool {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    matches!(error.kind(), NegOverflow | PosOverflow)
}

/// A truth as flags spell it.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        let check = |bytes: &[u8], want: &str| assert_eq!(quote(bytes), want);
        check(b"plain 'x'", "\"plain 'x'\"");
        check(b"a\"b\\c\n\x07\x00\x7f", r#""a\"b\\c\n\a\x00\x7f""#);
        check("é日\u{301}\u{200b}\u{a0}\u{10ffff}".as_bytes(), "\"é日\u{301}\\u200b\\u00a0\\U0010ffff\"");
        check(b"bin\xff\x01", r#""bin\xff\x01""#);
    }

    #[test]
    fn a_quoted_text_is_read_up_to_its_end() {
        let read = |text| unquote_prefix(text).map(|(content, rest)| (content, rest.to_owned()));
        assert_eq!(read(r#""a\"b" rest"#), Some((b"a\"b".to_vec(), " rest".to_owned())));
        assert_eq!(read(r#""\x41\101\u00e9""#), Some(("AAé".as_bytes().to_vec(), String::new())));
        assert_eq!(read("`raw\\n`)"), Some((b"raw\\n".to_vec(), ")".to_owned())));
        for broken in ["\"open", "\"\\q\"", "\"\\x4\"", "\"\\400\"", "plain", "\"a\nb\"", "\"\\ud800\""] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }

    #[test]
    fn durations_read_back() {
        for text in ["0s", "1ns", "1.5µs", "2.191338ms", "100ms", "1s", "1m0s", "1h2m3.25s"] {
            let parsed = parse_duration(text).expect(text);
            assert_eq!(duration(parsed), text);
        }
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("5x"), None);
    }

    #[test]
    fn sizes_are_in_thousands() {
        let cases =
            [(0, "0 B"), (9, "9 B"), (82, "82 B"), (999, "999 B"), (24576, "25 kB"), (16384, "16 kB")];
        for (count, want) in cases.into_iter().chain([(2147483648, "2.1 GB"), (1000, "1.0 kB")]) {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!(parse_int("x1", 16).unwrap_err(), "strconv.ParseInt: parsing \"x1\": invalid syntax");
        let big = "ffffffffffffffffff";
        assert!(parse_uint(big, 16).unwrap_err().ends_with("value out of range"));
        assert_eq!(parse_int("-5", 10), Ok(-5));
    }
}
