//! Reads certificates, keys, CA bundles and revocation lists from files.
//!
//! Owns: the mapping from a file's bytes to material rustls accepts, with errors that name file and remedy.
//! Invariants: total on any input (a damaged file is an error, never a panic); keys never appear in an error or log.
//! Called by: [`super::server`] and [`super::client`] at start and at each reload.
//! Source: etcd client/pkg/tlsutil/tlsutil.go; revocation as in client/pkg/transport/listener_tls.go (serial numbers
//! of the list, compared with every certificate presented), with PEM accepted beside DER.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::error::TlsError;

/// Largest file read: a CA bundle or revocation list beyond this is a mistake, not a configuration.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Days before expiry from which each load warns.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Serial numbers of a revocation list.
#[derive(Debug, Default)]
pub(crate) struct RevokedSerials(HashSet<Vec<u8>>);

impl RevokedSerials {
    /// True when `certificate` carries one of the serial numbers. What cannot be parsed counts as revoked.
    pub(crate) fn covers(&self, certificate: &CertificateDer<'_>) -> bool {
        match X509Certificate::from_der(certificate.as_ref()) {
            Ok((_, parsed)) => self.0.contains(strip(parsed.raw_serial())),
            Err(_) => true,
        }
    }

    /// Number of revoked serials.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// DER may pad a positive integer with a zero byte; lists and certificates need not agree on it.
fn strip(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|b| **b == 0).count();
    &serial[zeros..]
}

/// Reads a whole file, with a bound.
pub(crate) fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { flag, path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(TlsError::Malformed {
            flag,
            path: path.to_owned(),
            problem: format!("{length} bytes are more than a certificate file can have"),
            remedy: "check the path",
        });
    }
    std::fs::read(path).map_err(unreadable)
}

/// A certificate chain with its key, and when the leaf ends.
#[derive(Debug)]
pub(crate) struct Identity {
    /// For rustls' resolvers.
    pub(crate) key: Arc<CertifiedKey>,
    /// End of the leaf's validity as seconds since the Unix epoch.
    pub(crate) not_after_unix_s: i64,
}

/// Loads a chain and its key and checks that they belong together.
pub(crate) fn identity(
    cert_flag: &'static str,
    cert_path: &Path,
    key_flag: &'static str,
    key_path: &Path,
    provider: &CryptoProvider,
) -> Result<Identity, TlsError> {
    let chain = certificates(cert_flag, cert_path)?;
    let key = private_key(key_flag, key_path)?;
    let not_after_unix_s = check_leaf(cert_flag, cert_path, &chain[0])?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { certificate: cert_path.to_owned(), key: key_path.to_owned() }
        }
        other => TlsError::Malformed {
            flag: key_flag,
            path: key_path.to_owned(),
            problem: other.to_string(),
            remedy: "use an ECDSA P-256/P-384/P-521, RSA (2048 bits or more) or Ed25519 key",
        },
    })?;
    Ok(Identity { key: Arc::new(certified), not_after_unix_s })
}

/// All certificates of a PEM file, at least one.
fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(flag, path)?;
    let list = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|e| pem_error(flag, path, &e, "write it again as PEM"))?;
    if list.is_empty() {
        return Err(TlsError::Empty {
            flag,
            path: path.to_owned(),
            expected: "certificate in PEM form",
            remedy: "it needs at least one BEGIN CERTIFICATE block, the server's own first",
        });
    }
    Ok(list)
}

fn private_key(flag: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(flag, path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let encrypted = bytes.windows(9).any(|w| w == b"ENCRYPTED");
            Err(TlsError::Empty {
                flag,
                path: path.to_owned(),
                expected: if encrypted { "key that is not encrypted" } else { "private key in PEM form" },
                remedy: if encrypted {
                    "decrypt it with `openssl pkey -in <file> -out <file>` and protect it with file permissions"
                } else {
                    "it needs a BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY block"
                },
            })
        }
        Err(error) => Err(pem_error(flag, path, &error, "write it again as PEM")),
    }
}

/// Parses the leaf, warns when it is expired, expires soon or is not valid yet, and returns its end.
///
/// An expired certificate is no error: etcd starts with it, and clients that do not verify still work.
fn check_leaf(flag: &'static str, path: &Path, leaf: &CertificateDer<'_>) -> Result<i64, TlsError> {
    let (_, parsed) = X509Certificate::from_der(leaf.as_ref()).map_err(|e| TlsError::Malformed {
        flag,
        path: path.to_owned(),
        problem: format!("the first certificate cannot be parsed: {e}"),
        remedy: "issue the certificate again",
    })?;
    let validity = parsed.validity();
    let now = i64::try_from(crate::edge::clock::unix_now().as_secs()).unwrap_or(i64::MAX);
    let end = validity.not_after.timestamp();
    let file = path.display();
    if end < now {
        tracing::warn!(%file, not_after = %validity.not_after, "certificate has expired; clients that verify it refuse to connect: replace the file, no restart is needed");
    } else if end - now < i64::try_from(EXPIRY_WARNING.as_secs()).unwrap_or(i64::MAX) {
        tracing::warn!(%file, not_after = %validity.not_after, "certificate expires soon: replace the file, no restart is needed");
    } else if validity.not_before.timestamp() > now {
        tracing::warn!(%file, not_before = %validity.not_before, "certificate is not valid yet: check the clocks of this machine and of the CA");
    }
    Ok(end)
}

