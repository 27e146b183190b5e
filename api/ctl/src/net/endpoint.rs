//! How endpoints are spelled: `host:port`, `http://`, `https://`, `unix://path`, `unixs://path`.
//!
//! Source: etcd client/v3/internal/endpoint/endpoint.go.

use super::settings::Settings;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As given.
    pub(crate) given: String,
    /// What to connect to.
    pub(crate) address: Address,
    /// The name its certificate must have.
    pub(crate) server_name: String,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host and port.
    Tcp(String),
    /// A socket file.
    Unix(String),
}

impl Place {
    pub(crate) fn parse(given: &str, settings: &Settings) -> Self {
        let given = given.trim();
        let place = |address, server_name: &str, tls| Self {
            given: given.to_owned(),
            address,
            server_name: server_name.to_owned(),
            tls,
        };
        let (scheme, rest) = match given.split_once("://") {
            Some(parts) => parts,
            None => match given.split_once(':') {
                Some((scheme @ ("unix" | "unixs"), rest)) => (scheme, rest),
                _ => ("", given),
            },
        };
        if let "unix" | "unixs" = scheme {
            let name = rest.rsplit('/').next().unwrap_or(rest);
            let tls = scheme == "unixs" || settings.tls_by_default();
            return place(Address::Unix(rest.to_owned()), name, tls);
        }
        let authority = rest.split('/').next().unwrap_or(rest);
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => settings.tls_by_default(),
        };
        place(Address::Tcp(authority.to_owned()), host(authority), tls)
    }

    /// Host and port, or the path.
    pub(crate) fn target(&self) -> &str {
        match &self.address {
            Address::Tcp(target) | Address::Unix(target) => target,
        }
    }

    /// The same place spoken to the other way.
    pub(crate) fn toggled(&self) -> Self {
        Self { tls: !self.tls, ..self.clone() }
    }

    /// The endpoint with the scheme it is spoken to with.
    pub(crate) fn url(&self) -> String {
        match (&self.address, self.tls) {
            (Address::Tcp(target), true) => format!("https://{target}"),
            (Address::Tcp(target), false) => format!("http://{target}"),
            (Address::Unix(target), true) => format!("unixs://{target}"),
            (Address::Unix(target), false) => format!("unix://{target}"),
        }
    }
}

/// The host of `host:port` or `[address]:port`.
fn host(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcdctl_reads_them() {
        let read = |text: &str| {
            let place = Place::parse(text, &Settings::default());
            (place.target().to_owned(), place.server_name, place.tls)
        };
        let tcp = |target: &str, name: &str, tls| (target.to_owned(), name.to_owned(), tls);
        assert_eq!(read("10.0.0.1:2379"), tcp("10.0.0.1:2379", "10.0.0.1", false));
        assert_eq!(read("https://a.example:2379/"), tcp("a.example:2379", "a.example", true));
        assert_eq!(read("http://[::1]:2379"), tcp("[::1]:2379", "::1", false));
        assert_eq!(read("unix:///run/s.sock"), tcp("/run/s.sock", "s.sock", false));
        assert_eq!(read("unixs:s.sock"), tcp("s.sock", "s.sock", true));
    }

    #[test]
    fn a_scheme_wins_over_flags() {
        let settings = Settings { insecure_transport: false, ..Settings::default() };
        assert!(Place::parse("a:1", &settings).tls);
        assert!(!Place::parse("http://a:1", &settings).tls);
    }
}
