//! A log file that is set aside when it is full.
//!
//! Invariants: no file grows beyond the limit, except by one line; lines are never split between files; a rotation
//! that fails goes on in the old file, because a log that stops is worse than one that grows. Called by: `destination`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::destination::append;
use crate::config::log_rotation::LogRotation;
use keelson_api::edge::timestamp;

/// The file in use and its limits.
pub(super) struct RotatingFile {
    path: PathBuf,
    limits: LogRotation,
    current: Mutex<Current>,
}

struct Current {
    file: File,
    bytes: u64,
    rotations: u64,
}

impl RotatingFile {
    /// Opens the file, going on where it ends.
    pub(super) fn open(path: &Path, limits: LogRotation) -> io::Result<RotatingFile> {
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatingFile {
            path: path.to_owned(),
            limits,
            current: Mutex::new(Current { file, bytes, rotations: 0 }),
        })
    }

    /// Appends a line, in a new file if the present one is full.
    pub(super) fn write(&self, line: &str) -> io::Result<()> {
        // A panic while writing a line leaves nothing half done that matters.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let length = line.len() as u64;
        if current.bytes > 0 && current.bytes + length > self.limits.bytes_max {
            // Whatever fails here, the line is still written to the file that is open.
            let _ = self.rotate(&mut current);
        }
        current.bytes += length;
        current.file.write_all(line.as_bytes())
    }

    fn rotate(&self, current: &mut Current) -> io::Result<()> {
        let (stem, ending) = self.name_parts();
        // The count keeps two files apart that are set aside in one moment.
        current.rotations += 1;
        let moment = timestamp::now().to_string().replace(':', "-");
        let aside = self.path.with_file_name(format!("{stem}-{moment}-{}{ending}", current.rotations));
        fs::rename(&self.path, aside)?;
        current.file = append(&self.path)?;
        current.bytes = 0;
        self.prune()
    }

    /// Removes old files beyond the limits. Their names begin with the moment, so that the order of names is the order
    /// of time.
    fn prune(&self) -> io::Result<()> {
        let (stem, ending) = self.name_parts();
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut old: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let middle = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(&ending));
                middle.is_some_and(|middle| middle.starts_with("-2") && middle.contains('T'))
            })
            .collect();
        old.sort();
        let too_many = self.limits.backups_max.map_or(0, |keep| old.len().saturating_sub(keep));
        for (index, path) in old.iter().enumerate() {
            let age =
                fs::metadata(path).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
            let too_old = self.limits.age_max.is_some_and(|limit| age.is_some_and(|age| age > limit));
            if index < too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// `keelson.log` is `keelson` and `.log`.
    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let ending = text(self.path.extension()).map(|ending| format!(".{ending}")).unwrap_or_default();
        (text(self.path.file_stem()).unwrap_or_default(), ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.log");
        fs::write(&path, "old\n").unwrap();
        fs::write(folder.path().join("k-notes.log"), "not ours").unwrap();
        let limits = LogRotation { bytes_max: 10, backups_max: Some(2), age_max: None };
        let file = RotatingFile::open(&path, limits).unwrap();
        for line in ["a1234\n", "b1234\n", "c1234\n", "a line longer than the limit\n", "d\n"] {
            file.write(line).unwrap();
        }
        let files = lines_of(folder.path());
        let texts: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["c1234\n", "a line longer than the limit\n", "not ours", "d\n"], "{files:?}");
    }
}
