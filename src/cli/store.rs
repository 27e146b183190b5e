//! `keelson store`, and the program under the name `etcd`: from flags to a running store to an exit code.
//!
//! Called by: `cli`. The order matters: logs before anything that warns, signals before anything that has threads.

use std::process::ExitCode;

use super::{environment, report};
use crate::config::{self, ConfigError, EffectiveConfig, Flavor, Request, Resolved, data_dir, help};
use crate::offline::OfflineError;
use crate::offline::recover::{self, Folders};
use crate::{lifecycle, logging, server, version};

/// Runs the store with etcd's flags.
pub(super) fn run(arguments: &[String], flavor: Flavor) -> ExitCode {
    let resolved = match config::resolve(arguments, &environment(), flavor) {
        Ok(Request::Help) => return report::print(&help::text(flavor)),
        Ok(Request::Version) if flavor == Flavor::Etcd => return report::print(&version::as_etcd()),
        Ok(Request::Version) => return report::print(&version::text()),
        Ok(Request::Run(resolved)) => *resolved,
        Err(error) => return report::config(&error),
    };
    if let Err(error) = logging::install(&resolved.config.logging) {
        return report::usage(&report::chain(&error), "correct --log-outputs", 1);
    }
    start(resolved).unwrap_or_else(|error| {
        tracing::error!(error = report::chain(&error), remedy = error.remedy(), "failed to start");
        ExitCode::from(error.exit_code())
    })
}

fn start(resolved: Resolved) -> Result<ExitCode, ConfigError> {
    let Resolved { config, remarks, file, .. } = resolved;
    tracing::info!(
        version = version::KEELSON_VERSION,
        etcd_version = version::ETCD_VERSION,
        commit = version::commit(),
        name = config.member.name,
        data_dir = %config.member.data_dir.display(),
        "starting Keelson"
    );
    if let Some(file) = file {
        tracing::info!(path = %file.display(), "read the configuration file; flags and variables do not count");
    }
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    data_dir::check_not_etcd(&config.member.data_dir)?;
    if !server::is_initialised(&config) {
        config.check_bootstrap()?;
    }
    if config.force_new_cluster
        && let Err(error) = force_new_cluster(&config)
    {
        tracing::error!(error = report::chain(&error), remedy = error.remedy(), "failed to start");
        return Ok(ExitCode::FAILURE);
    }
    if let Err(error) = lifecycle::install() {
        tracing::error!(%error, "cannot handle signals");
        return Ok(ExitCode::FAILURE);
    }
    Ok(match server::run(config) {
        Ok(()) => {
            tracing::info!("stopped");
            lifecycle::finish()
        }
        Err(error) => {
            tracing::error!(error = report::chain(&error), remedy = error.remedy(), "failed to start");
            ExitCode::FAILURE
        }
    })
}

/// Makes this member the only one, as `keelson recover --yes` does.
fn force_new_cluster(config: &EffectiveConfig) -> Result<(), OfflineError> {
    let data = config.member.data_dir.clone();
    let wal = config.member.wal_dir.clone().unwrap_or_else(|| data.join("wal"));
    match recover::force(&Folders { data, wal })? {
        None => tracing::info!("--force-new-cluster: this member is alone already, or new"),
        Some(done) => tracing::warn!(
            cluster = %format!("{:x}", done.cluster),
            "--force-new-cluster: this member is the only one of a new cluster; never start the others on their old folders"
        ),
    }
    Ok(())
}