/// The CA bundle as trust anchors.
pub(crate) fn roots(flag: &'static str, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for (position, certificate) in certificates(flag, path)?.into_iter().enumerate() {
        store.add(certificate).map_err(|e| TlsError::Malformed {
            flag,
            path: path.to_owned(),
            problem: format!("certificate number {} cannot be used as a CA: {e}", position + 1),
            remedy: "remove or replace that block",
        })?;
    }
    Ok(Arc::new(store))
}

/// The serial numbers of a revocation list, DER or PEM (several lists may follow each other in PEM).
pub(crate) fn revoked(flag: &'static str, path: &Path) -> Result<RevokedSerials, TlsError> {
    let bytes = read(flag, path)?;
    let mut serials = HashSet::new();
    let looks_like_pem = bytes.windows(11).any(|w| w == b"-----BEGIN ");
    if looks_like_pem {
        let lists = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, pem::Error>>()
            .map_err(|e| pem_error(flag, path, &e, "write the list again"))?;
        if lists.is_empty() {
            return Err(TlsError::Empty {
                flag,
                path: path.to_owned(),
                expected: "revocation list",
                remedy: "it needs a BEGIN X509 CRL block, or the list in DER form",
            });
        }
        for list in &lists {
            collect_serials(flag, path, list.as_ref(), &mut serials)?;
        }
    } else {
        collect_serials(flag, path, &bytes, &mut serials)?;
    }
    Ok(RevokedSerials(serials))
}

fn collect_serials(
    flag: &'static str,
    path: &Path,
    der: &[u8],
    serials: &mut HashSet<Vec<u8>>,
) -> Result<(), TlsError> {
    let malformed = |problem: String| TlsError::Malformed {
        flag,
        path: path.to_owned(),
        problem,
        remedy: "create the list again, for example with `openssl ca -gencrl`",
    };
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|e| malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes follow the list", rest.len())));
    }
    serials.extend(list.iter_revoked_certificates().map(|entry| strip(entry.raw_serial()).to_vec()));
    Ok(())
}

fn pem_error(flag: &'static str, path: &Path, error: &pem::Error, remedy: &'static str) -> TlsError {
    // The library quotes the offending line, and in a key file that line may be key material.
    let problem = match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM block is not valid base64".to_owned(),
        pem::Error::NoItemsFound => "nothing found in it".to_owned(),
        pem::Error::SectionTooLarge => "a PEM block is too large".to_owned(),
        other => other.to_string(),
    };
    TlsError::Malformed { flag, path: path.to_owned(), problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::testkit::{Authority, write};
    use rustls::crypto::aws_lc_rs::default_provider;

    #[test]
    fn damaged_files_are_named_and_never_panic() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let leaf = ca.server("a", &["localhost"]);
        let (cert, key) = leaf.write(dir.path(), "leaf");
        let load = |c: &Path, k: &Path| identity("cert-file", c, "key-file", k, &default_provider());

        assert!(load(&cert, &key).is_ok());
        let missing = load(&dir.path().join("no.pem"), &key).unwrap_err().to_string();
        assert!(missing.contains("--cert-file") && missing.contains("no.pem"), "{missing}");
        let swapped = load(&key, &key).unwrap_err().to_string();
        assert!(swapped.contains("holds no certificate"), "{swapped}");
        let no_key = load(&cert, &cert).unwrap_err().to_string();
        assert!(no_key.contains("holds no private key"), "{no_key}");
        let other = ca.server("b", &["localhost"]).write(dir.path(), "other");
        let mixed = load(&cert, &other.1).unwrap_err();
        assert!(matches!(mixed, TlsError::KeyMismatch { .. }), "{mixed}");

        // Cut at every length: an error or, at the end, success; nothing else.
        let whole = std::fs::read(&cert).unwrap();
        for length in 0..whole.len() - 1 {
            let cut = write(dir.path(), "cut.pem", &whole[..length]);
            if load(&cut, &key).is_ok() {
                assert!(length >= whole.len() - 2, "accepted {length} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn encrypted_key_gets_its_own_remedy_and_no_key_bytes_leak() {
        let dir = tempfile::tempdir().unwrap();
        let key = write(
            dir.path(),
            "k.pem",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let text = private_key("key-file", &key).unwrap_err().to_string();
        assert!(text.contains("openssl pkey"), "{text}");
        let broken = write(
            dir.path(),
            "b.pem",
            b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0IQ==c2VjcmV0\n-----END PRIVATE KEY-----\n",
        );
        let text = private_key("key-file", &broken).unwrap_err().to_string();
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }

    #[test]
    fn revocation_lists_in_der_and_pem_give_the_same_serials() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let (bad, good) = (ca.client("bad"), ca.client("good"));
        let der = write(dir.path(), "crl.der", &ca.crl(&[&bad]));
        let pem = write(dir.path(), "crl.pem", ca.crl_pem(&[&bad]).as_bytes());
        for path in [der, pem] {
            let list = revoked("client-crl-file", &path).unwrap();
            assert_eq!(list.len(), 1);
            assert!(list.covers(bad.certificate()));
            assert!(!list.covers(good.certificate()));
        }
        let bytes = ca.crl(&[&bad]);
        for length in 0..bytes.len() {
            let cut = write(dir.path(), "cut.der", &bytes[..length]);
            assert!(revoked("client-crl-file", &cut).is_err(), "accepted {length} bytes");
        }
        // Every single-byte change is either an error or a list; it never panics.
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            let path = write(dir.path(), "flip.der", &changed);
            drop(revoked("client-crl-file", &path));
        }
    }
}
