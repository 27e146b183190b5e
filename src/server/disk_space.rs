//! Raises the NOSPACE alarm before the disk is full, whatever the quota says.
//!
//! Owns: the watch over the free space of the data and log folders. Called by: `server`, one task. Invariants: deciding is
//! local and nothing but the alarm follows from it, which goes through the log (apply looks at no sizes); between raising
//! the alarm and allowing it to be taken back lies a quarter of the reserve. A full disk would end the process in the middle of a write;
//! the alarm leaves room for what makes room: deletions, compactions, the flushes of both.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_api::AppState;

use crate::config::EffectiveConfig;

/// A segment of the log, a flush, and the files a compaction writes before it removes others.
const RESERVE_BYTES: u64 = 192 << 20;
/// Of a small disk not more than this part is kept back.
const RESERVE_PART: u64 = 10;
/// At 200 MB/s a disk loses less than the reserve between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Free and all bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free_bytes: u64,
    total_bytes: u64,
}

impl Space {
    fn of(folder: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // What a process without privileges may use.
        Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
    }

    fn is_low(self) -> bool {
        self.free_bytes < self.reserve_bytes()
    }

    fn is_ample(self) -> bool {
        let reserve_bytes = self.reserve_bytes();
        self.free_bytes >= reserve_bytes + reserve_bytes / 4
    }

    fn reserve_bytes(self) -> u64 {
        RESERVE_BYTES.min(self.total_bytes / RESERVE_PART)
    }
}

/// Watches until the task is dropped.
pub(super) async fn watch(config: EffectiveConfig, state: AppState) {
    let folders: Vec<PathBuf> =
        [Some(config.member.data_dir), config.member.wal_dir].into_iter().flatten().collect();
    let mut was_low = false;
    loop {
        // A folder that cannot be asked about fails louder elsewhere.
        let spaces = folders.iter().filter_map(|folder| Some((folder, Space::of(folder).ok()?)));
        let (low, ample) = spaces.fold((None, true), |(low, ample), (folder, space)| {
            (low.or(space.is_low().then_some((folder, space))), ample && space.is_ample())
        });
        if let Some((folder, space)) = low {
            if !was_low {
                tracing::error!(
                    folder = %folder.display(),
                    free_bytes = space.free_bytes,
                    remedy = "free space on the disk, or delete keys and compact",
                    "the disk is nearly full; raising the alarm that stops writes"
                );
            }
            state.note_disk(true);
            state.raise_no_space(state.options.request_timeout()).await;
        } else if ample {
            state.note_disk(false);
        }
        was_low = low.is_some();
        state.clock.sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_fixed_on_large_disks_and_a_part_of_small_ones() {
        let check = |free_mib: u64, total_mib: u64, low: bool, ample: bool| {
            let space = Space { free_bytes: free_mib << 20, total_bytes: total_mib << 20 };
            assert_eq!((space.is_low(), space.is_ample()), (low, ample), "{free_mib} of {total_mib} MiB");
        };
        check(191, 1_000_000, true, false);
        check(192, 1_000_000, false, false);
        check(240, 1_000_000, false, true);
        check(99, 1000, true, false);
        check(100, 1000, false, false);
        check(125, 1000, false, true);
        check(0, 0, false, true);
    }

    #[test]
    fn a_folder_has_its_disks_space() {
        let space = Space::of(Path::new("/")).unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0, "{space:?}");
        assert!(Space::of(Path::new("/no/such/folder")).is_err());
    }
}
