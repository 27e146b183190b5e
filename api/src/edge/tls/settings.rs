//! etcd's TLS settings of one port, and what rustls makes of versions and cipher suites.
//!
//! Owns: [`TlsSettings`] and its checks that need no file. Invariants: what passes [`TlsSettings::validate`] is free of
//! contradictions. Called by: the configuration reader (fills it), [`super::server`] and [`super::client`].
//! Source: etcd client/pkg/transport/listener.go (`TLSInfo`), client/pkg/tlsutil, server/embed/config.go.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::ServerName;

use super::error::TlsError;
use super::suites;

/// Which port the settings are for; decides the flag names in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRole {
    /// `--cert-file`, `--client-cert-auth`, ...
    #[default]
    Client,
    /// `--peer-cert-file`, `--peer-client-cert-auth`, ...
    Peer,
}

/// The flags of a role, without dashes.
#[derive(Debug)]
pub struct Flags {
    /// Server certificate.
    pub cert: &'static str,
    /// Server key.
    pub key: &'static str,
    /// Certificate for outgoing connections.
    pub client_cert: &'static str,
    /// Key for outgoing connections.
    pub client_key: &'static str,
    /// CA file.
    pub ca: &'static str,
    /// Demand certificates.
    pub auth: &'static str,
    /// Revocation list.
    pub crl: &'static str,
    /// Allowed common names.
    pub names: &'static str,
    /// Allowed hostnames.
    pub hosts: &'static str,
    /// Self-signed certificates.
    pub auto: &'static str,
}

const CLIENT_FLAGS: Flags = Flags {
    cert: "cert-file",
    key: "key-file",
    client_cert: "client-cert-file",
    client_key: "client-key-file",
    ca: "trusted-ca-file",
    auth: "client-cert-auth",
    crl: "client-crl-file",
    names: "client-cert-allowed-cn",
    hosts: "client-cert-allowed-hostname",
    auto: "auto-tls",
};

const PEER_FLAGS: Flags = Flags {
    cert: "peer-cert-file",
    key: "peer-key-file",
    client_cert: "peer-client-cert-file",
    client_key: "peer-client-key-file",
    ca: "peer-trusted-ca-file",
    auth: "peer-client-cert-auth",
    crl: "peer-crl-file",
    names: "peer-cert-allowed-cn",
    hosts: "peer-cert-allowed-hostname",
    auto: "peer-auto-tls",
};

impl TlsRole {
    /// Flag names of this role.
    #[must_use]
    pub fn flags(self) -> &'static Flags {
        match self {
            TlsRole::Client => &CLIENT_FLAGS,
            TlsRole::Peer => &PEER_FLAGS,
        }
    }
}

/// A TLS protocol version that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsVersion {
    /// Parses etcd's spelling; the empty string means "the default" and gives `None`.
    ///
    /// # Errors
    /// `UnknownVersion` for anything but `TLS1.2`, `TLS1.3` and the empty string.
    pub fn parse(flag: &'static str, value: &str) -> Result<Option<Self>, TlsError> {
        match value {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
            "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
            _ => Err(TlsError::UnknownVersion { flag, value: value.to_owned() }),
        }
    }
}

/// Self-signed certificates made by the program itself.
#[derive(Clone, Debug)]
pub struct AutoTls {
    /// Where `cert.pem` and `key.pem` are kept; etcd uses `<data-dir>/fixtures/client` and `/peer`.
    pub directory: PathBuf,
    /// Hosts of the listen URLs, without ports.
    pub hosts: Vec<String>,
    /// `--self-signed-cert-validity`.
    pub validity_years: u32,
}

