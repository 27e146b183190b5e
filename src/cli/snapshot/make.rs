//! `keelson snapshot import` and `keelson snapshot restore`: from a file to the data folder of a member.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use keelson_api::snapshot::directory::{Directory, DirectoryError};
use keelson_api::snapshot::etcd_log::Tail;
use keelson_api::snapshot::file::{FileError, SnapshotFile};
use keelson_api::snapshot::import::{Bump, Found, look};
use keelson_api::snapshot::rows::ImportError;
use keelson_api::snapshot::status::{Status, status};

use super::super::report;
use crate::offline::{self, Made, OfflineError, Source};

/// Takes an etcd's data over as they are.
pub(super) fn import(matches: &ArgMatches) -> ExitCode {
    make(matches, None, Folders::Taken)
}

/// Makes a member from a snapshot that clients may have seen more than.
pub(super) fn restore(matches: &ArgMatches) -> ExitCode {
    let revisions = *matches.get_one::<u64>("bump-revision").expect("it has a default");
    let marked = matches.get_one::<String>("mark-compacted").map_or(revisions > 0, |marked| marked == "true");
    if marked != (revisions > 0) {
        return report::usage(
            "--mark-compacted and --bump-revision belong together: a raised revision that is not compacted has a past \
             nobody has seen",
            "give --bump-revision=0 --mark-compacted=false to restore the file as it is",
            2,
        );
    }
    let bump = (revisions > 0).then_some(Bump { revisions, mark_compacted: true });
    make(matches, bump, Folders::Refused)
}

/// Whether the data folder of an etcd is taken as well as a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folders {
    Taken,
    Refused,
}

/// What is read.
struct Input {
    file: SnapshotFile,
    tail: Tail,
    digest: [u8; 32],
    is_folder: bool,
}

fn make(matches: &ArgMatches, bump: Option<Bump>, folders: Folders) -> ExitCode {
    let config = match super::configuration(matches) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let path = Path::new(matches.get_one::<String>("file").expect("it is required"));
    let input = if path.is_dir() && folders == Folders::Taken {
        let wal_dir = matches.get_one::<String>("from-wal-dir").map(Path::new);
        match Directory::open(path, wal_dir) {
            Ok(Directory { file, tail, digest, .. }) => Input { file, tail, digest, is_folder: true },
            Err(error) => return refuse_folder(&error),
        }
    } else {
        match SnapshotFile::open(path, matches.get_flag("skip-hash-check")) {
            Ok(file) => Input { digest: file.digest, file, tail: Tail::default(), is_folder: false },
            Err(error) => return refuse_file(&error),
        }
    };
    let Input { file, tail, digest, is_folder } = &input;
    let found = match look(&file.database) {
        Ok(found) => found,
        Err(error) => return refuse_content(&error),
    };
    eprint!("{}", holds(path, &found, *is_folder || file.has_digest));
    if *is_folder {
        eprint!("{}", behind(tail));
    }
    if matches.get_flag("dry-run") {
        return match status(&file.database) {
            Ok(status) => report::print(&preview(&config.member.data_dir, &status, bump)),
            Err(error) => refuse_content(&error),
        };
    }
    let source = Source { database: &file.database, digest: *digest, tail: &tail.entries, bump };
    match offline::found(&config, &source) {
        Ok(made) => report::print(&told(&made)),
        Err(error) => refuse(&error),
    }
}

/// What the file holds, before anything is done.
fn holds(path: &Path, found: &Found, has_digest: bool) -> String {
    let or =
        |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
    let mut text = format!(
        "{}: revision {}, compacted {}, storage version {}, cluster version {}, {} leases, {} users, {} roles, \
         authentication {}\n",
        path.display(),
        found.revision,
        if found.compacted < 0 { "never".to_owned() } else { format!("at {}", found.compacted) },
        or(&found.storage_version, "before 3.6"),
        or(&found.cluster_version, "unknown"),
        found.leases,
        found.users,
        found.roles,
        if found.auth_enabled { "on" } else { "off" },
    );
    let mut note = |note: String| writeln!(text, "note: {note}").expect("writing to a text never fails");
    if !has_digest {
        note("the file has no SHA-256 at its end; damage inside of values would not be noticed".to_owned());
    }
    if found.alarms > 0 {
        note(format!(
            "{} alarms are raised and stay so; see `etcdctl alarm list`, and `etcdctl alarm disarm` once the cause is gone",
            found.alarms
        ));
    }
    if found.downgrade {
        note("a downgrade of the cluster was under way; it is not taken over".to_owned());
    }
    text
}

