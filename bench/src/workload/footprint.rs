//! What stored data takes: memory per key, and disk after much change.
//!
//! Called by: `workload::run`.
//! Invariants: the server is left alone before a reading; sizes are the server's own report and, beside it, what the
//! file system says.

use std::path::Path;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;

use super::{Options, path};
use crate::client::{CallError, Connection, decode, frame};
use crate::clock::{Clock, pause};
use crate::counters::Usage;
use crate::figures::{Figures, Metric};
use crate::fill::{fill, fill_part};
use crate::progress::Progress;
use crate::target::Target;

/// Memory that the second half of the key space adds to the first, by when caches of a fixed size are full: what grows
/// with the number of keys. The whole is reported beside it.
pub(super) async fn key_memory(
    target: &Target,
    options: &Options,
    progress: &Progress,
) -> Result<Figures, CallError> {
    let (half, all) = (options.shape.key_space / 2, options.shape.key_space);
    fill_part(target, options.shape, 0..half, 0, progress).await?;
    pause(options.settle).await;
    let before = target.usage().ok_or(CallError::NoPids)?;
    fill_part(target, options.shape, half..all, 0, progress).await?;
    pause(options.settle).await;
    let after = target.usage().ok_or(CallError::NoPids)?;
    let keys = (all - half) as f64;
    let per_key = |of: fn(&Usage) -> u64| (of(&after) as f64 - of(&before) as f64) / keys;
    let mut figures = Figures::default();
    figures.set(Metric::PerKeyResident, per_key(|usage| usage.resident_bytes));
    figures.set(Metric::PerKeyAnonymous, per_key(|usage| usage.anonymous_bytes));
    figures.set(Metric::Resident, after.resident_bytes as f64);
    Ok(figures)
}

/// Sizes after every key was written several times and all but the last version was compacted; no defragmentation.
pub(super) async fn churn(
    target: &Target,
    options: &Options,
    progress: &Progress,
) -> Result<Figures, CallError> {
    let mut live = 0;
    for version in 0..options.versions {
        live = fill(target, options.shape, version, progress).await?;
    }
    let mut connection = Connection::open(&target.endpoints[0]).await?;
    let revision = status(&mut connection).await?.header.map_or(0, |header| header.revision);
    let compact = pb::CompactionRequest { revision, physical: true };
    let template = connection.template(path::COMPACT);
    connection.call(&template, frame(&compact)).await?;
    let status = steady_status(&mut connection).await?;
    let mut figures = Figures::default();
    figures.set(Metric::LiveSize, live as f64);
    figures.set(Metric::DatabaseSize, status.db_size as f64);
    figures.set(Metric::DatabaseInUse, status.db_size_in_use as f64);
    if !target.directories.is_empty() {
        let bytes: u64 = target.directories.iter().map(|directory| bytes_on_disk(directory)).sum();
        figures.set(Metric::DirectorySize, bytes as f64);
    }
    Ok(figures)
}

/// The status once the sizes have stood still for a while: space is given back in the background.
async fn steady_status(connection: &mut Connection) -> Result<pb::StatusResponse, CallError> {
    const STILL_FOR: Duration = Duration::from_secs(3);
    const AT_MOST: Duration = Duration::from_secs(60);
    let clock = Clock::start();
    let mut last = status(connection).await?;
    let mut since = clock.elapsed();
    while clock.elapsed() < AT_MOST && clock.elapsed() - since < STILL_FOR {
        pause(Duration::from_millis(200)).await;
        let now = status(connection).await?;
        if (now.db_size, now.db_size_in_use) != (last.db_size, last.db_size_in_use) {
            since = clock.elapsed();
        }
        last = now;
    }
    Ok(last)
}

async fn status(connection: &mut Connection) -> Result<pb::StatusResponse, CallError> {
    let template = connection.template(path::STATUS);
    decode(path::STATUS, connection.call(&template, frame(&pb::StatusRequest::default())).await?)
}

/// What the files below a directory take on the disk: blocks, so that holes are free and preallocation is not.
fn bytes_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            // A file that was removed meanwhile takes nothing.
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_takes_no_disk_and_bytes_do() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("inner")).expect("a folder");
        let hole = std::fs::File::create(directory.path().join("hole")).expect("a file");
        hole.set_len(1 << 30).expect("a length");
        let full = std::fs::File::create(directory.path().join("inner/full")).expect("a file");
        std::io::Write::write_all(&mut &full, &vec![1; 1 << 20]).expect("bytes");
        full.sync_all().expect("on the disk");
        let bytes = bytes_on_disk(directory.path());
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }
}
