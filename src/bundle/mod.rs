//! `keelson debug bundle`: one archive with what somebody needs to see who was not there.
//!
//! Owns: what is in it. Invariants: no secret leaves the machine: everything passes [`redact`]; keys and values of the store
//! are never read; what cannot be had is named in the archive instead of stopping it. Called by: `cli::bundle`.

mod archive;
pub mod redact;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use keelson_ctl::{Settings, inspect};

use crate::config::{Resolved, print};
use crate::version;
use archive::Archive;

/// The end of a log is what counts.
const LOG_BYTES_MAX: u64 = 32 << 20;
/// Files of the system that say what the process may use.
const SYSTEM: [&str; 7] = [
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/pressure/io",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/self/limits",
    "/etc/os-release",
];

/// What goes in besides what is looked up.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Logs by their paths.
    pub logs: Vec<PathBuf>,
    /// The findings of the checks, as JSON.
    pub doctor: String,
    /// The variables of this process.
    pub environment: Vec<(String, String)>,
}

/// Writes the archive and returns the names of what is in it.
///
/// # Errors
/// If the file cannot be written.
pub async fn write(
    path: &Path,
    resolved: &Resolved,
    settings: &Settings,
    inputs: Inputs,
) -> io::Result<Vec<String>> {
    let mut archive = Archive::create(path)?;
    archive.add("version.txt", &version::text())?;
    archive.add("config.yml", &redact::text(&print::yaml(resolved, true)))?;
    if let Some(file) = &resolved.file {
        archive.add("config-file.yml", &redact::text(&read(file)))?;
    }
    archive.add("remarks.txt", &redact::text(&(resolved.remarks.join("\n") + "\n")))?;
    archive.add("environment.txt", &variables(&inputs.environment))?;
    archive.add("doctor.json", &redact::text(&inputs.doctor))?;
    for (index, endpoint) in settings.endpoints.iter().enumerate() {
        let folder = format!("endpoint-{}", index + 1);
        archive.add(&format!("{folder}/url.txt"), &redact::text(&format!("{endpoint}\n")))?;
        for (name, text) in inspect::facts(settings, endpoint).await {
            archive.add(&format!("{folder}/{name}"), &redact::text(&text))?;
        }
        for (name, page) in
            [("metrics.txt", "/metrics"), ("health.txt", "/health"), ("version.json", "/version")]
        {
            let text = match inspect::page(settings, endpoint, page).await {
                Ok(page) => page.body,
                Err(failure) => failure.text(),
            };
            archive.add(&format!("{folder}/{name}"), &redact::text(&text))?;
        }
    }
    archive.add("data-folder.txt", &listing(&resolved.config.member.data_dir))?;
    for file in SYSTEM {
        archive.add(
            &format!("system{}", file.replace('/', "-").replacen("-", "/", 1)),
            &redact::text(&read(Path::new(file))),
        )?;
    }
    for (index, log) in inputs.logs.iter().enumerate() {
        let name = log.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let text = tail(log).unwrap_or_else(|error| format!("cannot read {}: {error}\n", log.display()));
        archive.add(&format!("logs/{}-{name}", index + 1), &redact::text(&text))?;
    }
    archive.finish()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("cannot read {}: {error}\n", path.display()))
}

/// The end of a file, from the beginning of a line on.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let skipped = size.saturating_sub(LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match skipped {
        0 => text,
        _ => format!(
            "({skipped} bytes before this are left out)\n{}",
            text.split_once('\n').map_or("", |(_, rest)| rest)
        ),
    })
}

/// Variables of the store and its client; others are nobody's business.
fn variables(environment: &[(String, String)]) -> String {
    let ours = |name: &str| ["ETCD_", "ETCDCTL_", "KEELSON_"].iter().any(|begin| name.starts_with(begin));
    let lines =
        environment.iter().filter(|(name, _)| ours(name)).map(|(name, value)| format!("{name}={value}\n"));
    redact::text(&lines.collect::<String>())
}

/// Names and sizes, no content.
fn listing(folder: &Path) -> String {
    let mut text = format!("{}\n", folder.display());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            text += &format!("cannot read {}\n", folder.display());
            continue;
        };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => text += &format!("{:>12} {}\n", found.len(), entry.path().display()),
                Err(error) => text += &format!("{error}: {}\n", entry.path().display()),
            }
        }
    }
    text
}
