//! `keelson snapshot`: looks at a snapshot file, takes an etcd's data over, restores a member.
//!
//! Owns: the options that are not settings of the store, and what is told. Called by: `cli`. Invariant: settings of the store
//! keep their names and their checks, so that the same flags make the folder and start the store on it.
//! Source: etcdutl's `snapshot status` and `snapshot restore`.

mod make;
mod status;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::{place, report};
use crate::config::EffectiveConfig;

/// The settings that say who a member is and where its data are.
const PLACE: [&str; 6] = [
    "name",
    "data-dir",
    "wal-dir",
    "initial-cluster",
    "initial-cluster-token",
    "initial-advertise-peer-urls",
];

/// The command with its subcommands.
pub(super) fn tree() -> Command {
    Command::new("snapshot")
        .about("Look at snapshots, take an etcd's data over, restore a member")
        .subcommand_required(true)
        .subcommands([
            Command::new("status")
                .about("Show what a snapshot file holds, after reading all of it")
                .arg(file("FILE", "A file that `etcdctl snapshot save` made, from etcd or from Keelson"))
                .arg(skip_hash_check())
                .arg(
                    Arg::new("write-out")
                        .long("write-out")
                        .short('w')
                        .value_parser(["simple", "table", "json", "fields"])
                        .default_value("simple")
                        .help("Form of the output"),
                )
                .after_help("Example:\n  keelson snapshot status backup.db -w table"),
            place::args(Command::new("import"), &PLACE)
                .about("Make the data folder of a member from an etcd's snapshot or data folder, unchanged")
                .arg(file(
                    "SOURCE",
                    "A snapshot file, or the data folder of an etcd 3.4 to 3.7 that does not run",
                ))
                .arg(skip_hash_check())
                .arg(
                    Arg::new("from-wal-dir")
                        .long("from-wal-dir")
                        .value_hint(ValueHint::DirPath)
                        .help("Where that etcd had its log, if it ran with --wal-dir"),
                )
                .arg(dry_run())
                .after_help(
                    "Revisions, history, leases, users, roles and alarms stay what they are, so watches go on where \
                     they were. Give every first member the same file and the same --initial-cluster.\n\n\
                     Example:\n  etcdctl snapshot save etcd.db\n  keelson snapshot import etcd.db \
                     --data-dir=/var/lib/keelson\n  keelson store --data-dir=/var/lib/keelson",
                ),
            place::args(Command::new("restore"), &PLACE)
                .about("Make the data folder of a member from a snapshot that is older than what clients have seen")
                .arg(file("FILE", "The snapshot file"))
                .arg(skip_hash_check())
                .arg(
                    Arg::new("bump-revision")
                        .long("bump-revision")
                        .value_parser(clap::value_parser!(u64))
                        .default_value("1000000000")
                        .help("Raise the revision by this, so that none is given twice; 0 leaves it as it is"),
                )
                .arg(
                    Arg::new("mark-compacted")
                        .long("mark-compacted")
                        .num_args(0..=1)
                        .require_equals(true)
                        .default_missing_value("true")
                        .value_parser(["true", "false"])
                        .help("Compact everything up to there, so that watchers begin anew; as --bump-revision says"),
                )
                .arg(dry_run())
                .after_help(
                    "The cluster gets new ids. Give every member the same file and the same --initial-cluster; \
                     another --initial-cluster-token where a cluster was restored from this file before.\n\n\
                     Example:\n  keelson snapshot restore backup.db --data-dir=/var/lib/keelson --name=m1 \
                     --initial-cluster=m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380 \
                     --initial-advertise-peer-urls=http://10.0.0.1:2380",
                ),
        ])
}

/// Runs the subcommand asked for.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("status", matches)) => status::run(matches),
        Some(("import", matches)) => make::import(matches),
        Some(("restore", matches)) => make::restore(matches),
        _ => unreachable!("clap asks for a subcommand"),
    }
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new("file").value_name(name).required(true).value_hint(ValueHint::AnyPath).help(help)
}

fn skip_hash_check() -> Arg {
    Arg::new("skip-hash-check")
        .long("skip-hash-check")
        .action(ArgAction::SetTrue)
        .help("Take a file without a SHA-256 at its end, as a database copied from a data folder is, or with a wrong one")
}

fn dry_run() -> Arg {
    Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("Read everything, show what would be made, write nothing")
}

/// The configuration of the member to be made, checked as at a first start.
fn configuration(matches: &ArgMatches) -> Result<EffectiveConfig, ExitCode> {
    let config = place::configuration(matches, &PLACE)?;
    config.check_bootstrap().map_err(|error| report::config(&error))?;
    Ok(config)
}
