//! The text of a transaction: comparisons, then requests, one on a line.
//!
//! Owns: how a line is read; quoted parts are Go's. Invariant: a line is understood as etcdctl understands it, or refused.
//! Called by: `txn`; words also by `watch`. Source: etcdctl 3.7.3, txn_command.go and util.go; compared line by line with
//! it in `tests/tests/ctl.rs`.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::kv::put_request;
use super::range::{del_request, get_request};
use crate::failure::{ARGUMENTS, Failure, INPUT};
use crate::go::{self, unquote_prefix};
use crate::line::parse::parse_command;

const EXAMPLE: &str =
    "a comparison is such as: value(\"key\") = \"text\"; also ver, create, mod and lease, with =, !=, < or >";

/// Reads `value("key") = "text"`.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn comparison(line: &str) -> Result<pb::Compare, Failure> {
    let malformed = || Failure::new(INPUT, format!("malformed comparison: {line}")).help(EXAMPLE);
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, sign, value) = operands(rest).ok_or_else(malformed)?;
    let number = |radix| {
        let text = String::from_utf8_lossy(&value);
        go::parse_int(&text, radix)
            .map_err(|_| Failure::new(INPUT, format!("invalid txn compare request: {line}")).help(EXAMPLE))
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        // etcdctl breaks off here; a lease is hexadecimal everywhere else.
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            return Err(Failure::new(
                INPUT,
                format!("malformed comparison: {line} (unknown target {other})"),
            )
            .help(EXAMPLE));
        }
    };
    let result = match sign {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed()),
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key),
        target_union: Some(union),
        ..Default::default()
    })
}

/// `"key") = "value"`: blanks must stand where they stand here; what follows does not count.
fn operands(text: &str) -> Option<(Vec<u8>, &str, Vec<u8>)> {
    let (key, rest) = unquote_prefix(text.trim_start_matches(is_blank))?;
    let rest = behind_blanks(rest.strip_prefix(')')?)?;
    let end = rest.find(is_blank).unwrap_or(rest.len());
    let (sign, rest) = rest.split_at(end);
    if sign.is_empty() {
        return None;
    }
    let (value, _) = unquote_prefix(behind_blanks(rest)?)?;
    Some((key, sign, value))
}

fn behind_blanks(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(is_blank);
    (rest.len() < text.len()).then_some(rest)
}

fn is_blank(character: char) -> bool {
    character.is_whitespace()
}

/// Reads a `put`, `get` or `del`.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn operation(line: &str) -> Result<pb::RequestOp, Failure> {
    use pb::request_op::Request;
    let words = words(line)?;
    if words.len() < 2 {
        return Err(Failure::new(INPUT, format!("invalid txn compare request: {line}"))
            .help("a request is such as: put key value, get key, del key; an empty line ends the list"));
    }
    let invalid = || {
        Failure::new(INPUT, format!("invalid txn request: {line}"))
            .help("a request is put, get or del with the flags it has as a command")
    };
    let names = ["put", "get", "del"];
    // The command may be shortened.
    let (first, rest) = words.split_first().ok_or_else(invalid)?;
    let name = names.iter().find(|name| !first.is_empty() && name.starts_with(first)).ok_or_else(invalid)?;
    let call = parse_command(name, rest).map_err(|failure| match failure.code() {
        ARGUMENTS => failure,
        _ => invalid(),
    })?;
    let request = match *name {
        "put" => Request::RequestPut(put_request(&call, None)?),
        "get" => Request::RequestRange(get_request(&call)?),
        _ => Request::RequestDeleteRange(del_request(&call)?),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// Splits a line into words; quotes of both kinds keep blanks, double ones know escapes.
///
/// # Errors
/// If a quoted word has an escape there is not.
pub(crate) fn words(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let found = match first {
            '"' => double_quoted_len(rest),
            '\'' => rest[1..].find('\'').map(|end| end + 2),
            blank if is_word_end(blank) => None,
            _ => Some(rest.find(is_word_end).unwrap_or(rest.len())),
        };
        // A quote without its pair, or a blank, is passed over.
        let Some(length) = found else {
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (word, behind) = rest.split_at(length);
        rest = behind;
        words.push(match first {
            '\'' => word[1..length - 1].to_owned(),
            '"' => unquoted(word)?,
            _ => word.to_owned(),
        });
    }
    Ok(words)
}

/// The blanks that end a word: those of regular expressions.
fn is_word_end(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

fn double_quoted_len(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some(index + 1),
            // A line has no end inside.
            '\\' => {
                characters.next()?;
            }
            _ => {}
        }
    }
    None
}

fn unquoted(word: &str) -> Result<String, Failure> {
    let broken = || {
        Failure::new(INPUT, format!("bad quoted string: {word}"))
            .help("in double quotes a backslash stands before n, t, \\, \", x41 and the like; single quotes take all as it is")
    };
    let (bytes, _) = unquote_prefix(word).ok_or_else(broken)?;
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
#[path = "txn_text_test.rs"]
mod tests;
