//! Material made from files, rebuilt when the files change.
//!
//! Owns: [`Watched`]. Invariants: the current value always comes from one complete successful build; a build reads
//! the files after their fingerprint was taken, so a change during the build is seen at the next check; a failed
//! build changes nothing and is reported once per state of the files; at most one caller builds at a time and nobody
//! waits for it.
//! Called by: [`super::server::ServerTls`] and [`super::client::ClientTls`] at each handshake, and by a reload signal.
//! Files are compared by size, modification time and inode: an atomic replacement, a symbolic link that is switched
//! (as Kubernetes does with mounted secrets) and a rewrite in place are all seen.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::error::{TlsError, chain};
use crate::edge::clock;

/// How often the files are looked at, at most. One `stat` per file and second is nothing beside a handshake, and a
/// new certificate is in use within a second.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

type Fingerprint = Vec<Option<(u64, u64, i64, i64)>>;
type Build<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value built from files.
pub(crate) struct Watched<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    build: Build<T>,
    /// True when the value must be built again although no file changed (an own certificate near its end).
    stale: fn(&T) -> bool,
    current: ArcSwap<T>,
    state: Mutex<State>,
    started: Instant,
    check_interval: Duration,
    /// Milliseconds since `started` of the last look at the files.
    checked_ms: AtomicU64,
    /// Completed builds, the first included.
    generation: AtomicU64,
    failures: AtomicU64,
}

struct State {
    /// Files as they were before the build that gave the current value.
    loaded: Fingerprint,
    /// Files as they were at the last failed build; not tried again until they change.
    failed: Option<Fingerprint>,
}

impl<T> Watched<T> {
    /// Builds the first value; its error is the caller's, nothing is kept running without material.
    pub(crate) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        check_interval: Duration,
        stale: fn(&T) -> bool,
        build: Build<T>,
    ) -> Result<Self, TlsError> {
        let loaded = fingerprint(&files);
        let first = build()?;
        Ok(Watched {
            what,
            files,
            build,
            stale,
            current: ArcSwap::from_pointee(first),
            state: Mutex::new(State { loaded, failed: None }),
            started: clock::now(),
            check_interval,
            checked_ms: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            failures: AtomicU64::new(0),
        })
    }

    /// The current value, after a look at the files if the last look is old.
    pub(crate) fn get(&self) -> Arc<T> {
        let elapsed = clock::now().duration_since(self.started);
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let last = self.checked_ms.load(Ordering::Relaxed);
        let due = u64::try_from(self.check_interval.as_millis()).unwrap_or(u64::MAX);
        if now_ms.saturating_sub(last) >= due
            && self.checked_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            // Whoever holds the lock is building; the value of before is good enough for this handshake.
            && let Some(mut state) = self.state.try_lock()
        {
            let seen = fingerprint(&self.files);
            let wanted = seen != state.loaded || (self.stale)(&self.current.load());
            if wanted && state.failed.as_ref() != Some(&seen) {
                drop(self.rebuild(&mut state, seen));
            }
        }
        self.current.load_full()
    }

    /// Builds now, whatever the files' times say.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let mut state = self.state.lock();
        let seen = fingerprint(&self.files);
        self.rebuild(&mut state, seen)
    }

    fn rebuild(&self, state: &mut State, seen: Fingerprint) -> Result<(), TlsError> {
        match (self.build)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                state.loaded = seen;
                state.failed = None;
                let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::info!(what = self.what, generation, "reloaded TLS files; new connections use them");
                Ok(())
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                state.failed = Some(seen);
                tracing::error!(
                    what = self.what,
                    error = %chain(&error),
                    "TLS files changed but cannot be used; the previous ones stay in use"
                );
                Err(error)
            }
        }
    }

    /// Completed builds, the first included.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Builds that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let one = |m: Metadata| (m.len(), m.ino(), m.mtime(), m.mtime_nsec());
    files.iter().map(|path| std::fs::metadata(path).ok().map(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::testkit::write;

    /// A watched number read from a file; text that is no number is a failed build.
    fn watched(path: PathBuf) -> Watched<u32> {
        let file = path.clone();
        let build = move || {
            let text = String::from_utf8(super::super::material::read("t", &file)?).unwrap_or_default();
            text.trim().parse().map_err(|_| TlsError::NoValidity)
        };
        Watched::new("test", vec![path], Duration::ZERO, |_| false, Box::new(build)).unwrap()
    }

    #[test]
    fn follows_the_file_and_keeps_the_last_good_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "n", b"1");
        let value = watched(path);
        assert_eq!((*value.get(), value.generation()), (1, 1));
        write(dir.path(), "n", b"22");
        assert_eq!((*value.get(), value.generation()), (22, 2));
        write(dir.path(), "n", b"not a number");
        assert_eq!(*value.get(), 22);
        assert_eq!(*value.get(), 22);
        assert_eq!(value.failures(), 1, "one report per state of the file");
        std::fs::remove_file(dir.path().join("n")).unwrap();
        assert_eq!((*value.get(), value.failures()), (22, 2));
        write(dir.path(), "n", b"333");
        assert_eq!((*value.get(), value.generation()), (333, 3));
    }

    #[test]
    fn explicit_reload_needs_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "n", b"1");
        let value = watched(path);
        value.reload().unwrap();
        assert_eq!(value.generation(), 2);
    }
}
