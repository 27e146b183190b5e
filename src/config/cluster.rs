//! The first members of a cluster: reads `--initial-cluster` and checks that this member stands in it.
//!
//! Invariants: after `check_bootstrap` this member's name maps to the addresses it advertises, and no address is
//! given twice. Called by: `resolve` for the parse; `server` for the check, at a first start only: etcd ignores the
//! setting once a member has data. Source: etcd server/config/config.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use super::effective::EffectiveConfig;
use super::error::ConfigError;
use super::url::{self, Url};

/// Reads `name=url,name=url,…`; a name may stand several times, once per address.
///
/// # Errors
/// `InvalidValue` for an address that is none.
pub(super) fn parse_members(text: &str) -> Result<Vec<(String, Vec<Url>)>, ConfigError> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, address) = pair.split_once('=').ok_or_else(|| {
            ConfigError::contradiction(
                format!("--initial-cluster: {pair:?} is not name=address"),
                "write name=http://address:2380 for each member, separated by commas",
            )
        })?;
        let url = Url::parse(address).map_err(|expected| {
            ConfigError::contradiction(
                format!("--initial-cluster: the address {address:?} of {name} is not {expected}"),
                format!("give {expected}"),
            )
        })?;
        members.entry(name.trim().to_owned()).or_default().push(url);
    }
    Ok(members
        .into_iter()
        .map(|(name, mut urls)| {
            urls.sort();
            (name, urls)
        })
        .collect())
}

/// The address under which other machines most likely reach this one, as etcd guesses it where it listens on all
/// interfaces and nothing else is said.
pub(super) fn default_host() -> Option<String> {
    // Connecting a datagram socket sends nothing; it only asks the routing table. The address is one for documentation.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then(|| address.to_string())
}

impl EffectiveConfig {
    /// Checks what matters at a first start: this member is among the first ones, under the addresses it advertises.
    ///
    /// # Errors
    /// Names both settings and the difference.
    pub fn check_bootstrap(&self) -> Result<(), ConfigError> {
        self.check_bootstrap_with(resolve)
    }

    fn check_bootstrap_with(&self, resolve: impl Fn(&Url) -> Vec<SocketAddr>) -> Result<(), ConfigError> {
        let cluster = &self.cluster;
        let name = &self.member.name;
        let mut seen = BTreeSet::new();
        for url in cluster.initial_members.iter().flat_map(|(_, urls)| urls) {
            if !seen.insert(url.to_string()) {
                return Err(ConfigError::contradiction(
                    format!("--initial-cluster gives the address {url} twice"),
                    "give each member addresses of its own",
                ));
            }
        }
        let Some((_, initial)) = cluster.initial_members.iter().find(|(member, _)| member == name) else {
            let names: Vec<&str> =
                cluster.initial_members.iter().map(|(member, _)| member.as_str()).collect();
            return Err(ConfigError::contradiction(
                format!(
                    "--initial-cluster has no member {name:?}, the --name of this one; it has {}",
                    names.join(", ")
                ),
                format!(
                    "add {name}={} to --initial-cluster, or set --name",
                    url::join(&cluster.advertise_peer_urls)
                ),
            ));
        };
        // A member that joins was announced before; the cluster knows its addresses.
        if cluster.join_existing || same_addresses(initial, &cluster.advertise_peer_urls, resolve) {
            return Ok(());
        }
        Err(ConfigError::contradiction(
            format!(
                "--initial-cluster gives {name} the addresses {}, --initial-advertise-peer-urls gives {}",
                url::join(initial),
                url::join(&cluster.advertise_peer_urls)
            ),
            "make both the same",
        ))
    }
}

/// Equal as texts, or, with the same schemes, after the system's resolver.
fn same_addresses(left: &[Url], right: &[Url], resolve: impl Fn(&Url) -> Vec<SocketAddr>) -> bool {
    if left == right {
        return true;
    }
    let resolved = |urls: &[Url]| -> Option<BTreeSet<(bool, SocketAddr)>> {
        let mut all = BTreeSet::new();
        for url in urls {
            // A host may have several addresses; etcd compares the first.
            all.insert((url.is_secure(), *resolve(url).first()?));
        }
        Some(all)
    };
    left.len() == right.len()
        && resolved(left).is_some_and(|left| resolved(right).is_some_and(|right| left == right))
}

fn resolve(url: &Url) -> Vec<SocketAddr> {
    url.authority()
        .and_then(|authority| authority.to_socket_addrs().ok())
        .map(Iterator::collect)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn members_are_read_in_any_order() {
        let members = parse_members("b=http://b:1,a=http://a:2,a=http://a:1").unwrap();
        let shown: Vec<String> =
            members.iter().map(|(name, urls)| format!("{name} {}", url::join(urls))).collect();
        assert_eq!(shown, ["a http://a:1,http://a:2", "b http://b:1"]);
        assert!(parse_members("").unwrap().is_empty());
        assert!(parse_members("http://a:1").unwrap_err().to_string().contains("not name=address"));
        assert!(parse_members("a=a:1").unwrap_err().remedy().contains("http://a:1"));
    }

    #[test]
    fn this_member_must_be_among_the_first() {
        let resolve = |url: &Url| match url.host() {
            "localhost" | "127.0.0.1" => vec![SocketAddr::from(([127, 0, 0, 1], url.port()))],
            _ => Vec::new(),
        };
        let check = |arguments: &[&str], problem: Option<&str>| {
            let result = config(arguments).unwrap().check_bootstrap_with(resolve);
            match (result, problem) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (result, _) => panic!("{arguments:?}: {result:?}"),
            }
        };
        check(&[], None);
        check(&["--name=a"], None);
        check(&["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380"], None);
        check(&["--name=a", "--initial-cluster=b=http://localhost:2380"], Some("has no member \"a\""));
        check(&["--name=a", "--initial-cluster=a=http://127.0.0.1:2380"], None);
        check(&["--name=a", "--initial-cluster=a=https://127.0.0.1:2380"], Some("gives a the addresses"));
        check(&["--name=a", "--initial-cluster=a=http://10.0.0.1:2380"], Some("gives a the addresses"));
        check(
            &["--name=a", "--initial-cluster=a=http://localhost:2380,b=http://localhost:2380"],
            Some("http://localhost:2380 twice"),
        );
        check(
            &["--name=a", "--initial-cluster=a=http://10.0.0.1:2380", "--initial-cluster-state=existing"],
            None,
        );
    }
}
