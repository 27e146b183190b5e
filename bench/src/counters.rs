//! What the servers spend: the kernel's counters of their processes and their own count of log syncs.
//!
//! Owns: parsing of `/proc/<pid>/{stat,status,io}`, of a disk's counters and of one metric. Called by: `target`.
//! Invariants: asking for the metrics costs the server CPU time, so they are read outside of the span between two
//! readings of the process.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::CallError;
use crate::transport::Endpoint;

/// Counters of a process since its start, and its present memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident set in bytes.
    pub resident_bytes: u64,
    /// The part of it that is no cache of files.
    pub anonymous_bytes: u64,
    /// The highest resident set since [`forget_peak`].
    pub peak_bytes: u64,
    /// Bytes of page cache that the process dirtied, by whole folios.
    pub charged_bytes: u64,
}

impl Usage {
    /// Reads the counters of `pid`; `None` if there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses and may hold blanks; what follows it is regular.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        // USER_HZ is 100 on every Linux architecture that matters.
        let cpu = Duration::from_millis(ticks * 10);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let kibibytes = |label| number_after(&status, label).map(|number: u64| number * 1024);
        Some(Usage {
            cpu: precise_cpu(pid).unwrap_or(cpu),
            resident_bytes: kibibytes("VmRSS:")?,
            anonymous_bytes: kibibytes("RssAnon:")?,
            peak_bytes: kibibytes("VmHWM:")?,
            charged_bytes: number_after(&io, "write_bytes:").unwrap_or(0),
        })
    }

    /// The sum over several processes.
    pub fn sum(pids: &[u32]) -> Self {
        pids.iter().filter_map(|&pid| Usage::of(pid)).fold(Usage::default(), |sum, usage| Usage {
            cpu: sum.cpu + usage.cpu,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
            anonymous_bytes: sum.anonymous_bytes + usage.anonymous_bytes,
            peak_bytes: sum.peak_bytes + usage.peak_bytes,
            charged_bytes: sum.charged_bytes + usage.charged_bytes,
        })
    }
}

/// Lets the peak of the resident set begin again at what it is now.
pub fn forget_peak(pids: &[u32]) {
    for pid in pids {
        // Only the owner may: a peak that covers more than the run is the worst that follows.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// CPU time with nanosecond resolution from the scheduler's statistics of each thread.
fn precise_cpu(pid: u32) -> Option<Duration> {
    let mut total_ns = 0u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        total_ns += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (total_ns > 0).then(|| Duration::from_nanos(total_ns))
}

/// Bytes written so far to the disk that holds `directory`; `None` where the kernel does not tell (no disk, a network).
pub fn disk_written(directory: &Path) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    // Sectors written are the seventh number of a disk's statistics.
    const SECTORS_WRITTEN: usize = 6;
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

/// Writes out everything that is dirty on the file system of `directory`, so that [`disk_written`] is complete. Takes as
/// long as that takes, on another thread.
pub async fn flush(directory: &Path) {
    let directory = directory.to_owned();
    let flush = move || {
        // Where it cannot be done the count lacks what is still in memory, which is all that can be said there.
        let _ = std::fs::File::open(directory).map(rustix::fs::syncfs);
    };
    tokio::task::spawn_blocking(flush).await.expect("a flush does not panic");
}

/// Log syncs of all members since their start; `None` where one does not tell (TLS, another kind of server).
pub async fn syncs(endpoints: &[Endpoint]) -> Option<u64> {
    let mut total = 0;
    for endpoint in endpoints {
        let page = metrics_page(endpoint).await.ok()?;
        total += number_after(&page, "etcd_disk_wal_fsync_duration_seconds_count")?;
    }
    Some(total)
}

async fn metrics_page(endpoint: &Endpoint) -> Result<String, CallError> {
    if endpoint.tls.is_some() {
        return Ok(String::new());
    }
    let mut socket = endpoint.connect().await?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", endpoint.authority);
    let failed = |source| CallError::Connect { endpoint: endpoint.authority.clone(), source };
    socket.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut page = Vec::new();
    socket.read_to_end(&mut page).await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    line[label.len()..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_cpu() {
        let usage = Usage::of(std::process::id()).expect("this process exists");
        assert!(usage.resident_bytes > 100_000 && usage.peak_bytes >= usage.resident_bytes / 2, "{usage:?}");
        assert!(usage.anonymous_bytes > 0 && usage.anonymous_bytes < usage.resident_bytes, "{usage:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_usage() {
        assert!(Usage::of(u32::MAX).is_none());
    }

    #[test]
    fn numbers_stand_behind_their_label() {
        let page = "# TYPE x histogram\nx_count 12\nx_sum 3\n";
        assert_eq!(number_after(page, "x_count"), Some(12));
        assert_eq!(number_after(page, "y_count"), None);
    }
}