/// TLS settings of one port and of the outgoing connections that belong to it.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Which flags the values came from.
    pub role: TlsRole,
    /// Server certificate chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// Server key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_file: Option<PathBuf>,
    /// Certificate for outgoing connections; `cert_file` when absent.
    pub client_cert_file: Option<PathBuf>,
    /// Key for outgoing connections; `key_file` when absent.
    pub client_key_file: Option<PathBuf>,
    /// CA certificates, PEM. As in etcd, naming one makes client certificates compulsory.
    pub trusted_ca_file: Option<PathBuf>,
    /// Demand and verify certificates of clients.
    pub client_cert_auth: bool,
    /// Revocation list, DER or PEM.
    pub crl_file: Option<PathBuf>,
    /// Common names of which the peer's certificate must carry one; empty allows all.
    pub allowed_common_names: Vec<String>,
    /// Hostnames or addresses of which the peer's certificate must be valid for one; empty allows all.
    pub allowed_hostnames: Vec<String>,
    /// Go names of TLS 1.2 suites; empty means the library's choice.
    pub cipher_suites: Vec<String>,
    /// Lowest version; `None` is TLS 1.2.
    pub version_min: Option<TlsVersion>,
    /// Highest version; `None` is TLS 1.3.
    pub version_max: Option<TlsVersion>,
    /// Make a certificate instead of reading one. Ignored when files are given.
    pub auto_tls: Option<AutoTls>,
    /// Peer port only: do not compare the certificate's addresses with the address the peer comes from.
    pub skip_client_san_verification: bool,
    /// Outgoing only: accept any server certificate. Set by the wiring for peers with automatic certificates.
    pub insecure_skip_verify: bool,
    /// Outgoing only: name to verify instead of the host of the URL.
    pub server_name: Option<String>,
}

impl TlsSettings {
    /// True when neither files nor automatic certificates are configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none() && self.auto_tls.is_none()
    }

    /// Whether connecting clients must show a certificate.
    #[must_use]
    pub fn demands_client_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }

    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), TlsError> {
        let flags = self.role.flags();
        pair(self.cert_file.is_some(), flags.cert, self.key_file.is_some(), flags.key)?;
        pair(
            self.client_cert_file.is_some(),
            flags.client_cert,
            self.client_key_file.is_some(),
            flags.client_key,
        )?;
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            return Err(TlsError::NoTrustedCa { flag: flags.auth, ca: flags.ca });
        }
        if !self.allowed_common_names.is_empty() && !self.allowed_hostnames.is_empty() {
            return Err(TlsError::BothAllowLists { names: flags.names, hosts: flags.hosts });
        }
        self.allowed_server_names()?;
        self.provider()?;
        Ok(())
    }

    /// The allowed hostnames in the form the verifier compares.
    pub(crate) fn allowed_server_names(&self) -> Result<Vec<ServerName<'static>>, TlsError> {
        let flag = self.role.flags().hosts;
        self.allowed_hostnames
            .iter()
            .map(|host| {
                ServerName::try_from(host.clone())
                    .map_err(|_| TlsError::BadHostname { flag, value: host.clone() })
            })
            .collect()
    }

    /// Protocol versions between minimum and maximum.
    pub(crate) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let low = self.version_min.unwrap_or(TlsVersion::Tls12);
        let high = self.version_max.unwrap_or(TlsVersion::Tls13);
        if low > high {
            return Err(TlsError::VersionOrder);
        }
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::with_capacity(2);
        if high == TlsVersion::Tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if low == TlsVersion::Tls12 {
            versions.push(&rustls::version::TLS12);
        }
        Ok(versions)
    }

    /// The crypto provider, reduced to the wanted suites.
    ///
    /// As in Go, the list restricts TLS 1.2 only: TLS 1.3 suites are always offered.
    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let versions = self.versions()?;
        let mut provider = aws_lc_rs::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(Arc::new(provider));
        }
        if self.version_min == Some(TlsVersion::Tls13) {
            return Err(TlsError::CipherSuitesWithTls13Only);
        }
        let mut wanted = Vec::new();
        for name in &self.cipher_suites {
            match suites::lookup(name) {
                Some(suites::SuiteName::Supported(suite)) => wanted.push(suite),
                Some(suites::SuiteName::Legacy) => tracing::warn!(
                    suite = %name,
                    supported = %suites::supported_names(),
                    "cipher suite is a legacy one that is not supported; it is ignored"
                ),
                None => {
                    return Err(TlsError::UnknownCipherSuite {
                        name: name.clone(),
                        supported: suites::supported_names(),
                    });
                }
            }
        }
        let tls13_possible = versions.iter().any(|v| v.version == rustls::ProtocolVersion::TLSv1_3);
        if wanted.is_empty() && !tls13_possible {
            return Err(TlsError::NoUsableCipherSuite {
                given: self.cipher_suites.join(","),
                supported: suites::supported_names(),
            });
        }
        provider.cipher_suites.retain(|s| s.tls13().is_some() || wanted.contains(&s.suite()));
        if !provider.cipher_suites.iter().any(|s| s.tls13().is_none()) && !tls13_possible {
            return Err(TlsError::NoUsableCipherSuite {
                given: self.cipher_suites.join(","),
                supported: suites::supported_names(),
            });
        }
        Ok(Arc::new(provider))
    }

    /// Versions for which the reduced provider still has a suite; rustls refuses a version without one.
    pub(crate) fn usable_versions(
        &self,
        provider: &CryptoProvider,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let mut versions = self.versions()?;
        versions.retain(|v| provider.cipher_suites.iter().any(|s| s.version().version == v.version));
        Ok(versions)
    }
}

