//! `keelson doctor`: looks at what a member stands on, before or while it runs.
//!
//! Owns: [`Finding`] and the order of the checks. Invariants: nothing is changed but a file that is removed again; a check
//! that cannot be made says so; what fails has a remedy. Called by: `cli::doctor`, `bundle`.

mod certificates;
mod cluster;
mod disk;
mod machine;

use keelson_ctl::Settings;

use crate::config::EffectiveConfig;
use crate::config::url::Url;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will not for ever.
    Warning,
    /// It does not work, or not well enough.
    Failure,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do, where something is to be done.
    pub help: String,
}

impl Finding {
    fn ok(check: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Ok, seen: seen.into(), help: String::new() }
    }

    fn warning(check: impl Into<String>, seen: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Warning, seen: seen.into(), help: help.into() }
    }

    fn failure(check: impl Into<String>, seen: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Failure, seen: seen.into(), help: help.into() }
    }
}

impl Level {
    /// For people and for JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// Makes all checks.
pub async fn examine(config: &EffectiveConfig, settings: &Settings) -> Vec<Finding> {
    let mut findings = disk::examine(config);
    findings.extend(machine::limits());
    findings.extend(certificates::examine(config));
    let (running, of_cluster) = cluster::examine(settings).await;
    findings.extend(machine::ports(config, &running));
    findings.extend(of_cluster);
    findings
}

/// How a client reaches the member that is configured so.
pub fn settings_of(config: &EffectiveConfig) -> Settings {
    let advertised = &config.cluster.advertise_client_urls;
    let urls = if advertised.is_empty() { &config.listen.client_urls } else { advertised };
    let tls = &config.client_tls;
    let asks = tls.demands_client_cert();
    Settings {
        endpoints: urls.iter().map(Url::to_string).collect(),
        ca: tls.trusted_ca_file.clone(),
        cert: tls.cert_file.clone().filter(|_| asks),
        key: tls.key_file.clone().filter(|_| asks),
        ..Settings::default()
    }
}
