//! The tree of commands, for parsing (all but the store's flags), help, completions and man pages.
//!
//! Invariants: the store's flags are those of the table, none is written here. Called by: `cli` and its commands.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};

use super::{ctl, shell};
use crate::config::setting::{Kind, Setting, Status};
use crate::config::table;

/// The whole tree.
pub(super) fn tree() -> Command {
    Command::new("keelson")
        .about("A strictly serializable cluster store that speaks the etcd v3 API")
        .disable_version_flag(true)
        .subcommand_required(false)
        .arg(Arg::new("version").long("version").short('V').action(ArgAction::SetTrue).help("Print the version"))
        .subcommands([
            store(),
            Command::new("version").about("Print the version").arg(output(&["text", "json"])).after_help(
                "Example:\n  keelson version -o json",
            ),
            Command::new("config").about("Look at the configuration").subcommand_required(true).subcommand(
                store_flags(Command::new("print"))
                    .about("Print the configuration that the store would start with")
                    .arg(
                        Arg::new("effective")
                            .long("effective")
                            .action(ArgAction::SetTrue)
                            .help("Print defaults as well, not only what was given"),
                    )
                    .arg(output(&["yaml", "json"]))
                    .after_help(
                        "All flags of `keelson store` can be given. What is printed is a configuration file.\n\n\
                         Example:\n  keelson config print --effective --name=m1 > keelson.yml\n  keelson store \
                         --config-file=keelson.yml",
                    ),
            ),
            super::snapshot::tree(),
            super::recover::tree(),
            super::member::tree(),
            doctor(),
            Command::new("debug").about("For those who help").subcommand_required(true).subcommand(bundle()),
            Command::new("install").about("Make Keelson a part of this machine").subcommand_required(true).subcommand(service()),
            keelson_bench::cli::command(),
            ctl::tree(),
            Command::new("completion")
                .about("Print completions for a shell")
                .arg(
                    Arg::new("shell")
                        .required(true)
                        .value_parser(PossibleValuesParser::new(shell::SHELLS))
                        .help("The shell"),
                )
                .after_help("Example:\n  keelson completion bash > /etc/bash_completion.d/keelson"),
            Command::new("man")
                .about("Print the manual page, or write all pages")
                .arg(
                    Arg::new("dir")
                        .long("dir")
                        .value_hint(ValueHint::DirPath)
                        .help("Write all pages into this folder instead"),
                )
                .after_help("Example:\n  keelson man | man -l -"),
        ])
        .after_help(
            "Example:\n  keelson store\n  keelson ctl put greeting hello\n\nStarted through a link named etcd the \
             program takes etcd's flags; through one named etcdctl it is the client.",
        )
}

/// The help of one command, shown with the short list of its own options.
pub(super) fn help(path: &[&str]) -> String {
    let mut command = tree();
    command.build();
    let mut current = &mut command;
    for name in path {
        current = current.find_subcommand_mut(name).expect("the path is written in this crate");
    }
    current
        .clone()
        .mut_args(|arg| if table::find(arg.get_id().as_str()).is_some() { arg.hide(true) } else { arg })
        .render_help()
        .to_string()
}

fn store() -> Command {
    store_flags(Command::new("store"))
        .about("Run a store: one member, with etcd's flags")
        .arg(
            Arg::new("config-file")
                .long("config-file")
                .value_hint(ValueHint::FilePath)
                .help("Read the configuration from this YAML file instead of flags and environment"),
        )
        .after_help("Example:\n  keelson store --data-dir=/var/lib/keelson --name=m1")
}

/// Flags of a client that looks at the store.
fn client_flags(command: Command) -> Command {
    command.next_help_heading("Looking at the store").args([
        Arg::new("endpoints").long("endpoints").help("Where the store is, if not as configured"),
        Arg::new("cacert")
            .long("cacert")
            .value_hint(ValueHint::FilePath)
            .help("Authorities that may have signed its certificate"),
        Arg::new("cert").long("cert").value_hint(ValueHint::FilePath).help("Certificate to show to it"),
        Arg::new("key").long("key").value_hint(ValueHint::FilePath).help("Key of that certificate"),
        Arg::new("user").long("user").help("User, as name:password"),
    ])
}

fn doctor() -> Command {
    client_flags(store_flags(Command::new("doctor")))
        .about("Check disk, limits, ports, certificates, clocks and quota")
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
        .after_help(
            "All flags of `keelson store` can be given: what it would start with is checked. Exit code 1 if something fails.\n\n\
             Example:\n  keelson doctor --config-file=/etc/keelson/keelson.yml",
        )
}

fn bundle() -> Command {
    client_flags(store_flags(Command::new("bundle")))
        .about("Write one archive with configuration, checks, metrics and logs, without secrets")
        .args([
            Arg::new("output").long("output").short('o').value_hint(ValueHint::FilePath).help("The archive (default keelson-debug.tar)"),
            Arg::new("log").long("log").value_hint(ValueHint::FilePath).action(ArgAction::Append).help("A log to put in, again for more"),
        ])
        .after_help(
            "All flags of `keelson store` can be given. Keys and values of the store are never in it.\n\n\
             Example:\n  keelson debug bundle --config-file=/etc/keelson/keelson.yml --log=/var/log/keelson.log -o bundle.tar",
        )
}

fn service() -> Command {
    let path = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_hint(ValueHint::AnyPath).default_value(default).help(help)
    };
    Command::new("service")
        .about("Show the systemd unit for this machine, or write it")
        .args([
            Arg::new("write")
                .long("write")
                .action(ArgAction::SetTrue)
                .help("Write it, instead of showing it"),
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Show it (as without --write)"),
            Arg::new("user").long("user").default_value("keelson").help("Who runs the store"),
            path("config", "/etc/keelson/keelson.yml", "The configuration"),
            path("data-dir", "/var/lib/keelson", "Where its data lies, as the configuration says"),
            path("root", "/", "Write below this folder"),
            Arg::new("program")
                .long("program")
                .value_hint(ValueHint::FilePath)
                .help("The program (default: this one)"),
        ])
        .after_help("Example:\n  keelson install service --write --user=keelson")
}

fn store_flags(command: Command) -> Command {
    table::GROUPS.iter().fold(command, |command, group| {
        command.next_help_heading(group.title).args(group.settings.iter().map(flag))
    })
}

/// A setting of the store as a flag.
pub(super) fn flag(setting: &'static Setting) -> Arg {
    let note = match setting.status {
        Status::Honoured => String::new(),
        Status::Inert(why) => format!(" No effect here: {why}."),
        Status::Refused(remedy) => format!(" Not supported: {remedy}."),
    };
    let arg = Arg::new(setting.name).long(setting.name).help(format!("{}{note}", setting.help));
    let arg = match setting.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).value_parser(["true", "false"]),
        Kind::Choice(words) => {
            arg.value_parser(PossibleValuesParser::new(words.iter().copied().filter(|word| !word.is_empty())))
        }
        Kind::Path => arg.value_hint(ValueHint::AnyPath),
        _ => arg,
    };
    if setting.default.is_empty() { arg } else { arg.default_value(setting.default) }
}

fn output(forms: &[&'static str]) -> Arg {
    Arg::new("output")
        .long("output")
        .short('o')
        .value_parser(PossibleValuesParser::new(forms.iter().copied()))
        .help("Form of the output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn help_of_a_command_is_short() {
        let text = help(&["config", "print"]);
        assert!(text.contains("--effective"));
        assert!(!text.contains("--listen-peer-urls"));
    }
}
