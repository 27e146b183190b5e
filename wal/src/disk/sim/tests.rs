//! What the simulated disk must be able to do to its users.

use super::*;

const FILE: &str = "/d/f";

fn disk_with(content: &[u8]) -> (SimDisk, SimFile) {
    disk_seeded(7, content)
}

fn disk_seeded(seed: u64, content: &[u8]) -> (SimDisk, SimFile) {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create(Path::new(FILE)).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(content, 0).unwrap();
    file.sync_data().unwrap();
    (disk, file)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    disk.content(Path::new(FILE)).unwrap()
}

#[test]
fn synced_survives_and_unsynced_tears_by_sector() {
    let (mut torn, mut whole, mut none) = (0, 0, 0);
    for seed in 0..64 {
        let (disk, file) = disk_seeded(seed, &[1; 2048]);
        file.write_at(&[2; 2048], 0).unwrap();
        let after = content(&disk.crash(Crash::Seeded));
        assert!(file.sync_data().is_err(), "the crashed disk is dead");
        for sector in after.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is atomic");
        }
        match after.iter().filter(|byte| **byte == 2).count() {
            0 => none += 1,
            2048 => whole += 1,
            _ => torn += 1,
        }
    }
    assert!(torn > 10 && whole > 5 && none > 5, "{torn} {whole} {none}");
}

#[test]
fn an_older_unsynced_version_may_win() {
    let found = (0..64).any(|seed| {
        let (disk, file) = disk_seeded(seed, &[1; 512]);
        file.write_at(&[2; 512], 0).unwrap();
        file.write_at(&[3; 512], 0).unwrap();
        content(&disk.crash(Crash::Seeded))[0] == 2
    });
    assert!(found);
}

#[test]
fn a_failed_sync_forgets_what_was_dirty() {
    let (disk, file) = disk_with(&[1; 512]);
    file.write_at(&[2; 512], 0).unwrap();
    disk.inject(disk.ops(), Fault::Io);
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().expect("the retry lies, as real ones do");
    assert_eq!(content(&disk)[0], 2, "the cache still shows it");
    assert_eq!(content(&disk.crash(Crash::LoseAll))[0], 1, "the medium never had it");
}

#[test]
fn names_are_lost_until_the_directory_is_synced() {
    let (disk, _file) = disk_with(&[1; 512]);
    disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
    disk.create(Path::new("/d/h")).unwrap();
    let lost = disk.fork().crash(Crash::LoseAll);
    assert_eq!(lost.list(Path::new("/d")).unwrap(), ["f"]);
    let kept = disk.fork().crash(Crash::KeepAll);
    assert_eq!(kept.list(Path::new("/d")).unwrap(), ["g", "h"]);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.crash(Crash::LoseAll).list(Path::new("/d")).unwrap(), ["g", "h"]);
}

#[test]
fn faults_hit_the_operation_they_are_set_for() {
    let (disk, file) = disk_with(&[1; 1536]);
    disk.inject(disk.ops(), Fault::Lost);
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!(content(&disk)[0], 1);
    disk.inject(disk.ops(), Fault::Misdirected(512));
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!((content(&disk)[0], content(&disk)[512]), (1, 2));
    disk.inject(disk.ops(), Fault::NoSpace);
    assert_eq!(file.write_at(&[3; 512], 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.set_error_rate(500_000);
    let failed = (0..100).filter(|_| file.write_at(&[3; 512], 0).is_err()).count();
    assert!((20..80).contains(&failed), "{failed}");
    disk.set_error_rate(0);
    disk.inject(disk.ops(), Fault::PowerCut);
    assert!(file.write_at(&[4; 512], 0).is_err());
    assert!(disk.list(Path::new("/d")).is_err());
    disk.crash(Crash::Seeded).open(Path::new(FILE)).unwrap();
}

#[test]
fn capacity_trace_and_hook() {
    let (disk, file) = disk_with(&[1; 512]);
    disk.set_capacity(Some(1024));
    file.write_at(&[2; 512], 512).unwrap();
    assert_eq!(file.write_at(&[2; 1], 1024).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.used_bytes(), 1024);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    disk.set_hook(move |info| sink.lock().unwrap().push(info.kind));
    disk.set_trace(true);
    file.write_at(&[9; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(*seen.lock().unwrap(), [OpKind::Write, OpKind::Sync]);
    let trace = disk.take_trace();
    assert_eq!((trace.len(), trace[0].bytes, trace[1].kind), (2, 512, OpKind::Sync));
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let image = |seed| {
        let (disk, file) = disk_seeded(seed, &[0; 8192]);
        for round in 1..9u8 {
            file.write_at(&[round; 3000], u64::from(round) * 600).unwrap();
        }
        content(&disk.crash(Crash::Seeded))
    };
    assert_eq!(image(3), image(3));
    assert!((4..20).any(|seed| image(seed) != image(3)));
}
