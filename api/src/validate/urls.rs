//! Peer URLs of a new member.
//!
//! Owns: the rules for one URL and the normal order of several. Called by: the cluster service, the binary.
//! Source: etcd `client/pkg/types/urls.go`.

use crate::errors::{self, WireError};

/// Checks a list of peer URLs and gives it back trimmed and sorted.
pub fn peer_urls(urls: &[String]) -> Result<Vec<String>, WireError> {
    if urls.is_empty() {
        return Err(errors::MEMBER_BAD_URLS);
    }
    let mut checked = Vec::with_capacity(urls.len());
    for url in urls {
        let url = url.trim();
        if !is_valid(url) {
            return Err(errors::MEMBER_BAD_URLS);
        }
        checked.push(url.to_owned());
    }
    checked.sort();
    Ok(checked)
}

fn is_valid(url: &str) -> bool {
    if url.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return false;
    }
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => is_host_and_port(rest),
        "unix" | "unixs" => true,
        _ => false,
    }
}

/// `host:port` with nothing after it; a literal IPv6 address stands in brackets.
fn is_host_and_port(rest: &str) -> bool {
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    if tail.starts_with('/') {
        return false;
    }
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host_port)| host_port);
    let port = if let Some(bracketed) = host_port.strip_prefix('[') {
        let Some((address, after)) = bracketed.split_once(']') else { return false };
        if address.is_empty() {
            return false;
        }
        after.strip_prefix(':')
    } else {
        match host_port.split_once(':') {
            Some((_, port)) if port.contains(':') => None,
            Some((_, port)) => Some(port),
            None => None,
        }
    };
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_judged_one_by_one() {
        let table = [
            ("http://127.0.0.1:2380", true),
            ("https://node-1.example:2380", true),
            (" http://trimmed:1 ", true),
            ("http://[::1]:2380", true),
            ("unix://localhost:1000", true),
            ("unixs:///tmp/x.sock", true),
            ("http://nothing", false),
            ("http://path:1/", false),
            ("http://path:1/x", false),
            ("http://::1:2380", false),
            ("http://port:abc", false),
            ("ftp://host:21", false),
            ("127.0.0.1:2380", false),
            ("http://a b:1", false),
            ("", false),
        ];
        for (url, valid) in table {
            assert_eq!(peer_urls(&[url.to_owned()]).is_ok(), valid, "{url:?}");
        }
        assert_eq!(peer_urls(&[]), Err(errors::MEMBER_BAD_URLS));
    }

    #[test]
    fn the_list_comes_back_sorted() {
        let urls = ["http://b:1".to_owned(), " http://a:1".to_owned()];
        assert_eq!(peer_urls(&urls).unwrap(), ["http://a:1", "http://b:1"]);
    }
}
