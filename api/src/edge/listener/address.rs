//! Listen URLs as etcd writes them.
//!
//! Owns: [`ListenUrl`]. Invariants: a TCP URL holds an IP address, `localhost` or nothing (all addresses) and a port;
//! a Unix URL holds a path. Called by: the configuration reader and [`super::bind`].
//! Source: etcd client/pkg/types/urls.go, server/embed/config.go (`checkBindURLs`, `resolveURL`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::bind::ListenError;

/// How a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// Unix socket without TLS.
    Unix,
    /// Unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// As written before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// A parsed listen URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenUrl {
    scheme: Scheme,
    /// Host as written, for the names of automatic certificates.
    host: String,
    target: Target,
}

impl ListenUrl {
    /// How the port speaks.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host as written, without brackets and port; empty for "all addresses" and Unix sockets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where to listen.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tcp(address) => write!(f, "{}://{address}", self.scheme.name()),
            Target::Unix(path) => write!(f, "{}://{}", self.scheme.name(), path.display()),
        }
    }
}

impl FromStr for ListenUrl {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let bad = |problem: &str| ListenError::BadUrl { url: text.to_owned(), problem: problem.to_owned() };
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| bad("it needs a scheme: http://, https://, unix:// or unixs://"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(bad("the scheme must be http, https, unix or unixs")),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            if rest.is_empty() {
                return Err(bad("it needs the path of a socket"));
            }
            return Ok(ListenUrl { scheme, host: String::new(), target: Target::Unix(PathBuf::from(rest)) });
        }
        let authority = match rest.split_once('/') {
            None | Some((_, "")) => rest.trim_end_matches('/'),
            Some(_) => return Err(bad("a listen URL has no path")),
        };
        let (host, port) =
            authority.rsplit_once(':').ok_or_else(|| bad("it needs a port, as in http://127.0.0.1:2379"))?;
        let port: u16 = port.parse().map_err(|_| bad("the port must be a number up to 65535"))?;
        let host = match host.strip_prefix('[').map(|h| h.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err(bad("an IPv6 address needs both brackets")),
            None if host.contains(':') => return Err(bad("an IPv6 address goes in brackets, as in [::1]")),
            None => host,
        };
        let ip = match host {
            // Go listens on both families for an empty host; the socket is made dual-stack.
            "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().map_err(|_| {
                bad("a listen URL takes an IP address (0.0.0.0 or [::] for all) or localhost, not a name")
            })?,
        };
        Ok(ListenUrl { scheme, host: host.to_owned(), target: Target::Tcp(SocketAddr::new(ip, port)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, shown, host) in [
            ("http://localhost:2379", "http://127.0.0.1:2379", "localhost"),
            ("https://0.0.0.0:2379", "https://0.0.0.0:2379", "0.0.0.0"),
            ("http://[::1]:0/", "http://[::1]:0", "::1"),
            ("http://:2379", "http://[::]:2379", ""),
            ("unix:///run/k.sock", "unix:///run/k.sock", ""),
            ("unixs://localhost:23790", "unixs://localhost:23790", ""),
        ] {
            let url: ListenUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host()), (shown, host), "{text}");
        }
    }

    #[test]
    fn refused_with_a_reason() {
        for (text, reason) in [
            ("localhost:2379", "scheme"),
            ("ftp://1.2.3.4:1", "http, https"),
            ("http://1.2.3.4", "port"),
            ("http://1.2.3.4:99999", "65535"),
            ("http://db.example:2379", "not a name"),
            ("http://1.2.3.4:1/v3", "no path"),
            ("http://::1:80", "brackets"),
            ("http://[::1:80", "both brackets"),
            ("unix://", "path"),
        ] {
            let error = text.parse::<ListenUrl>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{text}: {error}");
        }
    }
}
