//! Which paths of this repository a document names.
//!
//! A path is a backticked word, or the target of a link, that begins with a folder of the root or ends like a file.
//! Called by: the test of the documents.

/// The paths named in a Markdown text, with their lines (from 1). Code blocks are left out: they show commands.
pub fn paths(text: &str, top_level: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        let named = backticked(line).filter(|word| is_ours(word, top_level)).chain(linked(line));
        found.extend(named.map(|path| (index + 1, path.trim_end_matches('/').to_owned())));
    }
    found
}

/// Every second piece between backticks.
fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).map(|word| word.split(':').next().unwrap_or_default())
}

/// Targets of links that stay in the repository.
fn linked(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

fn is_ours(word: &str, top_level: &[String]) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if word.is_empty() || !word.chars().all(plain) || word.starts_with(['/', '-']) {
        return false;
    }
    match word.split_once('/') {
        Some((first, _)) => top_level.iter().any(|name| name == first),
        None => {
            [".md", ".toml", ".sh"].iter().any(|ending| word.len() > ending.len() && word.ends_with(ending))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_other_words() {
        let top_level = ["wal".to_owned(), "docs".to_owned()];
        let text = "see `wal/src/lib.rs:12`, `docs/` and `server/storage/wal.go`\n\
                    run `cargo test`, read `deny.toml`, not `put`, `/metrics` or `--data-dir`\n\
                    ```\n`wal/nothing.rs`\n```\n\
                    [one](docs/one.md#part) and [two](https://example.com/x) and [three](#three)\n";
        let found = paths(text, &top_level);
        let expected = [(1, "wal/src/lib.rs"), (1, "docs"), (2, "deny.toml"), (6, "docs/one.md")];
        assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
    }
}
