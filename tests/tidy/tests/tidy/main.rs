//! The tidy gate: documents, sources, manifests and dependencies keep the rules that no compiler knows.
//!
//! Each message gives the remedy. To see all: cargo test -p keelson-tidy

mod dependencies;
mod documents;
mod manifests;
mod sources;

/// Fails with all findings at once, one per line.
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} finding(s):\n{}\n", findings.len(), findings.join("\n"));
}
