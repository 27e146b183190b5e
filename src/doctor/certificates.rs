//! The files of TLS: whether they can be read, until when they are valid, who else can read the keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::pem::Pem;

use super::Finding;
use crate::config::EffectiveConfig;
use crate::config::effective::Tls;

const DAY: i64 = 86_400;
/// Enough to renew without a hurry.
const DAYS_GOOD: i64 = 30;

pub(super) fn examine(config: &EffectiveConfig) -> Vec<Finding> {
    let now = now();
    [("clients", &config.client_tls), ("members", &config.peer_tls)]
        .into_iter()
        .flat_map(|(side, tls)| files(side, tls, now))
        .collect()
}

fn files(side: &str, tls: &Tls, now: i64) -> Vec<Finding> {
    let certificates = [&tls.cert_file, &tls.client_cert_file, &tls.trusted_ca_file];
    let keys = [&tls.key_file, &tls.client_key_file];
    let certificates = certificates.into_iter().flatten().map(|path| certificate(side, path, now));
    certificates.chain(keys.into_iter().flatten().map(|path| key(side, path))).collect()
}

#[allow(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| i64::try_from(passed.as_secs()).unwrap_or(i64::MAX))
}

fn certificate(side: &str, path: &Path, now: i64) -> Finding {
    let check = format!("certificate {} towards {side}", path.display());
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Finding::failure(
                check,
                error.to_string(),
                "correct the path, or let the store's user read it",
            );
        }
    };
    let mut validity: Option<(i64, i64)> = None;
    for pem in Pem::iter_from_buffer(&bytes).flatten() {
        let Ok(parsed) = pem.parse_x509() else { continue };
        let (from, until) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let (earliest, latest) = validity.unwrap_or((from, until));
        validity = Some((earliest.max(from), latest.min(until)));
    }
    match validity {
        None => {
            Finding::failure(check, "no certificate in it", "it has to be PEM: -----BEGIN CERTIFICATE-----")
        }
        Some((from, _)) if now < from => Finding::failure(
            check,
            format!("not valid for another {} days", (from - now) / DAY + 1),
            "set this machine's clock, or that of the machine that made the certificate",
        ),
        Some((_, until)) if until <= now => Finding::failure(
            check,
            format!("expired {} days ago", (now - until) / DAY),
            "renew it: the store reads the new file without a restart",
        ),
        Some((_, until)) if until - now < DAYS_GOOD * DAY => Finding::warning(
            check,
            format!("valid for {} more days", (until - now) / DAY),
            "renew it: the store reads the new file without a restart",
        ),
        Some((_, until)) => Finding::ok(check, format!("valid for {} more days", (until - now) / DAY)),
    }
}

fn key(side: &str, path: &Path) -> Finding {
    let check = format!("key {} towards {side}", path.display());
    match fs::metadata(path) {
        Err(error) => {
            Finding::failure(check, error.to_string(), "correct the path, or let the store's user read it")
        }
        Ok(found) if found.permissions().mode() & 0o007 != 0 => {
            Finding::warning(check, "everybody can read it", format!("chmod o-rwx {}", path.display()))
        }
        Ok(_) => Finding::ok(check, "not for everybody"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn files_that_are_none_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        assert_eq!(certificate("clients", &path, 0).level, Level::Failure);
        fs::write(&path, "nothing").unwrap();
        assert!(certificate("clients", &path, 0).seen.contains("no certificate"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(key("clients", &path).level, Level::Warning);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(key("clients", &path).level, Level::Ok);
    }
}
