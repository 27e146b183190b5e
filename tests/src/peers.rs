//! Finds the programs the suites run: Keelson, the real etcd, and the foreign clients.
//!
//! Owns: where they are, and the rule what happens when one is missing.
//! Invariant: a suite is skipped only with a message, and never when `KEELSON_REQUIRE_PEERS=1`.
//! Called by: [`crate::cluster`] and the suites.

use std::path::{Path, PathBuf};

use crate::environment::{cache_folder, switch};

/// The module file that pins the release of etcd and its tools.
const PINNED: &str = include_str!("../peers/etcd/go.mod");

/// A program that the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The store under test.
    Keelson,
    /// The real etcd server.
    Etcd,
    /// etcdctl of the same release.
    Etcdctl,
    /// etcdctl 3.4 of the Debian package.
    EtcdctlDebian,
    /// etcdutl of the same release.
    Etcdutl,
    /// Our test program on etcd's Go client.
    GoClient,
    /// Our test program on the `etcd-client` crate.
    RustClient,
    /// Prometheus' query engine, over recorded scrapes.
    Promql,
    /// The interpreter of the environment with the Python clients.
    Python,
    /// A TLS client that can be told which versions and suites to offer.
    Openssl,
}

impl Program {
    fn remedy(self) -> &'static str {
        match self {
            Self::Keelson => "build it: cargo build --bin keelson, or set KEELSON_BIN",
            Self::EtcdctlDebian => "install it: apt-get install etcd-client",
            Self::Openssl => "install it: apt-get install openssl",
            Self::Etcd
            | Self::Etcdctl
            | Self::Etcdutl
            | Self::GoClient
            | Self::RustClient
            | Self::Promql
            | Self::Python => "build it: tests/peers/build.sh",
        }
    }

    /// Where the program is, if it is there.
    pub fn find(self) -> Option<PathBuf> {
        let path = match self {
            Self::Keelson => keelson()?,
            Self::Etcd => pinned("etcd"),
            Self::Etcdctl => pinned("etcdctl"),
            Self::Etcdutl => pinned("etcdutl"),
            Self::EtcdctlDebian => PathBuf::from("/usr/bin/etcdctl"),
            Self::Openssl => PathBuf::from("/usr/bin/openssl"),
            Self::GoClient => cache_folder().join("peers/go-client/keelson-go-client"),
            Self::RustClient => cache_folder().join("peers/rust-client/keelson-rust-client"),
            Self::Promql => cache_folder().join("peers/promql/keelson-promql"),
            Self::Python => python()?,
        };
        path.is_file().then_some(path)
    }

    /// Where the program is; `None` means "skip", with the reason printed.
    ///
    /// # Panics
    /// If it is missing and peers are required.
    pub fn require(self) -> Option<PathBuf> {
        let found = self.find();
        if found.is_none() {
            let message = format!("{self:?} is missing ({})", self.remedy());
            assert!(!switch("KEELSON_REQUIRE_PEERS"), "{message}");
            println!("SKIPPED: {message}");
        }
        found
    }
}

/// The pinned release, such as `3.7.3`.
pub fn etcd_version() -> &'static str {
    PINNED
        .lines()
        .find_map(|line| line.trim().strip_prefix("go.etcd.io/etcd/server/v3 v"))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("the module file pins the server")
}

fn pinned(name: &str) -> PathBuf {
    cache_folder().join("peers").join(format!("{name}-{}", etcd_version())).join(name)
}

fn keelson() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KEELSON_BIN") {
        return Some(PathBuf::from(path));
    }
    // The test binary is <target>/<profile>/deps/<name>; cargo puts programs two levels up.
    let this = std::env::current_exe().ok()?;
    this.parent().and_then(Path::parent).map(|profile| profile.join("keelson"))
}

/// The newest environment; its folder name carries the hash of the requirements.
fn python() -> Option<PathBuf> {
    let folders = std::fs::read_dir(cache_folder().join("peers")).ok()?;
    folders
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python-")))
        .filter(|path| path.join("complete").is_file())
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
        .map(|path| path.join("bin/python"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pinned_release_is_read_from_the_module_file() {
        assert!(super::etcd_version().starts_with("3."), "{}", super::etcd_version());
    }
}
