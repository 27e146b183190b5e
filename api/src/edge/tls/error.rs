//! What can be wrong with TLS settings or files, said so that an operator can repair it.
//!
//! Owns: [`TlsError`]. Invariants: every message names the flag, the file where there is one, what was found and what
//! to do. Called by: the loaders of this module; printed at start and, during a reload, in one log line.

use std::io;
use std::path::PathBuf;

/// A TLS setting or file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file could not be read.
    #[error("--{flag}: cannot read {}: {source}; check that the file exists and is readable by this user", path.display())]
    Unreadable {
        /// Flag that names the file, without dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file has none of what it should hold.
    #[error("--{flag}: {} holds no {expected}; {remedy}", path.display())]
    Empty {
        /// Flag that names the file, without dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The file holds something that cannot be understood.
    #[error("--{flag}: {} is damaged: {problem}; {remedy}", path.display())]
    Malformed {
        /// Flag that names the file, without dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Certificate and key do not belong together.
    #[error(
        "the key in {} does not belong to the certificate in {}; give the pair that was issued together",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// Certificate file.
        certificate: PathBuf,
        /// Key file.
        key: PathBuf,
    },
    /// Only one half of a certificate and key pair was given.
    #[error("--{present} is set but --{absent} is not; give both or neither")]
    HalfPair {
        /// The flag that is set.
        present: &'static str,
        /// The flag that is missing.
        absent: &'static str,
    },
    /// A port speaks TLS but no certificate was given.
    #[error("an https or unixs URL needs a certificate: set --{cert} and --{key}, or --{auto}, or use http")]
    NoCertificate {
        /// Certificate flag.
        cert: &'static str,
        /// Key flag.
        key: &'static str,
        /// Flag of automatic certificates.
        auto: &'static str,
    },
    /// Certificates of the other end are to be checked, but against nothing.
    #[error("--{flag} needs --{ca}: without a CA file no certificate of the other side can be trusted")]
    NoTrustedCa {
        /// The setting that needs it.
        flag: &'static str,
        /// The CA flag.
        ca: &'static str,
    },
    /// The name is no TLS cipher suite.
    #[error("--cipher-suites: {name:?} is not a cipher suite this program knows; supported: {supported}")]
    UnknownCipherSuite {
        /// What was given.
        name: String,
        /// The names that would do.
        supported: String,
    },
    /// All listed suites are legacy ones.
    #[error("--cipher-suites: none of the suites is supported ({given}); supported: {supported}")]
    NoUsableCipherSuite {
        /// What was given.
        given: String,
        /// The names that would do.
        supported: String,
    },
    /// TLS 1.3 suites are not negotiable in etcd's configuration.
    #[error(
        "--cipher-suites has no effect when only TLS1.3 is allowed; remove it or set --tls-min-version=TLS1.2"
    )]
    CipherSuitesWithTls13Only,
    /// Neither `TLS1.2` nor `TLS1.3`.
    #[error("--{flag}: {value:?} is not a TLS version; use TLS1.2 or TLS1.3")]
    UnknownVersion {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// Minimum above maximum.
    #[error("--tls-min-version TLS1.3 is above --tls-max-version TLS1.2; no version remains")]
    VersionOrder,
    /// Both kinds of allow list.
    #[error("--{names} and --{hosts} exclude each other; keep one")]
    BothAllowLists {
        /// Flag of the list of common names.
        names: &'static str,
        /// Flag of the list of hostnames.
        hosts: &'static str,
    },
    /// Not a hostname or address.
    #[error("--{flag}: {value:?} is neither a host name nor an IP address")]
    BadHostname {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// A self-signed certificate could not be made or stored.
    #[error("cannot create a self-signed certificate in {}: {problem}; check that the directory is writable", path.display())]
    SelfSigned {
        /// Directory.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// A validity of zero.
    #[error("--self-signed-cert-validity must be at least 1 (years)")]
    NoValidity,
    /// The TLS library refused the combination.
    #[error("cannot build the {what} TLS configuration")]
    Library {
        /// Which configuration.
        what: &'static str,
        /// The library's reason.
        #[source]
        source: rustls::Error,
    },
}

/// A whole error chain on one line, for log fields and exit messages.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = own_words(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let line = own_words(cause);
        // Some libraries repeat the cause in their own text; saying it twice helps nobody.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}

/// An error's text; for a certificate refused by our own policy the reason itself, which rustls shows in debug form.
fn own_words(error: &(dyn std::error::Error + 'static)) -> String {
    let inner = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => inner.downcast_ref::<rustls::Error>(),
        None => error.downcast_ref::<rustls::Error>(),
    };
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
            reason.to_string()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_say_each_thing_once() {
        let inner = io::Error::other("disk gone");
        let error = TlsError::Unreadable { flag: "cert-file", path: "c.pem".into(), source: inner };
        assert_eq!(
            chain(&error),
            "--cert-file: cannot read c.pem: disk gone; check that the file exists and is readable by this user"
        );
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked);
        let error = TlsError::Library { what: "server", source: refused };
        assert!(
            chain(&error).ends_with("TLS configuration: invalid peer certificate: Revoked"),
            "{}",
            chain(&error)
        );
    }
}
