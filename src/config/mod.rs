//! The configuration: one table of settings, three ways to give them, one typed result.
//!
//! Owns: names, kinds, defaults and help of all settings (`table`), the readers of flags, environment and file, the
//! checks, and what is derived from the table: help text, printed configuration, completions, man pages.
//! Invariants: a file excludes flags and environment; otherwise flag > environment > default, as in etcd.
//! Called by: `cli`. Source: etcd 3.7, server/etcdmain and server/embed.

mod checks;
mod cluster;
pub mod compaction;
pub mod data_dir;
pub(crate) mod duration;
pub mod effective;
mod env;
mod error;
pub mod feature_gates;
mod file;
mod flags;
mod given;
pub mod help;
pub mod log_rotation;
pub mod print;
pub mod setting;
mod suggest;
pub mod table;
pub mod url;
mod value;

use std::path::{Path, PathBuf};

pub use effective::EffectiveConfig;
pub use error::ConfigError;
pub use given::Given;

use effective::{Derived, Reader};

/// What depends on how the program was started rather than on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Through a link named `etcd`: data under `${name}.etcd`, JSON logs.
    Etcd,
    /// As `keelson store`: data under `keelson.data`; logs for people if the terminal reads them.
    Keelson {
        /// Whether log lines go to a terminal.
        terminal: bool,
    },
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// The help text.
    Help,
    /// The version.
    Version,
    /// To run, with this.
    Run(Box<Resolved>),
}

/// A complete configuration and how it came about.
#[derive(Debug)]
pub struct Resolved {
    /// For the server.
    pub config: EffectiveConfig,
    /// What was given explicitly.
    pub given: Given,
    /// Warnings for the log, once it is open.
    pub remarks: Vec<String>,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
}

/// Reads a command line with the environment that surrounds it.
///
/// # Errors
/// The first fault, with the setting, a remedy and an exit code.
pub fn resolve(
    arguments: &[String],
    environment: &[(String, String)],
    flavor: Flavor,
) -> Result<Request, ConfigError> {
    let line = flags::parse(arguments)?;
    if line.help {
        return Ok(Request::Help);
    }
    if line.version {
        return Ok(Request::Version);
    }
    let variable =
        environment.iter().find(|(name, _)| name == "ETCD_CONFIG_FILE").map(|(_, path)| path.clone());
    let file = line.config_file.or(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (given, mut remarks) = match &file {
        Some(path) => from_file(path, &line.given)?,
        None => {
            let mut given = line.given;
            let remarks = env::merge(&mut given, environment)?;
            (given, remarks)
        }
    };
    remarks.extend(checks::statuses(&given)?);
    let config = effective::build(&given, derive(&given, file.is_some(), flavor, &mut remarks)?);
    remarks.extend(checks::check(&config)?);
    Ok(Request::Run(Box::new(Resolved { config, given, remarks, file })))
}

fn from_file(path: &Path, flags: &Given) -> Result<(Given, Vec<String>), ConfigError> {
    let (given, mut remarks) = file::read(path)?;
    let ignored: Vec<String> = flags.names().map(|name| format!("--{name}")).collect();
    if !ignored.is_empty() {
        remarks.push(format!(
            "{} ignored: the configuration file {} replaces flags",
            ignored.join(", "),
            path.display()
        ));
    }
    Ok((given, remarks))
}

/// Works out the values that depend on several settings.
fn derive(
    given: &Given,
    from_file: bool,
    flavor: Flavor,
    remarks: &mut Vec<String>,
) -> Result<Derived, ConfigError> {
    let read = Reader(given);
    let name = read.text("name");
    let data_dir = match (read.text("data-dir"), flavor) {
        (given, _) if !given.is_empty() => PathBuf::from(given),
        (_, Flavor::Etcd) => PathBuf::from(format!("{name}.etcd")),
        (_, Flavor::Keelson { .. }) => PathBuf::from("keelson.data"),
    };
    let log_json = match flavor {
        Flavor::Keelson { terminal: true } if !given.is_set("log-format") => false,
        _ => read.text("log-format") == "json",
    };

    // Listening on all interfaces and saying nothing else, a member advertises its main address, as etcd does.
    let advertised = |advertise: &str, listen: &str| {
        let urls = read.urls(advertise);
        let open = read.urls(listen).first().is_some_and(|url| url.host() == "0.0.0.0");
        match cluster::default_host().filter(|_| open && !given.is_set(advertise)) {
            Some(host) => {
                let port = read.urls(listen)[0].port();
                urls.iter().map(|url| url.with_host(&host).with_port(port)).collect()
            }
            None => urls,
        }
    };
    let advertise_peer_urls = advertised("initial-advertise-peer-urls", "listen-peer-urls");
    let advertise_client_urls =
        if given.is_set("listen-client-urls") && !given.is_set("advertise-client-urls") && !from_file {
            Vec::new()
        } else {
            advertised("advertise-client-urls", "listen-client-urls")
        };
    let initial_members = match read.text("initial-cluster") {
        text if text.is_empty() => vec![(name, advertise_peer_urls.clone())],
        text => cluster::parse_members(&text)?,
    };

    let auto_compaction = match (
        read.text("auto-compaction-mode").as_str(),
        given.is_set("auto-compaction-retention"),
    ) {
        // The default is a time, and as in etcd, so many revisions are kept as were asked for or all.
        ("revision", false) => {
            remarks.push(
                    "--auto-compaction-mode=revision without --auto-compaction-retention compacts nothing; give the \
                     number of revisions to keep"
                        .to_owned(),
                );
            None
        }
        (mode, _) => compaction::parse(mode, &read.text("auto-compaction-retention"))?,
    };
    let (feature_gates, gate_remarks) = feature_gates::parse(&read.text("feature-gates"))?;
    remarks.extend(gate_remarks);
    let log_rotation = if read.switch("enable-log-rotation") {
        let (rotation, rotation_remarks) =
            log_rotation::parse(&read.text("log-rotation-config-json"), &read.list("log-outputs"))?;
        remarks.extend(rotation_remarks);
        Some(rotation)
    } else {
        None
    };
    let bcrypt_cost = read.unsigned("bcrypt-cost");
    if !(4..=31).contains(&bcrypt_cost) {
        remarks.push(format!("--bcrypt-cost={bcrypt_cost} is not between 4 and 31; 10 is used"));
    }
    let sampling = read.signed("distributed-tracing-sampling-rate");
    if !(0..=1_000_000).contains(&sampling) {
        return Err(ConfigError::contradiction(
            format!("--distributed-tracing-sampling-rate={sampling} is no part of a million"),
            "give a number from 0 to 1000000",
        ));
    }
    Ok(Derived {
        data_dir,
        log_json,
        advertise_peer_urls,
        advertise_client_urls,
        initial_members,
        auto_compaction,
        feature_gates,
        log_rotation,
        bcrypt_cost: if (4..=31).contains(&bcrypt_cost) { bcrypt_cost as u32 } else { 10 },
    })
}

#[cfg(test)]
#[path = "config_test.rs"]
pub(crate) mod tests;