fn pair(a: bool, a_flag: &'static str, b: bool, b_flag: &'static str) -> Result<(), TlsError> {
    match (a, b) {
        (true, false) => Err(TlsError::HalfPair { present: a_flag, absent: b_flag }),
        (false, true) => Err(TlsError::HalfPair { present: b_flag, absent: a_flag }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CipherSuite;

    fn listing(names: &[&str]) -> TlsSettings {
        TlsSettings {
            cipher_suites: names.iter().map(|n| (*n).to_owned()).collect(),
            ..TlsSettings::default()
        }
    }

    #[test]
    fn cipher_suites_restrict_tls12_only() {
        let provider = listing(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"])
            .provider()
            .expect("a modern suite beside a legacy one is enough");
        let tls12: Vec<_> = provider.cipher_suites.iter().filter(|s| s.tls13().is_none()).collect();
        assert_eq!(tls12.len(), 1);
        assert_eq!(tls12[0].suite(), CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(provider.cipher_suites.iter().filter(|s| s.tls13().is_some()).count(), 3);
    }

    #[test]
    fn bad_suites_and_versions_are_named() {
        let check = |settings: &TlsSettings, needle: &str| {
            let text = settings.validate().expect_err(needle).to_string();
            assert!(text.contains(needle), "{text}");
        };
        check(&listing(&["TLS_MADE_UP"]), "TLS_MADE_UP");
        let mut only12 = listing(&["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        only12.version_max = Some(TlsVersion::Tls12);
        check(&only12, "none of the suites");
        let mut only13 = listing(&["TLS_AES_128_GCM_SHA256"]);
        only13.version_min = Some(TlsVersion::Tls13);
        check(&only13, "only TLS1.3");
        let crossed = TlsSettings {
            version_min: Some(TlsVersion::Tls13),
            version_max: Some(TlsVersion::Tls12),
            ..TlsSettings::default()
        };
        check(&crossed, "no version remains");
        assert!(TlsVersion::parse("tls-min-version", "TLS1.1").is_err());
        assert_eq!(TlsVersion::parse("tls-min-version", "").unwrap(), None);
    }

    #[test]
    fn contradictions_name_both_flags() {
        let half = TlsSettings { role: TlsRole::Peer, cert_file: Some("c".into()), ..TlsSettings::default() };
        assert_eq!(
            half.validate().unwrap_err().to_string(),
            "--peer-cert-file is set but --peer-key-file is not; give both or neither"
        );
        let auth = TlsSettings { client_cert_auth: true, ..TlsSettings::default() };
        assert!(auth.validate().unwrap_err().to_string().contains("--trusted-ca-file"));
        let lists = TlsSettings {
            allowed_common_names: vec!["a".into()],
            allowed_hostnames: vec!["b".into()],
            ..TlsSettings::default()
        };
        assert!(lists.validate().unwrap_err().to_string().contains("exclude each other"));
        let host = TlsSettings { allowed_hostnames: vec!["not a host".into()], ..TlsSettings::default() };
        assert!(host.validate().unwrap_err().to_string().contains("not a host"));
    }
}
