//! Which database directory is in use: the file `current`, replaced by rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::engine::EngineError;

const CURRENT: &str = "current";
const PREFIX: &str = "db-";

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::new(action, format_args!("{}: {error}", path.display()))
}

/// Name of the database in use; creates `root` if need be, and names a first one in a new directory.
pub(super) fn current(root: &Path) -> Result<String, EngineError> {
    if !root.exists() {
        fs::create_dir_all(root).map_err(failed("create the data directory", root))?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    let path = root.join(CURRENT);
    let name = match fs::read_to_string(&path) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(format!("{PREFIX}1")),
        Err(error) => return Err(failed("read the name of the database", &path)(error)),
    };
    let name = name.trim_end();
    let valid = number(name).is_some() && root.join(name).is_dir();
    if !valid {
        let reason = format_args!("{} names {name:?}, which is no database directory", path.display());
        return Err(EngineError::new("find the database", reason));
    }
    Ok(name.to_owned())
}

/// False for a new directory, whose first database has no name yet.
pub(super) fn is_named(root: &Path) -> bool {
    root.join(CURRENT).exists()
}

/// Makes `name` the database in use, durably and in one step.
pub(super) fn name_current(root: &Path, name: &str) -> Result<(), EngineError> {
    let (path, new) = (root.join(CURRENT), root.join("current.new"));
    let write = || {
        let mut file = File::create(&new)?;
        writeln!(file, "{name}")?;
        file.sync_all()
    };
    write().map_err(failed("write the name of the database", &new))?;
    // The new directory's own entry must be there before anything names it.
    sync_dir(root)?;
    fs::rename(&new, &path).map_err(failed("name the database", &path))?;
    sync_dir(root)
}

/// A directory name never used before.
pub(super) fn unused(root: &Path) -> Result<String, EngineError> {
    let highest = databases(root)?.iter().filter_map(|name| number(name)).max().unwrap_or(0);
    Ok(format!("{PREFIX}{}", highest + 1))
}

/// Removes every database directory but `current`.
pub(super) fn remove_others(root: &Path, current: &str) -> Result<(), EngineError> {
    for name in databases(root)?.iter().filter(|name| *name != current) {
        let path = root.join(name);
        fs::remove_dir_all(&path).map_err(failed("remove an old database", &path))?;
    }
    Ok(())
}

fn databases(root: &Path) -> Result<Vec<String>, EngineError> {
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(root)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| name.as_ref().map_or(true, |name| number(name).is_some())).collect()
    };
    list().map_err(failed("list the data directory", root))
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn sync_dir(path: &Path) -> Result<(), EngineError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed("sync a directory", path))
}
