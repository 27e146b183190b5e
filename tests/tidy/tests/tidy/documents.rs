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
