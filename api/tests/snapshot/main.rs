//! Databases and logs of a real etcd 3.7.3, taken over whole, and damaged in thousands of ways.
//!
//! Recorded from that etcd: `etcd-3.7.3-snapshot.db` by `etcdctl snapshot save`; `etcd-3.7.3-folder.db` and
//! `etcd-3.7.3-folder.wal` are the database and the log (without the space set aside at its end) of the same server after more
//! writes and kill -9, with writes to the database held back. The hashes are those `etcdutl hashkv` gave for the first, and
//! the server itself for the second after it had started again.

mod damage;

use std::path::{Path, PathBuf};

use keelson_api::snapshot::directory::{Directory, DirectoryError};
use keelson_api::snapshot::file::{FileError, SnapshotFile};
use keelson_api::snapshot::import::{Bump, Imported, import};
use keelson_api::snapshot::status::status;
use keelson_mvcc::types::{KeyRange, RangeOptions};
use keelson_mvcc::{MemoryEngine, StoreOptions};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshot").join(name)
}

/// The data folder as etcd lays it out.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let member = folder.path().join("member");
    std::fs::create_dir_all(member.join("snap")).unwrap();
    std::fs::create_dir_all(member.join("wal")).unwrap();
    std::fs::copy(fixture("etcd-3.7.3-folder.db"), member.join("snap/db")).unwrap();
    std::fs::copy(fixture("etcd-3.7.3-folder.wal"), wal(folder.path())).unwrap();
    folder
}

fn wal(folder: &Path) -> PathBuf {
    folder.join("member/wal/0000000000000000-0000000000000000.wal")
}

fn take(path: &Path, bump: Option<Bump>) -> Imported<MemoryEngine> {
    let file = SnapshotFile::open(path, false).unwrap();
    import(&file.database, MemoryEngine::default(), bump, &[], StoreOptions::default()).unwrap()
}

#[test]
fn the_figures_are_those_of_etcdutl() {
    let file = SnapshotFile::open(&fixture("etcd-3.7.3-snapshot.db"), false).unwrap();
    let status = status(&file.database).unwrap();
    assert_eq!((status.hash, status.revision, status.total_key), (0x3e82_c2a5, 64, 8));
    assert_eq!(status.total_size, 40_960);
}

#[test]
fn a_snapshot_is_taken_over_whole() {
    let taken = take(&fixture("etcd-3.7.3-snapshot.db"), None);
    let view = taken.store.view();
    let hash = view.hash_kv(0).unwrap();
    assert_eq!((hash.hash, hash.hash_revision, hash.compact_revision), (1_312_227_441, 64, 20));
    let leases = view.leases().unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].ttl_s, 3600);
    assert_eq!(view.lease_keys(leases[0].id).unwrap(), ["leased"]);
    assert_eq!(view.auth().user("alice").unwrap().roles, ["reader"]);
    assert_eq!(view.auth().role("reader").unwrap().len(), 1);
    let past = RangeOptions { range: KeyRange::single("k3"), revision: 60, ..RangeOptions::default() };
    assert_eq!(view.range(&past).unwrap().kvs[0].value, "v59");
    assert!(view.range(&RangeOptions { revision: 0, ..past }).unwrap().kvs.is_empty());
    assert_eq!((taken.without_key, taken.found.leases), (0, 1));
}

#[test]
fn a_bumped_revision_is_compacted_and_keeps_the_keys() {
    let bump = Bump { revisions: 1000, mark_compacted: true };
    let taken = take(&fixture("etcd-3.7.3-snapshot.db"), Some(bump));
    let view = taken.store.view();
    assert_eq!((view.revision(), view.compacted(), view.key_count()), (1064, 1064, 8));
    assert!(view.events(64, 1064, usize::MAX).is_err(), "watchers begin anew");
    let past = RangeOptions { range: KeyRange::single("k3"), revision: 60, ..RangeOptions::default() };
    assert!(view.range(&past).is_err());
    let too_far = Bump { revisions: u64::MAX, mark_compacted: true };
    let file = SnapshotFile::open(&fixture("etcd-3.7.3-snapshot.db"), false).unwrap();
    let refused =
        import(&file.database, MemoryEngine::default(), Some(too_far), &[], StoreOptions::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("cannot be raised")));
}

#[test]
fn a_folder_is_taken_over_with_what_only_its_log_holds() {
    let folder = folder();
    let directory = Directory::open(folder.path(), None).unwrap();
    assert!(directory.tail.entries.len() > 8, "{} entries", directory.tail.entries.len());
    let taken = import(
        &directory.file.database,
        MemoryEngine::default(),
        None,
        &directory.tail.entries,
        StoreOptions::default(),
    )
    .unwrap();
    let view = taken.store.view();
    let hash = view.hash_kv(0).unwrap();
    assert_eq!((hash.hash, hash.hash_revision, hash.compact_revision), (4_269_488_606, 74, 20));
    assert_eq!(view.leases().unwrap().len(), 2);
}

#[test]
fn a_folder_in_use_or_of_another_program_is_refused() {
    let folder = folder();
    let database = std::fs::File::open(folder.path().join("member/snap/db")).unwrap();
    database.lock().unwrap();
    assert!(matches!(Directory::open(folder.path(), None), Err(DirectoryError::InUse { .. })));
    drop(database);
    assert!(Directory::open(folder.path(), None).is_ok());
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Directory::open(empty.path(), None), Err(DirectoryError::NotEtcd { .. })));
    std::fs::remove_file(wal(folder.path())).unwrap();
    let error = Directory::open(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("there is no log"), "{error}");
}

#[test]
fn a_file_without_its_digest_is_taken_only_on_request() {
    let bytes = std::fs::read(fixture("etcd-3.7.3-snapshot.db")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    std::fs::write(&path, &bytes[..bytes.len() - 32]).unwrap();
    assert!(matches!(SnapshotFile::open(&path, false), Err(FileError::NoDigest { .. })));
    assert!(!SnapshotFile::open(&path, true).unwrap().has_digest);
    std::fs::write(&path, b"no database").unwrap();
    let error = SnapshotFile::open(&path, false).unwrap_err().to_string();
    assert!(error.contains("copy.db is no bbolt database"), "{error}");
}
