//! Help of the client's commands, drawn from the table.

use std::fmt::Write as _;

use super::globals::GLOBALS;
use super::spec::{Command, Flag, Kind};
use super::tables::ROOT;

/// The help of the command at a path.
pub fn render(program: &str, path: &[&str]) -> String {
    let mut flags: Vec<&Flag> = Vec::new();
    let mut command = &ROOT;
    for name in path {
        if let Some(below) = command.commands.iter().find(|below| below.name == *name) {
            command = below;
            flags.extend(below.flags);
        }
    }
    let mut out = format!("{}\n\nUsage: {program}", command.about);
    path.iter().for_each(|name| write!(out, " {name}").expect("writing to a text never fails"));
    if !flags.is_empty() || path.is_empty() {
        out.push_str(" [flags]");
    }
    if !command.usage.is_empty() {
        write!(out, " {}", command.usage).expect("writing to a text never fails");
    }
    out.push('\n');
    if !command.commands.is_empty() {
        out.push_str("\nCommands:\n");
        rows(
            &mut out,
            command.commands.iter().map(|below: &Command| (below.name.to_owned(), below.about.to_owned())),
        );
    }
    if !flags.is_empty() {
        out.push_str("\nFlags:\n");
        rows(&mut out, flags.iter().map(|flag| row(flag)));
    }
    if !command.example.is_empty() {
        write!(out, "\nExample:\n  {program} {}\n", command.example).expect("writing to a text never fails");
    }
    write!(out, "\nFlags of every command: {program} options\n").expect("writing to a text never fails");
    out
}

/// The flags of every command.
pub(crate) fn options() -> String {
    let mut out = "Every command takes these flags; ETCDCTL_ENDPOINTS and so on set them too.\n\n".to_owned();
    rows(&mut out, GLOBALS.iter().map(row));
    out
}

fn row(flag: &Flag) -> (String, String) {
    let letter = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    let value = match flag.kind {
        Kind::Switch => "",
        Kind::Text => " TEXT",
        Kind::Number | Kind::Count => " N",
        Kind::Duration => " TIME",
        Kind::List => " LIST",
    };
    let default = match flag.default {
        "" | "false" | "0" => String::new(),
        default => format!(" (default {default})"),
    };
    (format!("{letter}--{}{value}", flag.name), format!("{}{default}", flag.about))
}

fn rows(out: &mut String, rows: impl Iterator<Item = (String, String)>) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in rows {
        writeln!(out, "  {name:width$}  {about}").expect("writing to a text never fails");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_screen_and_has_an_example() {
        fn walk(command: &Command, path: &mut Vec<&'static str>) {
            let text = render("keelson ctl", path);
            assert!(text.lines().count() <= 40, "{path:?}: {text}");
            assert!(command.action.is_none() || text.contains("Example:\n  keelson ctl "), "{path:?}");
            for below in command.commands {
                path.push(below.name);
                walk(below, path);
                path.pop();
            }
        }
        walk(&ROOT, &mut Vec::new());
        assert!(options().contains("--endpoints"));
    }
}
