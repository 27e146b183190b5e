//! Byte streams to a server: plain TCP, or TLS with the usual three files.
//!
//! Owns: the spelling of endpoints, certificates. Called by: `client`, `counters`.
//! Invariants: a server is verified against the given CA and nothing else; the only protocol offered is HTTP/2.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::CallError;

/// Where a server listens: `host:port`, with TLS or without.
#[derive(Clone)]
pub struct Endpoint {
    /// Host and port.
    pub authority: String,
    /// Set for `https`.
    pub tls: Option<TlsConnector>,
}

/// The files of a client that speaks TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates that may have signed the server's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate chain, where the server asks for one.
    pub cert: Option<PathBuf>,
    /// The key to it.
    pub key: Option<PathBuf>,
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `https://host:port`.
    ///
    /// # Errors
    /// The text is none of these, or a file of `tls` is missing or unusable.
    pub fn parse(text: &str, tls: &TlsFiles) -> Result<Self, CallError> {
        let (secure, authority) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text),
        };
        let authority = authority.trim_end_matches('/').to_owned();
        if !authority.contains(':') || authority.contains('/') {
            return Err(CallError::Endpoint(text.to_owned()));
        }
        let tls = if secure { Some(connector(tls)?) } else { None };
        Ok(Endpoint { authority, tls })
    }

    /// An endpoint without TLS.
    pub fn plain(authority: &str) -> Self {
        Endpoint { authority: authority.to_owned(), tls: None }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Connects without delay of small packets.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(&self) -> Result<TcpStream, CallError> {
        let failed = |source| CallError::Connect { endpoint: self.authority.clone(), source };
        let socket = TcpStream::connect(&self.authority).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        Ok(socket)
    }

    /// Puts TLS on a connected socket.
    ///
    /// # Errors
    /// The handshake fails.
    pub async fn secure(
        &self,
        connector: &TlsConnector,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| CallError::Endpoint(self.authority.clone()))?;
        let failed = |source| CallError::Connect { endpoint: self.authority.clone(), source };
        connector.connect(name, socket).await.map_err(failed)
    }
}

fn connector(files: &TlsFiles) -> Result<TlsConnector, CallError> {
    let Some(ca) = &files.ca else { return Err(CallError::NoCa) };
    let unusable = |path: &Path, reason: String| CallError::Tls { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unusable(ca, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(ca, error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key_path)) => {
            let key = PrivateKeyDer::from_pem_file(key_path)
                .map_err(|error| unusable(key_path, error.to_string()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|error| unusable(cert, error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CallError> {
    let unusable = |error: rustls::pki_types::pem::Error| CallError::Tls {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    CertificateDer::pem_file_iter(path).map_err(unusable)?.map(|item| item.map_err(unusable)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_spelled_as_etcdctl_spells_them() {
        let parse = |text| Endpoint::parse(text, &TlsFiles::default()).map(|endpoint| endpoint.authority);
        assert_eq!(parse("127.0.0.1:2379").ok().as_deref(), Some("127.0.0.1:2379"));
        assert_eq!(parse("http://host:1/").ok().as_deref(), Some("host:1"));
        assert!(matches!(parse("host"), Err(CallError::Endpoint(_))));
        assert!(matches!(parse("http://host:1/path"), Err(CallError::Endpoint(_))));
        assert!(matches!(parse("https://host:1"), Err(CallError::NoCa)), "no server is trusted unseen");
    }
}
