//! What an operator should do about a failed TLS handshake.
//!
//! Owns: the table from rustls' errors to a sentence. Called by: the listener's log line and the connector's error.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client connected to us.
    Accepting,
    /// We connect to a server.
    Connecting,
}

/// Advice for a handshake that ended with `error`.
pub(crate) fn for_handshake(error: &io::Error, side: Side) -> &'static str {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match (error.kind(), side) {
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset, Side::Accepting) => {
                "the client hung up during the handshake; often it does not trust this server's certificate or demands a name that is not in it"
            }
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset, Side::Connecting) => {
                "the server hung up during the handshake; it may speak plain HTTP or demand a client certificate it trusts"
            }
            _ => "check the network between the two",
        };
    };
    match tls {
        Error::NoCertificatesPresented => {
            "the client sent no certificate but this port demands one; give it --cert and --key issued by the trusted CA"
        }
        Error::InvalidCertificate(problem) => for_certificate(problem, side),
        Error::AlertReceived(alert) => for_alert(*alert, side),
        Error::InvalidMessage(_) => match side {
            Side::Accepting => "the client does not speak TLS properly; check that it means this port",
            Side::Connecting => {
                "the server does not answer in TLS; its URL probably has to be http instead of https"
            }
        },
        Error::PeerIncompatible(_) => {
            "no TLS version or cipher suite in common; compare --tls-min-version, --tls-max-version and --cipher-suites"
        }
        _ => "check certificates and TLS settings of both sides",
    }
}

fn for_certificate(problem: &CertificateError, side: Side) -> &'static str {
    use CertificateError as C;
    match (problem, side) {
        (C::Expired | C::ExpiredContext { .. }, _) => {
            "the certificate of the other side has expired; renew it (or correct the clock)"
        }
        (C::NotValidYet | C::NotValidYetContext { .. }, _) => {
            "the certificate of the other side is not valid yet; correct the clocks of both machines"
        }
        (C::UnknownIssuer, Side::Accepting) => {
            "the client's certificate was issued by a CA that is not in --trusted-ca-file; add the CA or issue the certificate anew"
        }
        (C::UnknownIssuer, Side::Connecting) => {
            "the server's certificate was issued by a CA that is not in the trusted CA file; add that CA"
        }
        (C::Revoked, _) => "the certificate of the other side is on the revocation list; issue a new one",
        (C::NotValidForName | C::NotValidForNameContext { .. }, _) => {
            "the certificate does not carry the name or address that was dialled; add it as a subject alternative name"
        }
        (C::InvalidPurpose | C::InvalidPurposeContext { .. }, Side::Accepting) => {
            "the client's certificate is not for clients; issue it with extended key usage clientAuth (members need serverAuth and clientAuth)"
        }
        (C::InvalidPurpose | C::InvalidPurposeContext { .. }, Side::Connecting) => {
            "the server's certificate is not for servers; issue it with extended key usage serverAuth"
        }
        (C::Other(_), _) => {
            "the certificate's name is not allowed here; see --client-cert-allowed-hostname, --peer-cert-allowed-cn and --peer-cert-allowed-hostname"
        }
        _ => "the certificate of the other side is not acceptable; issue it anew",
    }
}

fn for_alert(alert: AlertDescription, side: Side) -> &'static str {
    use AlertDescription as A;
    match (alert, side) {
        (A::UnknownCA | A::BadCertificate | A::CertificateUnknown, Side::Accepting) => {
            "the client does not trust this server's certificate; give it the CA (--cacert) or a certificate with the name it dials"
        }
        (A::UnknownCA, Side::Connecting) => {
            "the server does not trust our certificate's CA; add it to its trusted CA file"
        }
        (A::CertificateExpired, _) => {
            "the other side says our certificate has expired; replace it (or correct its clock)"
        }
        (A::CertificateRevoked, _) => "the other side says our certificate is revoked; replace it",
        (A::CertificateRequired | A::BadCertificate | A::CertificateUnknown, Side::Connecting) => {
            "the server demands another client certificate; check --peer-cert-file or --peer-client-cert-file and the names it allows"
        }
        (A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity, _) => {
            "no TLS version or cipher suite in common; compare --tls-min-version, --tls-max-version and --cipher-suites"
        }
        _ => "the other side refused the handshake; its log says why",
    }
}
