//! The disk under the data: whether it can be written, how long a sync takes, how much is free.
//!
//! Source: the bounds are those of etcd's hardware guide and of its own warnings: 10 ms is good, an election timeout of
//! one second bears no syncs of 100 ms.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Finding;
use crate::config::EffectiveConfig;

const SYNCS: usize = 60;
const BLOCK: [u8; 4096] = [0x5a; 4096];
const GOOD: Duration = Duration::from_millis(10);
const BEARABLE: Duration = Duration::from_millis(100);
/// The store stops writes at 192 MiB or a tenth of a small disk; these leave time to act.
const FREE_PART_MIN: u64 = 10;
const FREE_BYTES_MIN: u64 = 1 << 30;

pub(super) fn examine(config: &EffectiveConfig) -> Vec<Finding> {
    let folders = [Some(&config.member.data_dir), config.member.wal_dir.as_ref()];
    folders.into_iter().flatten().flat_map(|folder| [sync(folder), space(folder)]).collect()
}

fn sync(folder: &Path) -> Finding {
    let check = format!("disk sync of {}", folder.display());
    let place = existing(folder);
    match measure(&place) {
        Ok(mut times) => {
            times.sort();
            let (median, worst) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            let seen = format!(
                "{SYNCS} syncs of 4 KiB: median {:.1} ms, 99 of 100 within {:.1} ms",
                median.as_secs_f64() * 1e3,
                worst.as_secs_f64() * 1e3
            );
            judge(check, worst, seen)
        }
        Err(error) => Finding::failure(
            check,
            format!("cannot write in {}: {error}", place.display()),
            "let the user of the store own the folder, and mount its disk writable",
        ),
    }
}

fn judge(check: String, worst: Duration, seen: String) -> Finding {
    if worst <= GOOD {
        return Finding::ok(check, seen);
    }
    let help =
        "put the data on a local SSD without other writers; every write of the cluster waits for such a sync";
    if worst <= BEARABLE { Finding::warning(check, seen, help) } else { Finding::failure(check, seen, help) }
}

/// The folder, or the one it will be made in.
fn existing(folder: &Path) -> PathBuf {
    let start = if folder.is_absolute() { folder.to_owned() } else { Path::new(".").join(folder) };
    start.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new(".")).to_owned()
}

#[allow(clippy::disallowed_methods, reason = "the time of a real disk is what is asked for")]
fn measure(folder: &Path) -> io::Result<Vec<Duration>> {
    let path = folder.join(format!(".keelson-doctor-{}", std::process::id()));
    let result = (|| {
        let mut file = File::create_new(&path)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        Ok(times)
    })();
    // If it could not be made there is nothing to remove.
    let _ = fs::remove_file(&path);
    result
}

fn space(folder: &Path) -> Finding {
    let check = format!("free space of {}", folder.display());
    let found = match rustix::fs::statvfs(existing(folder)) {
        Ok(found) => found,
        Err(error) => return Finding::warning(check, format!("not known: {error}"), "look with df"),
    };
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let (free, total) = (bytes(found.f_bavail), bytes(found.f_blocks));
    let seen = format!("{} MiB of {} MiB", free >> 20, total >> 20);
    if free < FREE_BYTES_MIN.min(total / FREE_PART_MIN) {
        return Finding::failure(
            check,
            seen,
            "free space: the store raises the NOSPACE alarm and stops writes before the disk is full",
        );
    }
    if free < total / FREE_PART_MIN {
        return Finding::warning(
            check,
            seen,
            "less than a tenth is free: make room before the NOSPACE alarm stops writes",
        );
    }
    Finding::ok(check, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn slow_disks_are_told_and_nothing_is_left() {
        let judged = |millis| judge("disk".to_owned(), Duration::from_millis(millis), String::new()).level;
        assert_eq!([judged(2), judged(30), judged(300)], [Level::Ok, Level::Warning, Level::Failure]);
        let folder = tempfile::tempdir().unwrap();
        assert_ne!(sync(&folder.path().join("not/yet/there")).seen, "");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_failure() {
        let finding = sync(Path::new("/proc/nowhere"));
        assert_eq!(finding.level, Level::Failure);
        assert!(finding.seen.contains("/proc"), "{finding:?}");
    }
}
