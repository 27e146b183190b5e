//! What a server process costs: CPU time, memory and bytes written, read from the kernel.
//!
//! Owns: parsing of `/proc/<pid>/{stat,status,io}`. Called by: `compare`, `load`.

use std::time::Duration;

/// Counters of a process since its start, and its present memory.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident set size in bytes.
    pub resident_bytes: u64,
    /// Bytes handed to the block layer on behalf of the process.
    pub disk_write_bytes: u64,
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
        Some(Usage {
            cpu: precise_cpu(pid).unwrap_or(cpu),
            resident_bytes: number_after(&status, "VmRSS:")? * 1024,
            disk_write_bytes: number_after(&io, "write_bytes:").unwrap_or(0),
        })
    }

    /// The sum over several processes.
    pub fn sum(pids: &[u32]) -> Self {
        pids.iter().filter_map(|&pid| Usage::of(pid)).fold(Usage::default(), |sum, usage| Usage {
            cpu: sum.cpu + usage.cpu,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
            disk_write_bytes: sum.disk_write_bytes + usage.disk_write_bytes,
        })
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
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_usage() {
        assert!(Usage::of(u32::MAX).is_none());
    }
}
