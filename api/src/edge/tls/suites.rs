//! Names of TLS cipher suites.
//!
//! Owns: the table from Go's names (which etcd's `--cipher-suites` takes) to rustls' suites. Invariants: every
//! supported name exists in the crypto provider. Called by: [`super::settings`].
//! Source: Go crypto/tls cipher_suites.go, etcd client/pkg/tlsutil/cipher_suites.go.

use rustls::CipherSuite;

/// What a name stands for.
pub(crate) enum SuiteName {
    /// Can be negotiated.
    Supported(CipherSuite),
    /// Known to Go, left out here.
    Legacy,
}

/// Go's names of the suites that rustls has too.
const SUPPORTED: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Older spellings etcd accepts.
const ALIASES: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Suites Go knows and rustls leaves out on purpose: no forward secrecy, CBC, RC4 or 3DES. A configuration that lists
/// them beside modern ones still starts.
const LEGACY: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Looks a name up.
pub(crate) fn lookup(name: &str) -> Option<SuiteName> {
    if let Some((_, suite)) = SUPPORTED.iter().chain(ALIASES).find(|(known, _)| *known == name) {
        return Some(SuiteName::Supported(*suite));
    }
    LEGACY.contains(&name).then_some(SuiteName::Legacy)
}

/// Names that can be configured, for messages.
pub(crate) fn supported_names() -> String {
    SUPPORTED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_name_exists_in_the_provider() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        for (name, suite) in SUPPORTED.iter().chain(ALIASES) {
            assert!(provider.cipher_suites.iter().any(|s| s.suite() == *suite), "{name}");
        }
    }
}
