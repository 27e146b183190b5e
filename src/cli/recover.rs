//! `keelson recover`: shows what the folder of a member holds, and on request makes it the only member of a new cluster.
//!
//! Called by: `cli`. Invariant: without `--yes` nothing is changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{place, report};
use crate::offline::recover::{Folders, Held, held, recover};

/// The settings that say where the data are.
const PLACE: [&str; 2] = ["data-dir", "wal-dir"];

/// The command.
pub(super) fn tree() -> Command {
    place::args(Command::new("recover"), &PLACE)
        .about("Bring a member back alone after the loss of the quorum, from its data folder")
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Do it; without this, only what would happen is shown"),
        )
        .after_help(
            "For the loss of more members than the cluster can spare, and only then: as long as a quorum can be brought back, \
             nothing is lost by waiting for it. Recover the member with the last entry that reaches furthest, \
             and one only.\n\n\
             Example:\n  keelson recover --data-dir=/var/lib/keelson\n  keelson recover --data-dir=/var/lib/keelson \
             --yes\n  keelson store --data-dir=/var/lib/keelson",
        )
}

/// Shows, and does.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let config = match place::configuration(matches, &PLACE) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let data = config.member.data_dir;
    let folders = Folders { wal: config.member.wal_dir.unwrap_or_else(|| data.join("wal")), data };
    let held = match held(&folders) {
        Ok(held) => held,
        Err(error) => return report::usage(&report::chain(&error), error.remedy(), 1),
    };
    let shown = report::print(&show(&folders, &held));
    if held.is_alone() || shown != ExitCode::SUCCESS {
        return shown;
    }
    if !matches.get_flag("yes") {
        return report::print(
            "nothing was changed; stop every other member for good, then give --yes as well\n",
        );
    }
    match recover(&folders, &held) {
        Ok(done) => report::print(&format!(
            "done: member {:x} is alone in cluster {:x}\nstart it with the flags it had; then give the others empty \
             folders and add each: keelson ctl member add NAME --learner --peer-urls=URL\n",
            done.member, done.cluster
        )),
        Err(error) => report::usage(&report::chain(&error), error.remedy(), 1),
    }
}

fn show(folders: &Folders, held: &Held) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a text never fails");
    let position = |position: Option<keelson_mvcc::types::LogPosition>| {
        position.map_or("none".to_owned(), |position| format!("{} of term {}", position.index, position.term))
    };
    line(format!("{}: member {:x} of cluster {:x}", folders.data.display(), held.member, held.cluster));
    line(format!("data: revision {}, up to entry {}", held.revision, position(held.applied)));
    line(format!(
        "log: up to entry {}; the {} behind the data are applied at the start",
        position(held.last),
        held.waiting
    ));
    line("members:".to_owned());
    for member in &held.members {
        line(format!(
            "  {:x} {} {} {}{}",
            member.id,
            if member.name.is_empty() { "(no name)" } else { &member.name },
            if member.voter { "voter" } else { "learner" },
            member.peer_urls.join(","),
            if member.id == held.member { " (this one)" } else { "" },
        ));
    }
    if held.is_alone() {
        line("this member is the only one: there is nothing to recover, start it".to_owned());
        return text;
    }
    line("what would happen:".to_owned());
    line(format!(
        "  kept: everything in this log{}",
        match held.unconfirmed {
            0 => String::new(),
            count => format!(
                ", also {count} entries of which it does not know that they were committed: a client may have been told so"
            ),
        }
    ));
    line("  lost: what the others acknowledged without this member; it cannot be told from here".to_owned());
    line("  new: the cluster's id; the other members' ids are never accepted again".to_owned());
    if held.removed {
        line("  warning: the cluster had removed this member and went on without it".to_owned());
    }
    if held.members.iter().any(|member| member.id == held.member && !member.voter) {
        line("  warning: this member was a learner and may be far behind".to_owned());
    }
    text
}
