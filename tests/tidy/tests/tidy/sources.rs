//! Sources begin with their header, stay short, and hold nothing left over.

use keelson_tidy::repository::{self, File};

use super::report;

const LINES_MAX: usize = 800;

/// Written in pieces, so that this file does not find itself.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("dbg", "!("),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

fn rust() -> Vec<File> {
    repository::files(&[".rs"])
}

#[test]
fn every_source_begins_with_a_header() {
    // A crate whose header is its design document includes it.
    let has_header =
        |file: &File| file.text.starts_with("//! ") || file.text.starts_with("#![doc = include_str!(");
    let findings = rust().into_iter().filter(|file| !has_header(file)).map(|file| {
        format!(
            "{}: begin with `//! ` and say what the file owns, its invariants and who calls it",
            file.path
        )
    });
    report(findings.collect());
}

#[test]
fn sources_stay_short() {
    let long = repository::files(&[".rs", ".sh", ".go", ".py"]).into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{}: {lines} lines, {LINES_MAX} are the limit: split it by noun", file.path))
    });
    report(long.collect());
}

#[test]
fn nothing_is_left_over() {
    let mut findings = Vec::new();
    for file in repository::files(&[".rs", ".sh", ".toml", ".md", ".proto", ".go", ".py", ".yml"]) {
        for (index, line) in file.text.lines().enumerate() {
            for marker in LEFTOVERS.iter().filter(|marker| has_word(line, marker)) {
                findings.push(format!(
                    "{}:{} has {marker}: do it now, or describe it in the documents as not finished",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let mut findings = Vec::new();
    for file in repository::files(&[
        ".rs", ".sh", ".toml", ".md", ".proto", ".go", ".py", ".yml", ".service", "run", "up",
    ]) {
        for (index, line) in file.text.lines().enumerate() {
            for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
                findings.push(format!(
                    "{}:{} has a path below {path}: write it relative to the clone, or take it from a variable",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    report(findings);
}

/// As a word of its own: markers are not looked for inside longer words.
fn has_word(line: &str, marker: &str) -> bool {
    line.match_indices(marker).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + marker.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (marker.ends_with('(') || !joins(after))
    })
}

/// At the start of a path: `a/work/b` is not a path of a machine.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        !line[..start]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '/' | '*'))
    })
}

#[test]
fn words_and_paths_are_found_where_they_stand_alone() {
    let marker = LEFTOVERS[0];
    assert!(has_word(&format!("// {marker}: later"), marker));
    assert!(!has_word(&format!("let A{marker} = 1;"), marker));
    let path = MACHINE_PATHS[1];
    assert!(has_path(&format!("cd {path}main"), path));
    assert!(!has_path(&format!("cd a{path}main"), path));
}
