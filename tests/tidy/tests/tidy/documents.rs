//! Every path that a document names exists, so the map stays true by itself.

use keelson_tidy::{documents, repository};

use super::report;

#[test]
fn paths_named_in_documents_exist() {
    let top_level: Vec<String> = std::fs::read_dir(repository::root())
        .expect("read the root")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let mut findings = Vec::new();
    for file in repository::files(&[".md"]) {
        for (line, path) in documents::paths(&file.text, &top_level) {
            if !repository::exists(&file.path, &path) {
                findings.push(format!(
                    "{}:{line} names `{path}`, which does not exist: correct the path, or drop the backticks if it is not one of ours",
                    file.path
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn the_documents_that_readers_look_for_exist() {
    let wanted = ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "LICENSE", "deny.toml"];
    let missing = wanted.iter().filter(|path| !repository::root().join(path).exists());
    report(missing.map(|path| format!("{path} is missing: write it")).collect());
}

/// `docs/rules.md` says which test holds which rule; a test that is renamed takes its line along.
#[test]
fn tests_named_beside_the_rules_exist() {
    let sources = repository::files(&[".rs"]);
    let documents = repository::files(&[".md"]);
    let rules =
        &documents.iter().find(|file| file.path == "docs/rules.md").expect("docs/rules.md exists").text;
    let named = rules.split('`').skip(1).step_by(2);
    let tests = named.filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()));
    let mut tests = tests.peekable();
    assert!(tests.peek().is_some(), "docs/rules.md names tests in backticks");
    let exists = |name: &str| sources.iter().any(|file| file.text.contains(&format!("fn {name}")));
    report(
        tests
            .filter(|name| !exists(name))
            .map(|name| format!("docs/rules.md names {name}, which no source has"))
            .collect(),
    );
}
