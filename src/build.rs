//! Records which compiler built the program, for `keelson version`. The commit comes from the scripts, in
//! KEELSON_GIT_SHA, so that a commit alone rebuilds nothing.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(compiler)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "rustc of unknown version".to_owned());
    println!("cargo::rustc-env=KEELSON_RUSTC={}", version.trim());
    println!("cargo::rerun-if-env-changed=KEELSON_GIT_SHA");
    println!("cargo::rerun-if-changed=src/build.rs");
}
