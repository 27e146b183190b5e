//! Certificates the program makes for itself (`--auto-tls`, `--peer-auto-tls`).
//!
//! Owns: making, storing and renewing one self-signed pair per port. Invariants: key files are created with mode 0600
//! in a 0700 directory and replaced by rename, key before certificate; an existing pair is kept until it nears its
//! end, because clients may have pinned it; it is no CA, so that both Go and webpki accept it as its own anchor.
//! Called by: [`super::server`]. Source: etcd client/pkg/transport/listener.go (`SelfCert`), which keeps an expired
//! pair for ever; here it is renewed.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::TlsError;
use super::settings::AutoTls;
use crate::edge::clock;

const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A pair is replaced when less than this remains, or a tenth of its life if that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Clock differences between machines must not make a new certificate "not valid yet".
const BACKDATE: Duration = Duration::from_secs(3600);

/// Paths of the pair, made or kept.
#[derive(Clone, Debug)]
pub(crate) struct SelfSigned {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Returns the stored pair if it is good for a while, else makes a new one.
pub(crate) fn ensure(auto: &AutoTls) -> Result<SelfSigned, TlsError> {
    if auto.validity_years == 0 {
        return Err(TlsError::NoValidity);
    }
    let pair =
        SelfSigned { certificate: auto.directory.join("cert.pem"), key: auto.directory.join("key.pem") };
    if pair.certificate.exists() && pair.key.exists() {
        match remaining(&pair.certificate) {
            Some(left) if left > renew_before(auto) => return Ok(pair),
            Some(_) => {
                tracing::warn!(file = %pair.certificate.display(), "self-signed certificate nears its end or has ended; making a new one");
            }
            // Not ours to overwrite: somebody may have put it there, and the loader says what is wrong with it.
            None => return Ok(pair),
        }
    }
    make(auto, &pair)?;
    Ok(pair)
}

/// How long before its end a pair is replaced.
pub(crate) fn renew_before(auto: &AutoTls) -> Duration {
    RENEW_BEFORE.min(YEAR * auto.validity_years / 10)
}

/// Validity left in the first certificate of a file; `None` if it cannot be read.
fn remaining(path: &Path) -> Option<Duration> {
    let certificate = CertificateDer::from_pem_file(path).ok()?;
    let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Some(Duration::from_secs(end).saturating_sub(clock::unix_now()))
}

fn make(auto: &AutoTls, pair: &SelfSigned) -> Result<(), TlsError> {
    let failed = |problem: String| TlsError::SelfSigned { path: auto.directory.clone(), problem };
    fs::create_dir_all(&auto.directory).map_err(|e| failed(e.to_string()))?;
    fs::set_permissions(&auto.directory, Permissions::from_mode(0o700)).map_err(|e| failed(e.to_string()))?;

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The organization etcd writes; certificates are recognised by it in existing tooling.
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = clock::unix_now();
    let date = |at: Duration| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.as_secs());
    params.not_before = date(now.saturating_sub(BACKDATE));
    params.not_after = date(now + YEAR * auto.validity_years);
    params.subject_alt_names = names(&auto.hosts).map_err(|e| failed(e.to_string()))?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(e.to_string()))?;
    let certificate = params.self_signed(&key).map_err(|e| failed(e.to_string()))?;
    // Key first: whoever finds the certificate finds its key. A reader between the two sees a mismatch and keeps what
    // it has until its next look.
    replace(&pair.key, key.serialize_pem().as_bytes(), 0o600).map_err(|e| failed(e.to_string()))?;
    replace(&pair.certificate, certificate.pem().as_bytes(), 0o644).map_err(|e| failed(e.to_string()))?;
    tracing::warn!(
        file = %pair.certificate.display(),
        valid_days = (YEAR * auto.validity_years).as_secs() / DAY.as_secs(),
        "made a self-signed certificate; clients can pin it but cannot know whom they talk to otherwise"
    );
    Ok(())
}

fn names(hosts: &[String]) -> Result<Vec<SanType>, rcgen::Error> {
    let mut wanted: Vec<&str> = vec!["localhost", "127.0.0.1", "::1"];
    wanted.extend(hosts.iter().map(|host| host.trim_start_matches('[').trim_end_matches(']')));
    let mut names: Vec<SanType> = Vec::new();
    for host in wanted {
        let name = match host.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if host.is_empty() => continue,
            Err(_) => SanType::DnsName(host.try_into()?),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Writes beside the target, syncs, renames over it.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let temporary = path.with_extension("pem.tmp");
    // A leftover of a crash may have other permissions, and `mode` applies to new files only.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::tls::PeerIdentity;

    fn auto(directory: &Path, years: u32) -> AutoTls {
        AutoTls {
            directory: directory.join("fixtures/client"),
            hosts: vec!["10.0.0.7".into(), "db.example".into(), "[::1]".into()],
            validity_years: years,
        }
    }

    #[test]
    fn pair_is_private_kept_and_carries_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let auto = auto(dir.path(), 2);
        let pair = ensure(&auto).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&pair.key), mode(&auto.directory)), (0o600, 0o700));
        let first = fs::read(&pair.certificate).unwrap();
        ensure(&auto).unwrap();
        assert_eq!(fs::read(&pair.certificate).unwrap(), first, "a good pair is kept");
        let identity =
            PeerIdentity::parse(&CertificateDer::from_pem_file(&pair.certificate).unwrap()).unwrap();
        assert_eq!(identity.dns_names, ["localhost", "db.example"]);
        assert_eq!(identity.ip_addresses.len(), 3);
        let left = remaining(&pair.certificate).unwrap();
        assert!(left > YEAR && left <= YEAR * 2, "{left:?}");
    }

    #[test]
    fn pair_near_its_end_is_renewed_and_a_foreign_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let auto = auto(dir.path(), 1);
        fs::create_dir_all(&auto.directory).unwrap();
        let ca = crate::edge::testkit::Authority::new("ca");
        let old = ca.expired("old");
        fs::write(auto.directory.join("cert.pem"), old.certificate_pem()).unwrap();
        fs::write(auto.directory.join("key.pem"), old.key_pem()).unwrap();
        let pair = ensure(&auto).unwrap();
        assert!(remaining(&pair.certificate).unwrap() > YEAR / 2);
        fs::write(&pair.certificate, "garbage").unwrap();
        ensure(&auto).unwrap();
        assert_eq!(fs::read(&pair.certificate).unwrap(), b"garbage");
        assert!(ensure(&AutoTls { validity_years: 0, ..auto }).is_err());
    }
}
