//! Takes secrets out of texts: passwords, tokens, private keys.
//!
//! Owns: what a secret looks like. Invariants: rather too much is taken out than too little; names and the shape of a line
//! stay, so that one sees that something was set. Called by: `bundle`, for every text.

/// What stands in the place of a secret.
pub const GONE: &str = "[redacted]";

/// Names whose values are secret, in lower case. What only names a kind of token is kept, see [`is_secret`].
const NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "authorization", "credential", "api-key", "apikey", "private"];
/// Names of settings that contain one of the above and hold no secret.
const HARMLESS: [&str; 2] = ["auth-token-ttl", "etcd_auth_token_ttl"];

/// The text without its secrets.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_key = true;
            out.push_str("[redacted private key]\n");
        }
        if !in_key {
            out.push_str(&self::line(line));
        }
        if in_key && line.contains("-----END") {
            in_key = false;
            // What follows on the same line, in JSON for example, is not kept either.
        }
    }
    out
}

fn line(line: &str) -> String {
    words(&userinfo(&named(line)))
}

/// `name=value`, `name: value`, `"name":"value"`, `--name value`: the value goes if the name is a secret's.
fn named(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((name_at, value_at)) = next_pair(rest) {
        let name = rest[..name_at.1][name_at.0..].to_ascii_lowercase();
        let value = &rest[value_at..];
        if !is_secret(&name) {
            out.push_str(&rest[..value_at]);
            rest = value;
            continue;
        }
        out.push_str(&rest[..value_at]);
        out.push_str(GONE);
        rest = &value[value_len(value)..];
    }
    out.push_str(rest);
    out
}

/// Where the next name with a value stands, and where its value begins.
fn next_pair(text: &str) -> Option<((usize, usize), usize)> {
    let mut name: Option<usize> = None;
    for (index, character) in text.char_indices() {
        let in_name = character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        match (name, in_name) {
            (None, true) => name = Some(index),
            (Some(start), false) => {
                let behind = &text[index..];
                let closed = behind.trim_start_matches(['"', '\'', '\\']);
                let separated = closed.trim_start_matches(' ');
                let value = match separated.strip_prefix(['=', ':']) {
                    Some(value) => Some(value),
                    // A flag of a command line, with its value as the next word.
                    None if text[start..].starts_with("--") && behind.starts_with(' ') => Some(&behind[1..]),
                    None => None,
                };
                if let Some(value) = value {
                    let value = value.trim_start_matches([' ', '\t']);
                    return Some(((start, index), text.len() - value.len()));
                }
                name = None;
            }
            _ => {}
        }
    }
    None
}

fn is_secret(name: &str) -> bool {
    let name = name.trim_start_matches('-');
    !HARMLESS.contains(&name)
        && (NAMES.iter().any(|secret| name.contains(secret))
            || matches!(name, "user" | "etcdctl_user" | "dest-user"))
}

/// A value in quotes ends at them, another at a blank, a comma or a bracket; one on a line by itself at its end.
fn value_len(value: &str) -> usize {
    let quoted = |quote: &str| {
        value
            .strip_prefix(quote)
            .map(|rest| rest.find(quote).map_or(value.trim_end().len(), |end| end + 2 * quote.len()))
    };
    if let Some(length) = quoted("\\\"").or_else(|| quoted("\"")).or_else(|| quoted("'")) {
        return length;
    }
    // A word such as Bearer is followed by what is meant.
    let line = value.trim_end_matches(['\n', '\r']).len();
    match value.find(['"', '}', ']', ',']) {
        Some(end) => end.min(line),
        None => line,
    }
}

/// `scheme://name:password@host`: the password goes.
fn userinfo(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = behind.find(['/', ' ', '"', '\'', ',', '\n']).unwrap_or(behind.len());
        match behind[..authority]
            .rsplit_once('@')
            .and_then(|(user, host)| Some((user.split_once(':')?.0, host)))
        {
            Some((user, host)) => {
                out.push_str(&format!("{user}:{GONE}@{host}"));
                rest = &behind[authority..];
            }
            None => rest = behind,
        }
    }
    out.push_str(rest);
    out
}

/// Words that are secrets by their look: signed tokens, which begin with the base64 of `{"`.
fn words(line: &str) -> String {
    let is_part = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '+' | '/' | '=')
    };
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("eyJ") {
        let length = rest[at..].find(|character| !is_part(character)).unwrap_or(rest.len() - at);
        let word = &rest[at..at + length];
        out.push_str(&rest[..at]);
        out.push_str(if word.matches('.').count() == 2 { GONE } else { word });
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
#[path = "redact_test.rs"]
mod tests;