/// What the log of an etcd holds beyond its database.
fn behind(tail: &Tail) -> String {
    let unknown = tail.entries.iter().filter(|entry| entry.index > tail.committed).count();
    let mut text =
        format!("its log holds {} entries that the database lacks; they are applied\n", tail.entries.len());
    if unknown > 0 {
        writeln!(
            text,
            "note: of {unknown} of them the log does not say whether they are committed; they are applied, because a client may \
             have been told so"
        )
        .expect("writing to a text never fails");
    }
    text
}

fn preview(data_dir: &Path, status: &Status, bump: Option<Bump>) -> String {
    let revision = status.revision.saturating_add_unsigned(bump.map_or(0, |bump| bump.revisions));
    format!(
        "would make {}: {} keys, revision {revision}{}; nothing was written\n",
        data_dir.display(),
        status.total_key,
        if bump.is_some() { ", compacted there" } else { "" },
    )
}

fn told(made: &Made) -> String {
    let mut text = format!(
        "made {}: member {:x} ({}) of cluster {:x}, {} keys in {} changes, revision {}, compacted {}\n",
        made.data_dir.display(),
        made.member,
        made.name,
        made.cluster,
        made.keys,
        made.changes,
        made.revision,
        if made.compacted < 0 { "never".to_owned() } else { format!("at {}", made.compacted) },
    );
    if made.without_key > 0 {
        writeln!(
            text,
            "note: {} rows have no key, as etcdutl leaves one when it bumps a revision; they are left out, so hashes differ \
             from that etcd's",
            made.without_key
        )
        .expect("writing to a text never fails");
    }
    text
}

pub(super) fn refuse_file(error: &FileError) -> ExitCode {
    let remedy = match error {
        FileError::Io { .. } => "check the path and its permissions",
        FileError::WrongDigest { .. } => {
            "use another copy; with --skip-hash-check the file is taken as it is"
        }
        FileError::NoDigest { .. } => {
            "for a database copied from the data folder of a stopped etcd give --skip-hash-check"
        }
        FileError::Database(_) => "use another copy of the snapshot",
    };
    report::usage(&report::chain(error), remedy, 1)
}

fn refuse_folder(error: &DirectoryError) -> ExitCode {
    let remedy = match error {
        DirectoryError::NotEtcd { .. } => "give the --data-dir of an etcd, or a snapshot file",
        DirectoryError::InUse { .. } => {
            "stop that etcd, or take a snapshot of it: etcdctl snapshot save FILE, and import the file"
        }
        DirectoryError::Io { .. } => "check the path and its permissions",
        DirectoryError::File(error) => return refuse_file(error),
        DirectoryError::Content(error) => return refuse_content(error),
        DirectoryError::Log(_) => {
            "start that etcd once and stop it, or take a snapshot of it: etcdctl snapshot save FILE, and import the file"
        }
    };
    report::usage(&report::chain(error), remedy, 1)
}

pub(super) fn refuse_content(error: &ImportError) -> ExitCode {
    let remedy = match error {
        ImportError::Version { .. } => "upgrade Keelson, or downgrade that etcd first",
        ImportError::NotEtcd { .. } => "give a snapshot of an etcd v3",
        ImportError::Bump { .. } => "give a smaller --bump-revision",
        _ => "use another copy of the snapshot",
    };
    report::usage(&report::chain(error), remedy, 1)
}

fn refuse(error: &OfflineError) -> ExitCode {
    let remedy = error.remedy().to_owned();
    report::usage(&report::chain(error as &dyn Error), &remedy, 1)
}
