//! `keelson doctor`: the checks, for people or as JSON.
//!
//! Owns: its flags and exit codes: 0 fine or warnings only, 1 something fails, 2 wrong usage. Called by: `cli`.

use std::process::ExitCode;

use keelson_ctl::{Auth, Settings};

use super::{command, environment, report};
use crate::config::{self, EffectiveConfig, Flavor, Request, Resolved};
use crate::doctor::{self, Finding, Level};

/// What `doctor` and `debug bundle` take besides the store's flags.
pub(super) struct Own {
    /// Flags of their own with their values, in order.
    pub(super) values: Vec<(String, String)>,
    /// The store's.
    pub(super) rest: Vec<String>,
    pub(super) help: bool,
}

/// Takes `names` out of the arguments; `switches` have no value.
pub(super) fn split(arguments: &[String], names: &[&str], switches: &[&str]) -> Result<Own, String> {
    let mut own = Own { values: Vec::new(), rest: Vec::new(), help: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        match name {
            "-h" | "--help" => own.help = true,
            name if switches.contains(&name) => own.values.push((name.to_owned(), "true".to_owned())),
            name if names.contains(&name) => {
                let value = value.or_else(|| words.next().cloned());
                own.values.push((name.to_owned(), value.ok_or_else(|| format!("{name} needs a value"))?));
            }
            _ => own.rest.push(word.clone()),
        }
    }
    Ok(own)
}

impl Own {
    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The configuration that the rest gives.
    pub(super) fn resolve(&self, flavor: Flavor) -> Result<Resolved, ExitCode> {
        match config::resolve(&self.rest, &environment(), flavor) {
            Ok(Request::Run(resolved)) => Ok(*resolved),
            Ok(_) => Err(report::usage("this is no place for help or version", "put them first", 2)),
            Err(error) => Err(report::config(&error)),
        }
    }

    /// How the store is reached.
    pub(super) fn settings(&self, config: &EffectiveConfig) -> Settings {
        let mut settings = doctor::settings_of(config);
        if let Some(endpoints) = self.value("--endpoints") {
            settings.endpoints = endpoints.split(',').map(|one| one.trim().to_owned()).collect();
        }
        let file = |name| self.value(name).map(Into::into);
        settings.ca = file("--cacert").or(settings.ca);
        settings.cert = file("--cert").or(settings.cert);
        settings.key = file("--key").or(settings.key);
        settings.auth = self
            .value("--user")
            .and_then(|user| user.split_once(':'))
            .map(|(name, password)| Auth::User { name: name.to_owned(), password: password.to_owned() });
        settings
    }
}

/// Flags of clients that both commands take.
pub(super) const CLIENT: [&str; 5] = ["--endpoints", "--cacert", "--cert", "--key", "--user"];

/// Runs the checks.
pub(super) fn run(arguments: &[String], flavor: Flavor) -> ExitCode {
    let own = match split(arguments, &CLIENT, &["--json"]) {
        Ok(own) => own,
        Err(problem) => return report::usage(&problem, "see keelson doctor --help", 2),
    };
    if own.help {
        return report::print(&command::help(&["doctor"]));
    }
    let resolved = match own.resolve(flavor) {
        Ok(resolved) => resolved,
        Err(code) => return code,
    };
    let findings = wait_for(doctor::examine(&resolved.config, &own.settings(&resolved.config)));
    let text = if own.value("--json").is_some() { json(&findings) } else { text(&findings) };
    let printed = report::print(&text);
    let worst = findings.iter().map(|finding| finding.level).max();
    if worst == Some(Level::Failure) { ExitCode::FAILURE } else { printed }
}

/// Runs something that waits for servers.
pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs one file descriptor and no privilege");
    runtime.block_on(future)
}

/// One line each, and a line with what to do.
pub(super) fn text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let help = if finding.help.is_empty() {
            String::new()
        } else {
            format!("         help: {}\n", finding.help)
        };
        format!("{:7}  {}: {}\n{help}", finding.level.word(), finding.check, finding.seen)
    };
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let sum = format!(
        "{} checks: {} failures, {} warnings\n",
        findings.len(),
        count(Level::Failure),
        count(Level::Warning)
    );
    findings.iter().map(line).collect::<String>() + &sum
}

/// A list of objects.
pub(super) fn json(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        serde_json::json!({
            "check": finding.check,
            "level": finding.level.word(),
            "seen": finding.seen,
            "help": finding.help,
        })
    };
    let list: Vec<_> = findings.iter().map(one).collect();
    format!("{:#}\n", serde_json::Value::Array(list))
}
