//! An address as settings give it: `http://10.0.0.1:2379`, `https://…`, `unix:///run/keelson.sock`.
//!
//! Invariants: a parsed `Url` has one of four schemes; http and https ones have host and port and no path.
//! Called by: `value`, `cluster`, `checks`. Source: etcd client/pkg/types, urls.go.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

pub use keelson_api::edge::listener::Scheme;

/// One address. Ordering is that of the text, as in etcd, so that lists compare equal however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Host without brackets; empty for sockets.
    host: String,
    /// 0 for sockets.
    port: u16,
    /// Path of the socket; empty for TCP.
    path: String,
}

impl Url {
    /// Reads one address.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what it should look like.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let scheme = [Scheme::Https, Scheme::Http, Scheme::Unixs, Scheme::Unix]
            .into_iter()
            .find(|scheme| text.strip_prefix(scheme.name()).is_some_and(|rest| rest.starts_with(':')))
            .ok_or_else(|| match text.split_once("://") {
                Some((other, _)) => {
                    format!("an address with the scheme http, https, unix or unixs (not {other:?})")
                }
                None => format!(
                    "an address with a scheme, such as http://{}",
                    if text.is_empty() { "10.0.0.1:2379" } else { text }
                ),
            })?;
        let rest = &text[scheme.name().len() + 1..];
        match scheme {
            Scheme::Unix | Scheme::Unixs => {
                // etcd takes both unix:///absolute/path and unix://name:port, the latter as a file in the working folder.
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(format!(
                        "an address with a path, such as {}:///run/keelson.sock",
                        scheme.name()
                    ));
                }
                Ok(Url { scheme, host: String::new(), port: 0, path: path.to_owned() })
            }
            Scheme::Http | Scheme::Https => {
                let authority = rest.strip_prefix("//").unwrap_or("");
                if let Some(slash) = authority.find(['/', '?', '#']) {
                    return Err(format!(
                        "an address without a path, such as {}://{}",
                        scheme.name(),
                        &authority[..slash]
                    ));
                }
                let form = || format!("an address of the form {}://host:port", scheme.name());
                let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
                let host = match host.strip_prefix('[') {
                    Some(inner) => inner.strip_suffix(']').ok_or_else(form)?,
                    None if host.contains(':') => {
                        return Err(format!(
                            "an address with the IPv6 host in brackets: {}://[{host}]:{port}",
                            scheme.name()
                        ));
                    }
                    None => host,
                };
                let port = port.parse().map_err(|_| form())?;
                Ok(Url { scheme, host: host.to_owned(), port, path: String::new() })
            }
        }
    }

    /// How to talk to it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without brackets; empty for a Unix socket and for "all interfaces".
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a Unix socket, or to let the system choose.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a Unix socket.
    pub fn socket_path(&self) -> Option<PathBuf> {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs).then(|| PathBuf::from(&self.path))
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        self.scheme.is_secure()
    }

    /// `host:port` with brackets where needed, for the system's resolver; `None` for a Unix socket.
    pub fn authority(&self) -> Option<String> {
        match self.scheme {
            Scheme::Unix | Scheme::Unixs => None,
            _ if self.host.contains(':') => Some(format!("[{}]:{}", self.host, self.port)),
            _ => Some(format!("{}:{}", self.host, self.port)),
        }
    }

    /// The same address with another host.
    pub fn with_host(&self, host: &str) -> Url {
        Url { host: host.to_owned(), ..self.clone() }
    }

    /// The same address with another port.
    pub fn with_port(&self, port: u16) -> Url {
        Url { port, ..self.clone() }
    }

    /// Whether a listener can be bound to it: an IP address, `localhost`, or a socket path.
    pub fn can_bind(&self) -> bool {
        self.socket_path().is_some() || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.authority() {
            Some(authority) => write!(f, "{}://{authority}", self.scheme.name()),
            None => write!(f, "{}://{}", self.scheme.name(), self.path),
        }
    }
}

impl PartialOrd for Url {
    fn partial_cmp(&self, other: &Url) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Url {
    fn cmp(&self, other: &Url) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

/// Reads a comma separated list, sorted and without repetitions, as etcd keeps it.
///
/// # Errors
/// As `Url::parse`, for the first wrong element.
pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

/// The list as a setting's text.
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_writes_them_back() {
        let check = |text: &str, expected: Result<&str, &str>| match (Url::parse(text), expected) {
            (Ok(url), Ok(shown)) => assert_eq!(url.to_string(), shown, "{text}"),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{text}: {problem}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("http://localhost:2379", Ok("http://localhost:2379"));
        check(" https://10.0.0.1:2380 ", Ok("https://10.0.0.1:2380"));
        check("http://[::1]:2379", Ok("http://[::1]:2379"));
        check("http://:2379", Ok("http://:2379"));
        check("unix:///run/k.sock", Ok("unix:///run/k.sock"));
        check("unix:/run/k.sock", Ok("unix:///run/k.sock"));
        check("unix://localhost:m0", Ok("unix://localhost:m0"));
        check("localhost:2379", Err("http://localhost:2379"));
        check("", Err("with a scheme"));
        check("tcp://a:1", Err("not \"tcp\""));
        check("http://a", Err("http://host:port"));
        check("http://a:b", Err("http://host:port"));
        check("http://a:1/x", Err("without a path, such as http://a:1"));
        check("http://::1:2379", Err("[::1]:2379"));
        check("unix://", Err("with a path"));
    }

    #[test]
    fn lists_are_sorted_and_unique() {
        let urls = parse_list("http://b:1,http://a:1,http://b:1").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:1");
        assert!(parse_list("http://a:1,").is_err());
        assert!(parse_list("").unwrap().is_empty());
    }

    #[test]
    fn binding_needs_an_address_of_this_machine() {
        let check =
            |text: &str, expected: bool| assert_eq!(Url::parse(text).unwrap().can_bind(), expected, "{text}");
        check("http://localhost:1", true);
        check("http://0.0.0.0:1", true);
        check("http://[::]:1", true);
        check("unix:///x", true);
        check("http://example.com:1", false);
        check("http://:1", false);
    }
}
