//! Work on segment files that no group commit should wait for.
//!
//! Owns: `PrepareJob`: retire purged segments, make the next one ready, keep the reserve filled.
//! Invariants: a file is renamed out of the chain durably before its header is overwritten; removal goes oldest
//! first. A full disk is reported, not fatal; any other error is.
//! Called by: the writer's helper thread, or inline through `Wal::prepare`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::WalError;
use crate::segment::{
    RESERVE, RESERVE_NEW, Segment, SegmentPlan, Spare, create_zeroed, segment_path, spare_path, sync_dir,
};

/// Purged files kept for reuse besides the prepared next segment. One is enough: while it waits, the next
/// segment is ready as well, and more would only hold disk space.
const SPARES_MAX: usize = 1;

/// A unit of work that may run on any thread while the log goes on writing. At most one is out at a time.
pub struct PrepareJob<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    /// Purged segments, oldest first.
    pub(crate) released: Vec<Arc<Segment<D::File>>>,
    pub(crate) spares: Vec<Spare<D::File>>,
    /// Only files of this size are kept.
    pub(crate) spare_bytes: u64,
    pub(crate) next: Option<SegmentPlan>,
    /// Size of the reserve to create, if it is missing.
    pub(crate) reserve: Option<(u64, u64)>,
}

/// What a `PrepareJob` achieved; give it back with `Wal::finish_prepare`.
pub struct PrepareDone<D: Disk> {
    pub(crate) next: Option<Segment<D::File>>,
    pub(crate) spares: Vec<Spare<D::File>>,
    pub(crate) reserve: Option<Spare<D::File>>,
    /// The disk was full at some step.
    pub(crate) full: bool,
    pub(crate) result: Result<(), WalError>,
}

impl<D: Disk> PrepareJob<D> {
    /// Does the work; takes as long as the disk needs to write one segment of zeros.
    pub fn run(mut self) -> PrepareDone<D> {
        let mut done = PrepareDone {
            next: None,
            spares: std::mem::take(&mut self.spares),
            reserve: None,
            full: false,
            result: Ok(()),
        };
        done.result = self.steps(&mut done);
        done
    }

    fn steps(&mut self, done: &mut PrepareDone<D>) -> Result<(), WalError> {
        self.retire(done)?;
        if let Some(plan) = self.next.take() {
            let made = match done.spares.pop() {
                Some(spare) => plan.recycle(&self.disk, &self.dir, spare),
                None => plan.create(&self.disk, &self.dir, |_| Ok(())),
            };
            done.next = unless_full(made, &mut done.full)?;
        }
        while done.spares.len() > SPARES_MAX {
            let spare = done.spares.pop().expect("longer than the bound");
            self.remove(&spare.path)?;
        }
        if let Some((bytes, file_salt)) = self.reserve {
            done.reserve = unless_full(self.make_reserve(bytes, file_salt), &mut done.full)?;
        }
        Ok(())
    }

    fn retire(&mut self, done: &mut PrepareDone<D>) -> Result<(), WalError> {
        if self.released.is_empty() {
            return Ok(());
        }
        let mut recycled = Vec::new();
        for segment in self.released.drain(..) {
            let path = segment_path(&self.dir, segment.sequence);
            if segment.length() != self.spare_bytes {
                self.disk.remove(&path).map_err(|error| WalError::io("remove", &path, error))?;
                continue;
            }
            let to = spare_path(&self.dir, segment.sequence);
            self.disk.rename(&path, &to).map_err(|error| WalError::io("rename", &path, error))?;
            recycled.push((to, segment.file_salt));
        }
        // Before any header is overwritten: else a crash could show a chain with a foreign segment in it.
        sync_dir(&self.disk, &self.dir)?;
        for (path, file_salt) in recycled {
            let file = self.disk.open(&path).map_err(|error| WalError::io("open", &path, error))?;
            done.spares.push(Spare { path, file, file_salt, bytes: self.spare_bytes });
        }
        Ok(())
    }

    fn remove(&self, path: &PathBuf) -> Result<(), WalError> {
        self.disk.remove(path).map_err(|error| WalError::io("remove", path, error))
    }

    fn make_reserve(&self, bytes: u64, file_salt: u64) -> Result<Spare<D::File>, WalError> {
        let (new, path) = (self.dir.join(RESERVE_NEW), self.dir.join(RESERVE));
        let file = create_zeroed(&self.disk, &new, bytes)?;
        self.disk.rename(&new, &path).map_err(|error| WalError::io("rename", &new, error))?;
        sync_dir(&self.disk, &self.dir)?;
        Ok(Spare { path, file, file_salt, bytes })
    }
}

fn unless_full<T>(made: Result<T, WalError>, full: &mut bool) -> Result<Option<T>, WalError> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.is_full() => {
            *full = true;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
