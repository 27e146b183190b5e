//! Which Keelson this is, and which etcd it speaks like.
//!
//! Called by: `cli`. The first line of etcd's form is parsed by test tools and must not change.

/// The etcd release whose behaviour this store follows.
pub const ETCD_VERSION: &str = "3.7.3";

/// The release of Keelson.
pub const KEELSON_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The compiler.
const COMPILER: &str = env!("KEELSON_RUSTC");

/// The commit, where the build was told.
pub fn commit() -> &'static str {
    option_env!("KEELSON_GIT_SHA").filter(|sha| !sha.is_empty()).unwrap_or("not recorded")
}

/// Operating system and processor as Go names them.
pub fn platform() -> String {
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{os}/{processor}")
}

/// What `etcd --version` prints.
pub fn as_etcd() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {}\nGo Version: none (Keelson {KEELSON_VERSION}, {COMPILER})\nGo OS/Arch: {}\n",
        commit(),
        platform()
    )
}

/// What `keelson version` prints.
pub fn text() -> String {
    format!(
        "keelson {KEELSON_VERSION}\netcd compatibility: {ETCD_VERSION}\ncommit: {}\ncompiler: {COMPILER}\nplatform: {}\n",
        commit(),
        platform()
    )
}

/// What `keelson version -o json` prints.
pub fn json() -> String {
    let value = serde_json::json!({
        "keelson": KEELSON_VERSION,
        "etcd": ETCD_VERSION,
        "commit": commit(),
        "compiler": COMPILER,
        "platform": platform(),
    });
    format!("{value:#}\n")
}
