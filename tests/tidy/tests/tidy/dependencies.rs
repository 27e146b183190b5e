//! Every dependency has a licence that deny.toml allows, and none is banned there.
//!
//! cargo-deny reads the same file and knows advisories too; it needs their database from the network, so this test
//! is what always runs. Source of the lists: deny.toml.

use std::process::Command;

use keelson_tidy::{licence, repository};
use serde_json::Value;

use super::report;

/// The texts in quotes of the list that follows `name = [`.
fn list(text: &str, name: &str) -> Vec<String> {
    let start = text.find(&format!("{name} = [")).unwrap_or_else(|| panic!("deny.toml has no list {name}"));
    let body: String = text[start..]
        .lines()
        .take_while(|line| line.trim() != "]")
        .map(|line| line.split('#').next().unwrap_or_default())
        .collect();
    body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(repository::root())
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

#[test]
fn licences_and_crates_are_allowed() {
    let rules = std::fs::read_to_string(repository::root().join("deny.toml")).expect("read deny.toml");
    let allowed = list(&rules, "allow");
    // Each entry of `deny` is a crate and a reason, in this order.
    let banned: Vec<String> = list(&rules, "deny").into_iter().step_by(2).collect();
    assert!(allowed.len() > 3 && banned.len() > 1, "deny.toml is read wrongly: {allowed:?} {banned:?}");

    let mut findings = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap_or_default();
        let shown = format!("{name} {}", package["version"].as_str().unwrap_or_default());
        if banned.iter().any(|banned| banned == name) {
            findings.push(format!("{shown} is banned: deny.toml names the reason and the replacement"));
        }
        let is_ours = package["source"].is_null();
        match package["license"].as_str() {
            Some(expression) => match licence::is_met(expression, &|name| allowed.iter().any(|allow| allow == name)) {
                Ok(true) => {}
                Ok(false) => findings.push(format!("{shown} is under {expression}: choose another crate, or allow it in deny.toml with a reason")),
                Err(problem) => findings.push(format!("{shown}: the licence {expression:?} cannot be read: {problem}")),
            },
            None if is_ours => findings.push(format!("{shown}: add `license.workspace = true`")),
            None => findings.push(format!("{shown} names no licence: read its files and choose another crate if it has none")),
        }
    }
    report(findings);
}
