//! Certificates and files for the edge's tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;

use super::clock;

/// A certificate authority of one test.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
    serial: SerialNumber,
}

/// Writes a file and returns its path. The modification time always differs from that of the previous content.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.new"));
    fs::write(&temporary, bytes).unwrap();
    fs::rename(&temporary, &path).unwrap(); // a new inode: the change is seen whatever the clock's resolution
    path
}

fn set_validity(params: &mut CertificateParams, from_s: i64, to_s: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = i64::try_from(clock::unix_now().as_secs()).unwrap();
    let at = |offset: i64| epoch + Duration::from_secs(u64::try_from(now + offset).unwrap());
    params.not_before = at(from_s);
    params.not_after = at(to_s);
}

const DAY_S: i64 = 24 * 3600;

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, -DAY_S, 365 * DAY_S);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For servers; `hosts` are names or addresses.
    pub(crate) fn server(&self, name: &str, hosts: &[&str]) -> Leaf {
        self.leaf(
            name,
            hosts,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            -DAY_S,
            30 * DAY_S,
        )
    }

    /// For clients, without alternative names.
    pub(crate) fn client(&self, name: &str) -> Leaf {
        self.leaf(name, &[], &[ExtendedKeyUsagePurpose::ClientAuth], -DAY_S, 30 * DAY_S)
    }

    /// For clients, with names.
    pub(crate) fn client_for(&self, name: &str, hosts: &[&str]) -> Leaf {
        self.leaf(name, hosts, &[ExtendedKeyUsagePurpose::ClientAuth], -DAY_S, 30 * DAY_S)
    }

    /// Ended yesterday.
    pub(crate) fn expired(&self, name: &str) -> Leaf {
        self.leaf(name, &[], &[ExtendedKeyUsagePurpose::ClientAuth], -10 * DAY_S, -DAY_S)
    }

    fn leaf(
        &self,
        name: &str,
        hosts: &[&str],
        usages: &[ExtendedKeyUsagePurpose],
        from_s: i64,
        to_s: i64,
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "test");
        params.extended_key_usages = usages.to_vec();
        set_validity(&mut params, from_s, to_s);
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*host).try_into().unwrap()),
            });
        }
        let key = KeyPair::generate().unwrap();
        // Distinct serials without randomness: the public key differs per leaf.
        let raw = key.public_key_raw();
        let serial = SerialNumber::from_slice(&raw[raw.len() - 12..]);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate, key, serial }
    }

    fn crl_params(&self, revoked: &[&Leaf]) -> rcgen::CertificateRevocationList {
        let epoch = rcgen::date_time_ymd(2020, 1, 1);
        let params = CertificateRevocationListParams {
            this_update: epoch,
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|leaf| RevokedCertParams {
                    serial_number: leaf.serial.clone(),
                    revocation_time: epoch,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    pub(crate) fn crl(&self, revoked: &[&Leaf]) -> Vec<u8> {
        self.crl_params(revoked).der().to_vec()
    }

    pub(crate) fn crl_pem(&self, revoked: &[&Leaf]) -> String {
        self.crl_params(revoked).pem().unwrap()
    }
}

impl Leaf {
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            write(directory, &format!("{name}.pem"), self.certificate_pem().as_bytes()),
            write(directory, &format!("{name}.key"), self.key_pem().as_bytes()),
        )
    }
}
