//! Who is at the other end of a connection, parsed once from its certificate.
//!
//! Owns: [`PeerIdentity`]. Invariants: made only from a certificate the handshake has verified; immutable; shared by
//! all requests of a connection as an `Arc` request extension. Called by: [`crate::edge::listener`] after the
//! handshake; read by etcd's certificate authentication (common name) and by the Kubernetes port (name and groups).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Names in a verified peer certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Subject common name; with several, the last one, as in Go. Empty when absent.
    pub common_name: String,
    /// Subject organizations, in order: the groups of a Kubernetes user.
    pub organizations: Vec<String>,
    /// DNS subject alternative names.
    pub dns_names: Vec<String>,
    /// Address subject alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// URI subject alternative names (SPIFFE identities, for one).
    pub uris: Vec<String>,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// End of validity as seconds since the Unix epoch.
    pub not_after_unix_s: i64,
}

impl PeerIdentity {
    /// Parses a certificate; `None` if it is not one.
    #[must_use]
    pub fn parse(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
        let mut identity = PeerIdentity {
            common_name: common_name(parsed.subject()),
            organizations: texts(parsed.subject().iter_organization()),
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after_unix_s: parsed.validity().not_after.timestamp(),
            ..PeerIdentity::default()
        };
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(dns) => identity.dns_names.push((*dns).to_owned()),
                    GeneralName::URI(uri) => identity.uris.push((*uri).to_owned()),
                    GeneralName::IPAddress(bytes) => identity.ip_addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        Some(identity)
    }
}

fn common_name(subject: &X509Name<'_>) -> String {
    texts(subject.iter_common_name()).pop().unwrap_or_default()
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(four)));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::V6(Ipv6Addr::from(sixteen)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::testkit::Authority;

    #[test]
    fn names_are_read_and_garbage_is_none() {
        let leaf = Authority::new("ca").server("node-1", &["localhost", "*.example.org", "127.0.0.1", "::1"]);
        let identity = PeerIdentity::parse(leaf.certificate()).unwrap();
        assert_eq!(identity.common_name, "node-1");
        assert_eq!(identity.dns_names, ["localhost", "*.example.org"]);
        assert_eq!(identity.ip_addresses, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(identity.not_after_unix_s > 0 && !identity.serial.is_empty());
        let der = leaf.certificate().as_ref();
        for length in 0..der.len() {
            assert_eq!(PeerIdentity::parse(&CertificateDer::from(&der[..length])), None);
        }
    }
}
