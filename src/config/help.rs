//! The help text of the store: every flag on a line of its own, by groups.
//!
//! Invariants: a flag's line starts with two blanks and `--name`; test tools look for that form before they use a flag.
//! Called by: `cli`. Source of the form: etcd's help; envtest greps it for `--unsafe-no-fsync`.

use std::fmt::Write;

use super::Flavor;
use super::setting::{Setting, Status};
use super::table;

const WIDTH: usize = 100;

/// The whole help text.
pub fn text(flavor: Flavor) -> String {
    let program = match flavor {
        Flavor::Etcd => "etcd",
        Flavor::Keelson { .. } => "keelson store",
    };
    let mut out = format!(
        "Starts a Keelson store: an etcd v3 compatible, strictly serializable key-value store.\n\n\
         Usage: {program} [--flag=value]...\n\
         \x20      {program} --config-file=FILE   (a file replaces all flags and variables)\n\n\
         Each flag can also be given as a variable, --data-dir as ETCD_DATA_DIR, and as a key of the file.\n\n\
         Example:\n\
         \x20 {program} --name=m1 --data-dir=/var/lib/keelson --listen-client-urls=http://0.0.0.0:2379 \\\n\
         \x20   --advertise-client-urls=http://10.0.0.1:2379\n\n\
         General:\n  --config-file ''\n{}  --version\n{}  --help\n{}",
        wrapped("Read the configuration from this YAML file instead of flags and environment."),
        wrapped("Print the version and exit."),
        wrapped("Print this text and exit."),
    );
    for group in table::GROUPS {
        write!(out, "\n{}:\n", group.title).expect("writing to a text never fails");
        for setting in group.settings {
            out.push_str(&entry(setting));
        }
    }
    out
}

fn entry(setting: &Setting) -> String {
    let note = match setting.status {
        Status::Honoured => String::new(),
        Status::Inert(why) => format!(" No effect here: {why}."),
        Status::Refused(remedy) => format!(" Not supported: {remedy}."),
    };
    format!("  --{} '{}'\n{}", setting.name, setting.default, wrapped(&format!("{}{note}", setting.help)))
}

/// The sentence under a flag, indented and broken into lines.
fn wrapped(text: &str) -> String {
    const INDENT: &str = "      ";
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && INDENT.len() + line.len() + 1 + word.len() > WIDTH {
            out.push_str(&format!("{INDENT}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("{INDENT}{line}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_stands_on_a_line_of_its_own() {
        let text = text(Flavor::Etcd);
        for setting in table::all() {
            let start = format!("  --{} ", setting.name);
            assert_eq!(text.lines().filter(|line| line.starts_with(&start)).count(), 1, "--{}", setting.name);
        }
        assert!(text.lines().all(|line| line.len() <= 120 || line.contains("maxsize")));
    }
}
