//! The files of the repository.
//!
//! Invariants: paths are relative to the root, with slashes, in order. Called by: the tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose content is made, not written.
const MADE: &[&str] = &["target", ".git", "dist", "keelson.data", "node_modules", "__pycache__", ".venv"];

/// The root of the clone.
///
/// # Panics
/// Outside of `cargo test`.
pub fn root() -> PathBuf {
    // As cargo says now, not when this was compiled: clones share their build folder.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    Path::new(&package).join("../..").canonicalize().expect("the crate lies two folders down")
}

/// One file: its path from the root, and its text.
#[derive(Debug)]
pub struct File {
    /// Path from the root.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// All text files with one of these endings, or named exactly so.
///
/// # Panics
/// If a folder cannot be read.
pub fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, endings, &mut found);
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn walk(root: &Path, folder: &Path, endings: &[&str], found: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder's entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // A link leads to a file that is walked anyway, or out of the repository.
        let kind = entry.file_type().expect("the kind of an entry");
        if kind.is_dir() {
            if !MADE.contains(&name.as_str()) && !name.ends_with(".etcd") {
                walk(root, &path, endings, found);
            }
        } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            // What is not text has no place in these checks.
            if let Ok(text) = fs::read_to_string(&path) {
                let path = path
                    .strip_prefix(root)
                    .expect("the walk stays below the root")
                    .to_string_lossy()
                    .into_owned();
                found.push(File { path, text });
            }
        }
    }
}

/// Whether a path from the root, or from the folder of a document, exists.
pub fn exists(document: &str, path: &str) -> bool {
    let root = root();
    let beside = Path::new(document).parent().unwrap_or(Path::new(""));
    root.join(path).exists() || root.join(beside).join(path).exists()
}
