//! Every crate keeps the workspace's lints, licence and edition.

use keelson_tidy::repository;

use super::report;

#[test]
fn every_crate_inherits_the_rules_of_its_workspace() {
    let mut findings = Vec::new();
    for file in repository::files(&["Cargo.toml"]) {
        if !file.text.lines().any(|line| line.trim() == "[package]") {
            continue;
        }
        let lints = file.text.split("[lints]").nth(1).is_some_and(|rest| {
            rest.lines()
                .find(|line| !line.trim().is_empty())
                .is_some_and(|line| line.trim() == "workspace = true")
        });
        if !lints {
            findings.push(format!("{}: add `[lints]` with `workspace = true`", file.path));
        }
        for key in ["edition", "license", "publish"] {
            let inherits =
                file.text.lines().any(|line| line.trim().starts_with(&format!("{key}.workspace = true")));
            let states = file.text.lines().any(|line| line.trim().starts_with(&format!("{key} = ")));
            if !inherits && !states {
                findings.push(format!("{}: add `{key}.workspace = true`", file.path));
            }
        }
    }
    report(findings);
}

/// `*` in a version, or a git source, would let a build change by itself.
#[test]
fn dependencies_have_versions() {
    let mut findings = Vec::new();
    for file in repository::files(&["Cargo.toml"]) {
        for (index, line) in file.text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default();
            if code.contains("= \"*\"") || code.contains("git = \"") {
                findings.push(format!("{}:{}: give a version from the registry", file.path, index + 1));
            }
        }
    }
    report(findings);
}
