//! The client side of TLS: a reloadable rustls configuration for connections to other members.
//!
//! Owns: [`ClientTls`]. Invariants: the server's certificate is verified against the CA and the URL's host unless the
//! settings say otherwise; revocation and allowed names are checked as on the listening side.
//! Called by: [`super::connector`]. Source: etcd client/pkg/transport/listener.go (`ClientConfig`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::TlsError;
use super::material;
use super::reload::{CHECK_INTERVAL, Watched};
use super::self_signed;
use super::settings::TlsSettings;
use super::verify::{OutgoingVerifier, PeerPolicy};

/// Reloadable TLS configuration for connections to other members.
pub struct ClientTls {
    config: Watched<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Checks the settings, loads every file and builds the first configuration.
    ///
    /// # Errors
    /// Whatever is wrong with a setting or file; see [`TlsError`].
    pub fn load(settings: TlsSettings) -> Result<Arc<Self>, TlsError> {
        settings.validate()?;
        let flags = settings.role.flags();
        if settings.trusted_ca_file.is_none() && !trusts_anyone(&settings) {
            return Err(TlsError::NoTrustedCa { flag: flags.cert, ca: flags.ca });
        }
        let server_name = match &settings.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| TlsError::BadHostname { flag: "tls-server-name", value: name.clone() })?,
            ),
            None => None,
        };
        let provider = settings.provider()?;
        if let (None, Some(auto)) = (&settings.cert_file, &settings.auto_tls) {
            self_signed::ensure(auto)?;
        }
        let files = files(&settings);
        let build = move || build(&settings, &provider);
        let config = Watched::new("client", files, CHECK_INTERVAL, |_| false, Box::new(build))?;
        Ok(Arc::new(ClientTls { config, server_name }))
    }

    /// The configuration for a new handshake. Looks at the files if the last look is old.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.get())
    }

    /// Loads all files again now.
    ///
    /// # Errors
    /// What is wrong with the files; the previous configuration stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.config.reload()
    }

    /// Completes a handshake over `stream`, verifying `host` unless the settings name another.
    ///
    /// # Errors
    /// What the handshake failed with.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?,
        };
        TlsConnector::from(self.config()).connect(name, stream).await
    }
}

/// Automatic certificates have no CA, so peers that use them accept each other unseen, as in etcd.
fn trusts_anyone(settings: &TlsSettings) -> bool {
    settings.insecure_skip_verify || (settings.auto_tls.is_some() && settings.cert_file.is_none())
}

fn files(settings: &TlsSettings) -> Vec<PathBuf> {
    let named = [
        &settings.cert_file,
        &settings.key_file,
        &settings.client_cert_file,
        &settings.client_key_file,
        &settings.trusted_ca_file,
        &settings.crl_file,
    ];
    let mut files: Vec<PathBuf> = named.into_iter().flatten().cloned().collect();
    if let (None, Some(auto)) = (&settings.cert_file, &settings.auto_tls) {
        // The listening side renews them; this side follows.
        files.extend([auto.directory.join("cert.pem"), auto.directory.join("key.pem")]);
    }
    files
}

fn build(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, TlsError> {
    let flags = settings.role.flags();
    let library = |source| TlsError::Library { what: "client", source };
    let revoked = match &settings.crl_file {
        Some(path) => Some(material::revoked(flags.crl, path)?),
        None => None,
    };
    let server_chain: Option<Arc<dyn rustls::client::danger::ServerCertVerifier>> =
        match &settings.trusted_ca_file {
            Some(path) if !settings.insecure_skip_verify => {
                let roots = material::roots(flags.ca, path)?;
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                    .build()
                    .map_err(|e| TlsError::Malformed {
                        flag: flags.ca,
                        path: path.clone(),
                        problem: e.to_string(),
                        remedy: "give a PEM file with at least one CA certificate",
                    })?;
                Some(verifier)
            }
            _ => None,
        };
    let policy = PeerPolicy {
        common_names: settings.allowed_common_names.clone(),
        hostnames: settings.allowed_server_names()?,
        revoked,
    };
    let verifier = OutgoingVerifier { chain: server_chain, provider: Arc::clone(provider), policy };
    let versions = settings.usable_versions(provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)
        .map_err(library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let own = match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(cert), Some(key)) => {
            Some(material::identity(flags.client_cert, cert, flags.client_key, key, provider)?)
        }
        _ => match (&settings.cert_file, &settings.key_file, &settings.auto_tls) {
            (Some(cert), Some(key), _) => {
                Some(material::identity(flags.cert, cert, flags.key, key, provider)?)
            }
            (_, _, Some(auto)) => {
                let pair = self_signed::ensure(auto)?;
                Some(material::identity(flags.auto, &pair.certificate, flags.auto, &pair.key, provider)?)
            }
            _ => None,
        },
    };
    let mut config = match own {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
