//! Looks at a data folder before anything opens it: never touch the files of another program.
//!
//! Called by: `cli::store`, before the server starts.

use std::path::Path;

use super::error::ConfigError;

/// Refuses a folder that belongs to a real etcd: we read its snapshots, not its live files.
///
/// # Errors
/// `ForeignData` with what to do.
pub fn check_not_etcd(data_dir: &Path) -> Result<(), ConfigError> {
    let member = data_dir.join("member");
    if member.join("snap").join("db").exists() {
        return Err(ConfigError::ForeignData {
            path: data_dir.to_owned(),
            holds: "the data of an etcd server",
            remedy: "choose another --data-dir; to take the data over, see keelson snapshot import --help",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_not_etcd(folder.path()).is_ok());
        assert!(check_not_etcd(&folder.path().join("missing")).is_ok());
        std::fs::create_dir_all(folder.path().join("member/snap")).unwrap();
        std::fs::write(folder.path().join("member/snap/db"), b"x").unwrap();
        assert_eq!(check_not_etcd(folder.path()).unwrap_err().exit_code(), 1);
    }
}
