//! What is wrong with the way to a server, in words.

use std::io::ErrorKind;

use super::certificate;
use super::probe::Seen;
use crate::go;
use crate::net::connector::ConnectError;
use crate::net::endpoint::{Address, Place};
use crate::net::settings::Settings;

/// What was tried.
pub(super) fn tried(settings: &Settings, place: &Place) -> String {
    let how = match (place.tls, settings.skip_verify, &settings.ca) {
        (false, ..) => "without TLS".to_owned(),
        (true, true, _) => "with TLS, certificate not checked".to_owned(),
        (true, false, Some(ca)) => format!("with TLS, certificate checked against {}", ca.display()),
        (true, false, None) => "with TLS, certificate checked against this machine's authorities".to_owned(),
    };
    let shown = match &settings.cert {
        Some(cert) if place.tls => format!(", showing {}", cert.display()),
        _ => String::new(),
    };
    format!("{} ({how}{shown}, {} to connect)", place.url(), go::duration(settings.dial_timeout))
}

/// A few words for the first line.
pub(super) fn headline(seen: &Seen) -> String {
    match seen {
        Seen::Serves => "it answers now".to_owned(),
        Seen::Connect(ConnectError::Lookup { host, .. }) => {
            format!("the name {} is not known", name_of(host))
        }
        Seen::Connect(ConnectError::Connect { source, .. }) => match source.kind() {
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::NotFound => "there is no such socket file".to_owned(),
            _ => source.to_string(),
        },
        Seen::Connect(ConnectError::Silent { .. }) => "nobody answers at the address".to_owned(),
        Seen::Connect(ConnectError::Tls { .. }) => "the server breaks TLS off".to_owned(),
        Seen::Tls(error) => certificate::headline(error),
        Seen::OwnFiles(text) => text.clone(),
        Seen::IsPlain => "the server does not speak TLS on this port".to_owned(),
        Seen::WantsTls => "the server wants TLS on this port".to_owned(),
        Seen::OtherProtocol(_) => "no gRPC server listens on this port".to_owned(),
        Seen::Closed(_) => "the server closes the connection at once".to_owned(),
        Seen::Mute(_) => "the server takes the connection and says nothing".to_owned(),
    }
}

/// What was seen.
pub(super) fn seen(place: &Place, seen: &Seen) -> String {
    match seen {
        Seen::Serves => "it answers now".to_owned(),
        Seen::Connect(error) => chain(error),
        Seen::Tls(error) => certificate::seen(error),
        Seen::OwnFiles(text) => text.clone(),
        Seen::IsPlain => format!("{} answers in plain HTTP, not in TLS", place.target()),
        Seen::WantsTls => format!("{} answers in TLS, not in plain HTTP", place.target()),
        Seen::OtherProtocol(line) => format!("{} answered {line:?}, which is no HTTP/2", place.target()),
        Seen::Closed(error) => format!("{} took the connection and ended it: {error}", place.target()),
        Seen::Mute(wait) => {
            format!("a connection to {}, then nothing for {}", place.target(), go::duration(*wait))
        }
    }
}

/// What to do.
pub(super) fn remedy(settings: &Settings, place: &Place, seen: &Seen) -> String {
    match seen {
        Seen::Serves => "try again".to_owned(),
        Seen::Connect(ConnectError::Lookup { host, .. }) => {
            let name = name_of(host);
            format!("check the spelling in --endpoints, and the name servers: getent hosts {name}")
        }
        Seen::Connect(ConnectError::Connect { source, .. }) => match (source.kind(), &place.address) {
            (ErrorKind::ConnectionRefused, Address::Tcp(_)) => format!(
                "start the server, or give the address it listens on: nothing listens on {} (the server's --listen-client-urls say where)",
                place.target()
            ),
            (_, Address::Unix(path)) => format!("check the path {path}, and that the server listens there"),
            _ => "check the address, the route to it and the firewall".to_owned(),
        },
        Seen::Connect(ConnectError::Silent { .. }) => format!(
            "check the address, the route to it and any firewall, which may drop packets in silence; for a slow network raise --dial-timeout ({})",
            go::duration(settings.dial_timeout)
        ),
        Seen::Connect(ConnectError::Tls { .. }) => {
            "look at the server's log for what it did not like".to_owned()
        }
        Seen::Tls(error) => certificate::remedy(settings, place, error),
        Seen::OwnFiles(_) => "check --cacert, --cert and --key".to_owned(),
        Seen::IsPlain => {
            format!("write {} in --endpoints, or give the server a certificate", place.toggled().url())
        }
        Seen::WantsTls => match settings.ca {
            Some(_) => format!("write {} in --endpoints", place.toggled().url()),
            None => format!(
                "write {} in --endpoints, with --cacert for the server's authority",
                place.toggled().url()
            ),
        },
        Seen::OtherProtocol(_) => {
            "check the port: clients have one of their own (2379 as a rule), apart from peers and metrics"
                .to_owned()
        }
        Seen::Closed(_) => {
            "look at the server's log; a proxy or a limit on connections between may do this too".to_owned()
        }
        Seen::Mute(_) => {
            "look whether the server's process is stopped or swapped out, or something else listens there"
                .to_owned()
        }
    }
}

fn name_of(target: &str) -> &str {
    target.rsplit_once(':').map_or(target, |(host, _)| host)
}

fn chain(error: &ConnectError) -> String {
    super::chain(error)
}
