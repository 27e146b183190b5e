//! The checks of a peer's certificate beyond its chain: allowed names and revocation.
//!
//! Owns: two wrappers around rustls' verifiers, one for clients that connect, one for servers we connect to.
//! Invariants: the wrapped verifier runs first, so names are read only from a certificate with a valid chain; a
//! refused certificate fails the handshake, hence no request of it is ever seen.
//! Called by: rustls during handshakes. Source: etcd client/pkg/transport/listener.go (`VerifyPeerCertificate`).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::PeerIdentity;
use super::material::RevokedSerials;

/// What a peer's certificate must satisfy besides its chain.
#[derive(Debug, Default)]
pub(crate) struct PeerPolicy {
    pub(crate) common_names: Vec<String>,
    pub(crate) hostnames: Vec<ServerName<'static>>,
    pub(crate) revoked: Option<RevokedSerials>,
}

/// Why a certificate with a valid chain was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Its common name is not in the list.
    #[error("common name {found:?} is not one of the allowed names {allowed:?}")]
    CommonName {
        /// What the certificate says.
        found: String,
        /// What would do.
        allowed: Vec<String>,
    },
    /// It is valid for none of the allowed hostnames.
    #[error("certificate of {found:?} is valid for none of the allowed hostnames {allowed:?}")]
    Hostname {
        /// Common name of the certificate.
        found: String,
        /// What would do.
        allowed: Vec<String>,
    },
}

impl PeerPolicy {
    fn check(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if let Some(list) = &self.revoked
            && std::iter::once(leaf).chain(intermediates).any(|certificate| list.covers(certificate))
        {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        if !self.common_names.is_empty() {
            let found = PeerIdentity::parse(leaf).unwrap_or_default().common_name;
            if !self.common_names.contains(&found) {
                return Err(refuse(PolicyError::CommonName { found, allowed: self.common_names.clone() }));
            }
        }
        if !self.hostnames.is_empty() {
            let parsed = ParsedCertificate::try_from(leaf)?;
            if !self.hostnames.iter().any(|name| verify_server_name(&parsed, name).is_ok()) {
                let found = PeerIdentity::parse(leaf).unwrap_or_default().common_name;
                let allowed = self.hostnames.iter().map(|name| name.to_str().into_owned()).collect();
                return Err(refuse(PolicyError::Hostname { found, allowed }));
            }
        }
        Ok(())
    }
}

fn refuse(reason: PolicyError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Verifies certificates of clients that connect.
pub(crate) struct IncomingVerifier {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) policy: PeerPolicy,
}

impl fmt::Debug for IncomingVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingVerifier").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for IncomingVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.policy.check(end_entity, intermediates)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Verifies certificates of servers we connect to. Without `chain` any certificate is accepted, which only the
/// automatic certificates of peers ask for; the proof that the server owns its key is demanded all the same.
pub(crate) struct OutgoingVerifier {
    pub(crate) chain: Option<Arc<dyn ServerCertVerifier>>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) policy: PeerPolicy,
}

impl fmt::Debug for OutgoingVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingVerifier")
            .field("verifies_chain", &self.chain.is_some())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for OutgoingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        self.policy.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
