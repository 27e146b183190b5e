//! What the operating system says about this process.
//!
//! Owns: the `process_*` and `os_fd_*` families and the readers of `/proc/self`. Invariants: a value that cannot be
//! read is left out, never guessed. Called by: [`super::registry`] at scrape time; [`crate::edge::listener`] for the
//! descriptor limit. Source: Go's process collector, whose names these are.

use std::fs;

use super::registry::{Family, Registry};
use super::text::{FamilyWriter, Kind, to_f64};

/// Linux reports process times in these units on every architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Soft limit of open files; `None` if unlimited or unknown.
#[must_use]
pub fn descriptor_limit() -> Option<u64> {
    limit("Max open files")
}

/// Open file descriptors of this process.
#[must_use]
pub fn descriptors_open() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // The listing itself is one of them.
    u64::try_from(entries).ok()?.checked_sub(1)
}

/// Resident memory in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status_kib("VmRSS:").map(|kib| kib * 1024)
}

fn limit(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

fn status_kib(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Field of `/proc/self/stat`, counted from 1 as in the manual page proc_pid_stat(5); 3 or later.
fn stat(field: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS_PER_SECOND)
}

fn start_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat(22)? / TICKS_PER_SECOND)
}

/// `InOctets` and `OutOctets` of this network namespace.
fn network(column: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
    let position = lines.next()?.split_whitespace().position(|name| name == column)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

struct Reading(Kind, fn() -> Option<f64>);

impl Family for Reading {
    fn kind(&self) -> Kind {
        self.0
    }

    fn write(&self, out: &mut FamilyWriter<'_>) {
        if let Some(value) = (self.1)() {
            out.sample(&[], value);
        }
    }
}

/// Adds the process families.
pub fn register(registry: &Registry) {
    let add = |name, help, kind, read| registry.register(name, help, Reading(kind, read));
    add(
        "process_cpu_seconds_total",
        "Processor time used, user and system, in seconds.",
        Kind::Counter,
        cpu_seconds,
    );
    add("process_open_fds", "Open file descriptors.", Kind::Gauge, || descriptors_open().map(to_f64));
    add("process_max_fds", "Limit of open file descriptors.", Kind::Gauge, || descriptor_limit().map(to_f64));
    add("os_fd_used", "Open file descriptors.", Kind::Gauge, || descriptors_open().map(to_f64));
    add("os_fd_limit", "Limit of open file descriptors.", Kind::Gauge, || descriptor_limit().map(to_f64));
    add("process_resident_memory_bytes", "Resident memory in bytes.", Kind::Gauge, || {
        resident_bytes().map(to_f64)
    });
    add("process_virtual_memory_bytes", "Virtual memory in bytes.", Kind::Gauge, || stat(23));
    add(
        "process_virtual_memory_max_bytes",
        "Limit of virtual memory in bytes; 1.8e19 if there is none.",
        Kind::Gauge,
        || Some(limit("Max address space").map_or(to_f64(u64::MAX), to_f64)),
    );
    add(
        "process_start_time_seconds",
        "Start of the process, seconds since the Unix epoch.",
        Kind::Gauge,
        start_time,
    );
    add("process_network_receive_bytes_total", "Bytes received over the network.", Kind::Counter, || {
        network("InOctets")
    });
    add("process_network_transmit_bytes_total", "Bytes sent over the network.", Kind::Counter, || {
        network("OutOctets")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_plausible() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(descriptors_open().is_some_and(|open| open >= 3));
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
        assert!(stat(23).is_some_and(|bytes| bytes > 1_000_000.0));
        let now = crate::edge::clock::unix_now().as_secs_f64();
        assert!(start_time().is_some_and(|at| at > now - 86_400.0 && at <= now + 2.0));
    }
}
