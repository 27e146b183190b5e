//! TLS of a client: whom it trusts, what it shows.
//!
//! Invariant: without `--insecure-skip-tls-verify` a server is verified, against `--cacert` or else the machine's own
//! authorities. Called by: `connector`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::settings::Settings;
use crate::failure::Failure;

/// Where systems keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The configuration that the flags ask for.
///
/// # Errors
/// Files that are missing, broken, or given one without the other.
pub(crate) fn config(settings: &Settings) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::arguments(error.to_string()))?;
    let verified = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    } else {
        let roots = Arc::new(roots(settings.ca.as_deref())?);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| {
                Failure::arguments(error.to_string())
                    .help("give --cacert, the authority of the server's certificate")
            })?;
        builder.with_webpki_verifier(verifier)
    };
    let mut config = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error.to_string()))?;
            verified
                .with_client_auth_cert(chain, secret)
                .map_err(|error| unusable(cert, &error.to_string()))?
        }
        (None, None) => verified.with_no_client_auth(),
        _ => {
            return Err(Failure::arguments("KeyFile and CertFile must both be present")
                .help("give --cert and --key together"));
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable(path, "it has no certificate"));
            }
        }
        None => {
            let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let places = given.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from));
            if let Some(bundle) = places.filter_map(|path| certificates(&path).ok()).next() {
                roots.add_parsable_certificates(bundle);
            }
        }
    }
    Ok(roots)
}

/// The certificates of a file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let failed = |error: rustls::pki_types::pem::Error| unusable(path, &error.to_string());
    CertificateDer::pem_file_iter(path).map_err(failed)?.map(|item| item.map_err(failed)).collect()
}

fn unusable(path: &Path, reason: &str) -> Failure {
    Failure::arguments(format!("cannot use {}: {reason}", path.display()))
        .help("check the path, who may read it, and that it is PEM: --cacert and --cert certificates, --key a private key")
}

/// Takes any certificate, but still has the server prove that it holds its key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
