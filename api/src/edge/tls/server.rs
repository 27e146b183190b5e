//! The server side of TLS: one reloadable rustls configuration per port.
//!
//! Owns: [`ServerTls`]. Invariants: client certificates, when demanded, are verified in every handshake (sessions are
//! not resumed then, because a resumed session would carry an identity that may have been revoked since); HTTP/2 is
//! preferred and HTTP/1.1 offered. Called by: the wiring (load, reload on a signal), [`crate::edge::listener`]
//! (configuration per handshake). Source: etcd client/pkg/transport/listener.go (`ServerConfig`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::error::TlsError;
use super::material;
use super::reload::{CHECK_INTERVAL, Watched};
use super::self_signed;
use super::settings::TlsSettings;
use super::verify::{IncomingVerifier, PeerPolicy};
use crate::edge::clock;

/// What is in use right now; for metrics and `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsStatus {
    /// End of the server certificate's validity, seconds since the Unix epoch.
    pub not_after_unix_s: i64,
    /// Successful loads since start, the first included.
    pub loads: u64,
    /// Reloads that failed and left the previous files in use.
    pub reload_failures: u64,
}

struct Loaded {
    config: Arc<ServerConfig>,
    not_after_unix_s: i64,
    /// When the program's own certificate is to be renewed; absent for files of an operator.
    renew_at_unix_s: Option<i64>,
}

impl Loaded {
    fn is_due(&self) -> bool {
        let now = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
        self.renew_at_unix_s.is_some_and(|at| now >= at)
    }
}

/// Reloadable TLS configuration of a listening port.
pub struct ServerTls {
    settings: TlsSettings,
    loaded: Watched<Loaded>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Checks the settings, loads every file and builds the first configuration.
    ///
    /// # Errors
    /// Whatever is wrong with a setting or file; see [`TlsError`].
    pub fn load(settings: TlsSettings) -> Result<Arc<Self>, TlsError> {
        Self::load_checking_every(settings, CHECK_INTERVAL)
    }

    /// As [`ServerTls::load`], looking at the files at most every `check_interval`.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn load_checking_every(
        settings: TlsSettings,
        check_interval: Duration,
    ) -> Result<Arc<Self>, TlsError> {
        settings.validate()?;
        let flags = settings.role.flags();
        if settings.is_empty() {
            return Err(TlsError::NoCertificate { cert: flags.cert, key: flags.key, auto: flags.auto });
        }
        if settings.auto_tls.is_some() && settings.cert_file.is_some() {
            tracing::warn!("--{} is ignored because --{} is set", flags.auto, flags.cert);
        }
        let provider = settings.provider()?;
        if let (None, Some(auto)) = (&settings.cert_file, &settings.auto_tls) {
            // Before the files are looked at for the first time, or making them would count as a change.
            self_signed::ensure(auto)?;
        }
        let files = files(&settings);
        let source = settings.clone();
        let build = move || build(&source, &provider);
        let loaded = Watched::new("server", files, check_interval, Loaded::is_due, Box::new(build))?;
        Ok(Arc::new(ServerTls { settings, loaded }))
    }

    /// The configuration for a new handshake. Looks at the files if the last look is old.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.get().config)
    }

    /// Loads all files again now, as after SIGHUP. Established connections stay as they are.
    ///
    /// # Errors
    /// What is wrong with the files; the previous configuration stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.loaded.reload()
    }

    /// The settings it was made from.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// What is in use right now.
    #[must_use]
    pub fn status(&self) -> TlsStatus {
        TlsStatus {
            not_after_unix_s: self.loaded.get().not_after_unix_s,
            loads: self.loaded.generation(),
            reload_failures: self.loaded.failures(),
        }
    }
}

fn files(settings: &TlsSettings) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        [&settings.cert_file, &settings.key_file, &settings.trusted_ca_file, &settings.crl_file]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
    if settings.cert_file.is_none()
        && let Some(auto) = &settings.auto_tls
    {
        files.extend([auto.directory.join("cert.pem"), auto.directory.join("key.pem")]);
    }
    files
}

fn build(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Loaded, TlsError> {
    let flags = settings.role.flags();
    let mut renew_at_unix_s = None;
    let identity = match (&settings.cert_file, &settings.key_file, &settings.auto_tls) {
        (Some(cert), Some(key), _) => material::identity(flags.cert, cert, flags.key, key, provider)?,
        (_, _, Some(auto)) => {
            let pair = self_signed::ensure(auto)?;
            let own = material::identity(flags.auto, &pair.certificate, flags.auto, &pair.key, provider)?;
            let before = i64::try_from(self_signed::renew_before(auto).as_secs()).unwrap_or(0);
            renew_at_unix_s = Some(own.not_after_unix_s - before);
            own
        }
        _ => return Err(TlsError::NoCertificate { cert: flags.cert, key: flags.key, auto: flags.auto }),
    };
    let library = |source| TlsError::Library { what: "server", source };
    let versions = settings.usable_versions(provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)
        .map_err(library)?;
    let revoked = match &settings.crl_file {
        Some(path) => Some(material::revoked(flags.crl, path)?),
        None => None,
    };
    let builder = match &settings.trusted_ca_file {
        Some(path) => {
            let roots = material::roots(flags.ca, path)?;
            let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .build()
                .map_err(|e| TlsError::Malformed {
                    flag: flags.ca,
                    path: path.clone(),
                    problem: e.to_string(),
                    remedy: "give a PEM file with at least one CA certificate",
                })?;
            let policy = PeerPolicy {
                common_names: settings.allowed_common_names.clone(),
                hostnames: settings.allowed_server_names()?,
                revoked,
            };
            builder.with_client_cert_verifier(Arc::new(IncomingVerifier { chain, policy }))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if settings.demands_client_certificate() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded { config: Arc::new(config), not_after_unix_s: identity.not_after_unix_s, renew_at_unix_s })
}
