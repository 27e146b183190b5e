//! `keelson install service`: the unit for systemd, shown or written.
//!
//! Owns: what of the unit depends on the machine. Invariants: the unit is the one of the packages
//! (`packaging/keelson.service`), with other paths and names put in; without `--write` nothing is changed.
//! Called by: `cli`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;

use super::report;

/// The unit that packages ship.
const UNIT: &str = include_str!("../../packaging/keelson.service");

/// Shows or writes the unit.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let program = match matches.get_one::<String>("program") {
        Some(program) => PathBuf::from(program),
        None => std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/keelson")),
    };
    for path in [program.as_path(), Path::new(&text("config")), Path::new(&text("data-dir"))] {
        if !path.is_absolute() || path.to_string_lossy().contains([' ', '%', '"', '\'', '\\', '\n']) {
            return report::usage(
                &format!("{} cannot stand in a unit", path.display()),
                "give a whole path, from / on, without blanks, quotes and percent signs",
                2,
            );
        }
    }
    let unit = unit(&program, &text("config"), Path::new(&text("data-dir")), &text("user"));
    if !matches.get_flag("write") || matches.get_flag("dry-run") {
        return report::print(&unit);
    }
    let target =
        PathBuf::from(format!("{}/etc/systemd/system/keelson.service", text("root").trim_end_matches('/')));
    let folder = target.parent().expect("the path is made here and has one");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&target, &unit));
    match written {
        Ok(()) => report::print(&format!(
            "wrote {}\nnext: useradd --system {user}   (if there is no such user)\n      systemctl daemon-reload\n      systemctl enable --now keelson\n",
            target.display(),
            user = text("user"),
        )),
        Err(error) => report::usage(
            &format!("write {}: {error}", target.display()),
            "run it as root, or give --root for another tree",
            1,
        ),
    }
}

/// The unit with the paths and names of this machine.
fn unit(program: &Path, config: &str, data: &Path, user: &str) -> String {
    let state = data.strip_prefix("/var/lib").ok().filter(|rest| rest.components().count() == 1);
    let lines = UNIT.lines().flat_map(|line| match line.split_once('=') {
        Some(("User", _)) => vec![format!("User={user}")],
        Some(("Group", _)) => vec![format!("Group={user}")],
        Some(("ExecStart", _)) => {
            vec![format!("ExecStart={} store --config-file={config}", program.display())]
        }
        Some(("WorkingDirectory", _)) => vec![format!("WorkingDirectory={}", data.display())],
        // systemd makes folders below /var/lib by itself; others have to be there, and be allowed.
        Some(("StateDirectory", _)) => match state {
            Some(name) => vec![format!("StateDirectory={}", name.display())],
            None => vec![format!("ReadWritePaths={}", data.display())],
        },
        Some(("StateDirectoryMode", _)) if state.is_none() => Vec::new(),
        _ => vec![line.to_owned()],
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_unit_comes_out_where_nothing_differs() {
        let made = unit(
            Path::new("/usr/bin/keelson"),
            "/etc/keelson/keelson.yml",
            Path::new("/var/lib/keelson"),
            "keelson",
        );
        assert_eq!(made, UNIT);
    }

    #[test]
    fn other_places_are_put_in() {
        let made = unit(Path::new("/opt/k"), "/srv/k.yml", Path::new("/srv/data"), "store");
        for line in [
            "User=store",
            "Group=store",
            "ExecStart=/opt/k store --config-file=/srv/k.yml",
            "ReadWritePaths=/srv/data",
            "WorkingDirectory=/srv/data",
        ] {
            assert!(made.lines().any(|made| made == line), "{line} is missing from {made}");
        }
        assert!(!made.contains("StateDirectory"), "{made}");
        for hardening in ["Type=notify", "WatchdogSec=", "ProtectSystem=strict", "NoNewPrivileges=yes"] {
            assert!(made.contains(hardening), "{hardening}");
        }
    }
}
