//! The knobs of the suites, all environment variables.
//!
//! Owns: names and defaults. Called by: the suites and [`crate::peers`].
//!
//! | variable | meaning |
//! |---|---|
//! | `KEELSON_TEST_SUBJECT` | the server under test: `keelson` (default) or `etcd` |
//! | `KEELSON_BIN` | the Keelson binary; default: `keelson` beside the test binary's profile folder |
//! | `KEELSON_REQUIRE_PEERS` | `1`: a missing peer fails the suite instead of skipping it |
//! | `KEELSON_CACHE` | the cache folder with the built peers |
//! | `KEELSON_TEST_DIR` | where data directories go; must be a real file system for crash tests |
//! | `KEELSON_TEST_SMALL_DISK` | a folder on a disk of some 300 MB, for the test that fills it; skipped without |
//! | `KEELSON_TEST_LOGS` | `1`: print the servers' logs also when a test passes |
//! | `KEELSON_TEST_SEED` | the seed of lines that `ctl` makes up; default 7 |
//! | `KEELSON_TEST_RECORD` | `1`: tests with a recorded table print what the servers answer instead of comparing |

use std::path::PathBuf;
use std::str::FromStr;

/// A numeric knob.
///
/// # Panics
/// If the variable is set to something that does not parse: a typing error must not run the default.
pub fn number<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => panic!("{name}={text} is not a number"),
        },
        Err(_) => default,
    }
}

/// Whether a switch is `1`.
pub fn switch(name: &str) -> bool {
    std::env::var(name).is_ok_and(|text| text == "1")
}

/// The cache folder that `tests/peers/build.sh` fills.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("KEELSON_CACHE") {
        return PathBuf::from(folder);
    }
    match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder).join("keelson"),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/keelson"),
    }
}

/// The folder of this crate in the clone.
pub fn tests_folder() -> PathBuf {
    // As cargo says now, where it runs this: clones share their build folder.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
