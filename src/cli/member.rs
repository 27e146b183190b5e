//! `keelson member replace`: a new member in the place of an old one, while the cluster serves.
//!
//! Called by: `cli`. Invariant: without `--yes` nothing is changed.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::report;
use crate::config::duration;
use crate::replace::plan::{Seen, Step, Wanted};
use crate::replace::{Access, Remote, RemoteError, ReplaceError, look, replace};

/// The command with its subcommand.
pub(super) fn tree() -> Command {
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let file = |name, help| option(name, help).value_hint(ValueHint::FilePath);
    Command::new("member").about("Change who belongs to a running cluster").subcommand_required(true).subcommand(
        Command::new("replace")
            .about("Put a new member in the place of an old one, without ever being short of a vote")
            .arg(Arg::new("old").value_name("OLD_ID").required(true).help("Id of the member to go, as member list shows it"))
            .arg(option("name", "Name of the new member").required(true))
            .arg(option("peer-urls", "Where the others will reach it, separated by commas").required(true))
            .arg(option("endpoints", "Members to ask, separated by commas").default_value("http://127.0.0.1:2379"))
            .arg(file("cacert", "CA that signs the members' certificates"))
            .arg(file("cert", "Certificate of this client"))
            .arg(file("key", "Key to it"))
            .arg(option("user", "name:password, where authentication is on"))
            .arg(option("wait", "How long the new member may take to start and catch up").default_value("10m"))
            .arg(option("removed", "An earlier run has removed the old member").action(ArgAction::SetTrue))
            .arg(option("yes", "Do it; without this, only what would happen is shown").action(ArgAction::SetTrue))
            .after_help(
                "Adds the new member as a learner, says how to start it, waits until it has caught up, gives it a vote, and only \
                 then removes the old one; an old one that is dead is removed first. Run again it goes on where it was.\n\n\
                 Example:\n  keelson member replace 8e9e05c52164694d --name=m4 --peer-urls=http://10.0.0.4:2380 \
                 --endpoints=http://10.0.0.1:2379 --yes",
            ),
    )
}

/// Runs the subcommand.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let Some(("replace", matches)) = matches.subcommand() else { unreachable!("clap asks for it") };
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let list = |name: &str| -> Vec<String> {
        text(name).split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    };
    let Ok(old) = u64::from_str_radix(text("old").trim_start_matches("0x"), 16) else {
        return report::usage("OLD_ID is not a hexadecimal number", "copy it from: etcdctl member list", 2);
    };
    let Some(wait) = duration::parse(&text("wait")) else {
        return report::usage("--wait is not a duration", "write it like 10m or 90s", 2);
    };
    let user = match matches.get_one::<String>("user").map(|user| user.split_once(':')) {
        None => None,
        Some(Some((name, password))) => Some((name.to_owned(), password.to_owned())),
        Some(None) => return report::usage("--user has no password", "write --user=name:password", 2),
    };
    let path = |name: &str| matches.get_one::<String>(name).map(Into::into);
    let access = Access {
        endpoints: list("endpoints"),
        ca: path("cacert"),
        cert: path("cert"),
        key: path("key"),
        user,
    };
    let wanted = Wanted { old, name: text("name"), peer_urls: list("peer-urls") };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return report::usage(&format!("start a runtime: {error}"), "check the limit of open files", 1);
        }
    };
    let yes = matches.get_flag("yes");
    match runtime.block_on(work(&access, &wanted, matches.get_flag("removed"), wait, yes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::usage(&report::chain(&error), remedy(&error), 1),
    }
}

async fn work(
    access: &Access,
    wanted: &Wanted,
    removed: bool,
    wait: std::time::Duration,
    yes: bool,
) -> Result<(), ReplaceError> {
    let remote = Remote::open(access).await?;
    let (members, steps) = look(&remote, wanted, removed).await?;
    report::print(&show(&members, &steps, wanted));
    if steps.is_empty() {
        return Ok(());
    }
    if !yes {
        report::print("nothing was changed; give --yes as well\n");
        return Ok(());
    }
    replace(&remote, wanted, removed, wait, |step| {
        report::print(&format!("{step}\n"));
    })
    .await
}

fn show(members: &[Seen], steps: &[Step], wanted: &Wanted) -> String {
    let mut text = "members:\n".to_owned();
    for member in members {
        text.push_str(&format!(
            "  {:x} {} {} {}{}{}\n",
            member.id,
            if member.name.is_empty() { "(not started)" } else { &member.name },
            if member.learner { "learner" } else { "voter" },
            member.peer_urls.join(","),
            if member.healthy { "" } else { ", does not answer" },
            if member.id == wanted.old { " (to go)" } else { "" },
        ));
    }
    if steps.is_empty() {
        text.push_str("the member is replaced already\n");
        return text;
    }
    text.push_str("what would happen:\n");
    for step in steps {
        text.push_str(&match step {
            Step::AddLearner => format!(
                "  add {} at {} as a learner; you start it; it gets a vote once it has caught up\n",
                wanted.name,
                wanted.peer_urls.join(",")
            ),
            Step::Promote { id } => format!("  give the learner {id:x} a vote once it has caught up\n"),
            Step::AwaitHealthy { id } => format!("  wait until the new voter {id:x} answers\n"),
            Step::Remove { id } => format!("  remove {id:x}\n"),
        });
    }
    text
}

fn remedy(error: &ReplaceError) -> &'static str {
    match error {
        ReplaceError::Refused(refusal) => refusal.remedy(),
        ReplaceError::Slow(_) => {
            "start it as shown, see its log, and run the command again: it goes on there"
        }
        ReplaceError::Remote(RemoteError::Tls(_)) => "check --cacert, --cert and --key",
        ReplaceError::Remote(RemoteError::Endpoint(_)) => "correct --endpoints",
        ReplaceError::Remote(RemoteError::Unreachable(_)) => "check --endpoints and that members run",
        ReplaceError::Remote(_) => {
            "where the cluster has no quorum, bring one back; where it is lost for good, see keelson recover --help"
        }
    }
}
