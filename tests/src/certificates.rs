//! Certificate authorities of one test, and the files that servers and clients take.
//!
//! Owns: keys and files. Invariant: a file is replaced in one step, as an operator's tool does it. Called by: the suites
//! about TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Common name.
    pub name: &'a str,
    /// Host names and addresses.
    pub hosts: &'a [&'a str],
    /// Ended years ago.
    pub expired: bool,
}

/// A certificate with its key.
pub struct Leaf {
    certificate: String,
    key: String,
    serial: SerialNumber,
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl<'a> Subject<'a> {
    /// A certificate for this machine's loopback address.
    pub fn local(name: &'a str) -> Self {
        Subject { name, hosts: &["127.0.0.1", "localhost"], expired: false }
    }
}

#[allow(clippy::missing_panics_doc)] // Every step fails only if the crate is used wrongly.
impl Authority {
    /// A new one with a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for servers and clients.
    pub fn issue(&self, subject: Subject<'_>) -> Leaf {
        self.issue_from(subject, 2020)
    }

    /// The same, valid from the first day of a year on.
    pub fn issue_from(&self, subject: Subject<'_>, year: i32) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(subject.name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.not_after = rcgen::date_time_ymd(if subject.expired { 2021 } else { 2100 }, 1, 1);
        params.subject_alt_names = subject
            .hosts
            .iter()
            .map(|host| match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().expect("a host name")),
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        // Distinct without randomness of our own: the public key differs.
        let raw = key.public_key_raw();
        let serial = SerialNumber::from_slice(&raw[raw.len() - 12..]);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { certificate, key: key.serialize_pem(), serial }
    }

    /// A list of revoked certificates.
    pub fn revoke(&self, leaves: &[&Leaf]) -> String {
        let since = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = |leaf: &&Leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: since,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: since,
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: leaves.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

impl Leaf {
    /// Writes `<name>.pem` and `<name>.key`, the key first: who finds the certificate finds its key.
    pub fn write(&self, folder: &Path, name: &str) -> Pair {
        let key = write(folder, &format!("{name}.key"), &self.key);
        Pair { cert: write(folder, &format!("{name}.pem"), &self.certificate), key }
    }
}

impl Pair {
    /// As flags: `--<prefix>cert<suffix>` and `--<prefix>key<suffix>`.
    pub fn flags(&self, prefix: &str, suffix: &str) -> [String; 2] {
        [
            format!("--{prefix}cert{suffix}={}", self.cert.display()),
            format!("--{prefix}key{suffix}={}", self.key.display()),
        ]
    }
}

/// Writes a file in one step and returns its path.
///
/// # Panics
/// If the folder cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, temporary) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&temporary, text).expect("write a file");
    fs::rename(&temporary, &path).expect("rename a file");
    path
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
