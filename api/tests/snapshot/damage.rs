//! Changes files at seeded places: whatever comes of it is rows or an error that names the file, never a panic, a loop or an
//! allocation of what a damaged number says.

use std::path::Path;

use keelson_api::snapshot::database::Database;
use keelson_api::snapshot::directory::Directory;
use keelson_api::snapshot::file::SnapshotFile;
use keelson_api::snapshot::import::import;
use keelson_api::snapshot::rows::ImportError;
use keelson_api::snapshot::status::status;
use keelson_mvcc::{MemoryEngine, StoreOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{fixture, folder, wal};

const SEED: u64 = 20_261_121;
/// Each takes under a millisecond.
const CASES: usize = 2000;
const PAGE_BYTES: usize = 4096;

/// Changes some bytes, the ones that steer the reader more often than others.
fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let len = bytes.len();
        let head = random.random_range(0..len.div_ceil(PAGE_BYTES)) * PAGE_BYTES + random.random_range(0..96);
        let anywhere = random.random_range(0..len);
        let at = if random.random_bool(0.7) { head.min(len - 1) } else { anywhere };
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => {
                let number: u32 =
                    [0, 1, 2, 0x7fff_ffff, u32::MAX, random.random()][random.random_range(0..6)];
                let end = (at + 4).min(len);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            3 => bytes.truncate(anywhere.max(1)),
            4 => {
                // A page where another one belongs.
                let pages = len / PAGE_BYTES;
                if pages > 1 {
                    let (from, to) = (random.random_range(0..pages), random.random_range(0..pages));
                    bytes.copy_within(from * PAGE_BYTES..(from + 1) * PAGE_BYTES, to * PAGE_BYTES);
                }
            }
            _ => {
                let end = (at + random.random_range(1..600)).min(len);
                bytes[at..end].fill(0);
            }
        }
    }
}

fn read_all(path: &Path) -> Result<(), ImportError> {
    let database = Database::open(path, None)?;
    let figures = status(&database);
    let taken = import(&database, MemoryEngine::default(), None, &[], StoreOptions::default());
    // What cannot be counted cannot be taken over either.
    assert!(figures.is_ok() || taken.is_err(), "{}", path.display());
    taken.map(drop)
}

#[test]
fn a_damaged_database_gives_rows_or_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("damaged.db");
    let whole = std::fs::read(fixture("etcd-3.7.3-snapshot.db")).unwrap();
    let mut refused = 0;
    for case in 0..CASES {
        let mut random = StdRng::seed_from_u64(SEED + case as u64);
        let mut bytes = whole[..whole.len() - 32].to_vec();
        damage(&mut bytes, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_all(&path) {
            refused += 1;
            let text = error.to_string();
            assert!(
                !text.is_empty()
                    && (text.contains("damaged.db") || text.contains("row") || text.contains("key")),
                "{text}"
            );
        }
    }
    assert!(refused > CASES / 4, "only {refused} of {CASES} were noticed");
}

#[test]
fn with_a_digest_no_damage_goes_unnoticed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("damaged.db");
    let whole = std::fs::read(fixture("etcd-3.7.3-snapshot.db")).unwrap();
    for case in 0..CASES / 4 {
        let mut random = StdRng::seed_from_u64(SEED ^ case as u64);
        let mut bytes = whole.clone();
        damage(&mut bytes, &mut random);
        if bytes == whole {
            continue;
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(SnapshotFile::open(&path, false).is_err(), "case {case}");
    }
}

/// Of a damaged log either nothing is taken, or the beginning of what was written.
#[test]
fn a_damaged_log_gives_its_beginning_or_an_error() {
    let folder = folder();
    let path = wal(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let expected = Directory::open(folder.path(), None).unwrap().tail.entries;
    let (mut refused, mut shorter) = (0, 0);
    for case in 0..CASES {
        let mut random = StdRng::seed_from_u64(SEED + case as u64);
        let mut bytes = whole.clone();
        damage(&mut bytes, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        match Directory::open(folder.path(), None) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("member/wal"), "{error}");
            }
            Ok(directory) => {
                let entries = directory.tail.entries;
                assert!(expected.starts_with(&entries), "case {case}");
                shorter += usize::from(entries.len() < expected.len());
            }
        }
    }
    assert!(refused > 0 && shorter > 0, "{refused} refused, {shorter} cut off");
}
