//! What is wrong with a certificate, in words and with its dates.

use std::fmt::Write as _;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use crate::net::endpoint::Place;
use crate::net::settings::Settings;

/// A few words for the first line.
pub(super) fn headline(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet by this machine's clock".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "the server's certificate is signed by an unknown authority".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name".to_owned()
            }
            CertificateError::Revoked => "the server's certificate has been revoked".to_owned(),
            other => format!("the server's certificate is refused ({other:?})"),
        },
        Error::AlertReceived(alert) if is_about_client(*alert) => {
            "the server wants another certificate of this client".to_owned()
        }
        other => format!("TLS failed ({other})"),
    }
}

/// What was seen.
pub(super) fn seen(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            format!("it was valid until {}; this machine's clock says {}", date(*not_after), date(*time))
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            format!("it is valid from {} on; this machine's clock says {}", date(*not_before), date(*time))
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let mut names = String::new();
            for name in presented {
                write!(names, "{}{}", if names.is_empty() { "" } else { ", " }, plain(name))
                    .expect("writing to a text never fails");
            }
            format!(
                "asked for {}, the certificate is for {}",
                expected.to_str(),
                if names.is_empty() { "no name at all" } else { &names }
            )
        }
        Error::AlertReceived(alert) => format!("the server broke TLS off with {alert:?}"),
        other => other.to_string(),
    }
}

/// What to do.
pub(super) fn remedy(settings: &Settings, place: &Place, error: &Error) -> String {
    let show = |target: &str| format!("openssl s_client -connect {target} -showcerts");
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate; if the date here is wrong, set this machine's clock".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "set this machine's clock (timedatectl, chronyc tracking), or that of the machine that made the certificate".to_owned()
            }
            CertificateError::UnknownIssuer => match &settings.ca {
                Some(ca) => format!(
                    "give the authority that signed it: {} did not; {} shows who did",
                    ca.display(),
                    show(place.target())
                ),
                None => format!(
                    "give its authority with --cacert: this machine's own list does not have it; {} shows who signed",
                    show(place.target())
                ),
            },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "use one of these names in --endpoints, or give the server a certificate for this one".to_owned()
            }
            _ => format!("look at the certificate: {}", show(place.target())),
        },
        Error::AlertReceived(alert) if is_about_client(*alert) => match (&settings.cert, &settings.key) {
            (Some(cert), _) => format!(
                "give a certificate that the server's --trusted-ca-file signed and that has not expired: {} is refused",
                cert.display()
            ),
            _ => "give --cert and --key: the server asks every client for a certificate".to_owned(),
        },
        _ => format!("compare what both sides allow: {}", show(place.target())),
    }
}

fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
    )
}

/// rustls writes names as its own values: `DnsName("a")`, `IpAddress(10.0.0.1)`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn date(time: UnixTime) -> String {
    stamp(time.as_secs())
}

/// `2026-01-31 12:00:00 UTC`. Source: Howard Hinnant's days-to-civil algorithm.
fn stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_out() {
        assert_eq!(stamp(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(stamp(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(stamp(1_609_459_199), "2020-12-31 23:59:59 UTC");
    }

    #[test]
    fn names_lose_their_wrapping() {
        assert_eq!(plain("DnsName(\"other.example\")"), "other.example");
        assert_eq!(plain("IpAddress(10.0.0.1)"), "10.0.0.1");
    }
}
