//! Does a peer come from an address its certificate names?
//!
//! Owns: the check etcd makes on its peer port unless `--peer-skip-client-san-verification` is set. Invariants: a
//! certificate without addresses and names passes (its chain has been verified); an address in the certificate is
//! compared first and costs nothing; only then names are resolved, bounded in time by the caller.
//! Called by: [`crate::edge::listener`] after the handshake of a peer connection.
//! Source: etcd client/pkg/transport/listener_tls.go (`checkCertSAN`).

use std::ffi::CStr;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use super::identity::PeerIdentity;

/// Name resolution, as the check needs it.
pub trait Resolver: Send + Sync {
    /// Addresses of a name.
    fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>>;
    /// Names of an address.
    fn names(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>>;
}

/// The peer comes from elsewhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "peer certificate of {common_name:?} names {names:?}, none of which is {remote}; issue it for that address or set \
     --peer-skip-client-san-verification"
)]
pub struct SanMismatch {
    /// Subject common name.
    pub common_name: String,
    /// Alternative names of the certificate.
    pub names: Vec<String>,
    /// Where the connection comes from.
    pub remote: IpAddr,
}

/// Checks a verified peer against the address it connects from.
///
/// # Errors
/// [`SanMismatch`] when the certificate names hosts and none of them is `remote`.
pub async fn check(
    identity: &PeerIdentity,
    remote: IpAddr,
    resolver: &dyn Resolver,
) -> Result<(), SanMismatch> {
    if identity.ip_addresses.is_empty() && identity.dns_names.is_empty() {
        return Ok(());
    }
    let remote = canonical(remote);
    if identity.ip_addresses.iter().any(|ip| canonical(*ip) == remote) {
        return Ok(());
    }
    if !identity.dns_names.is_empty() {
        // The reverse lookup comes first because it is the only one that can satisfy a wildcard.
        let reverse = resolver.names(remote).await;
        if reverse.iter().any(|name| identity.dns_names.iter().any(|pattern| matches(pattern, name))) {
            return Ok(());
        }
        for name in identity.dns_names.iter().filter(|name| !name.starts_with("*.")) {
            if resolver.addresses(name).await.into_iter().any(|ip| canonical(ip) == remote) {
                return Ok(());
            }
        }
    }
    let addresses = identity.ip_addresses.iter().map(ToString::to_string);
    Err(SanMismatch {
        common_name: identity.common_name.clone(),
        names: addresses.chain(identity.dns_names.iter().cloned()).collect(),
        remote,
    })
}

/// `::ffff:10.0.0.1` on a dual-stack socket is the peer 10.0.0.1.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn matches(pattern: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.');
    match pattern.strip_prefix('*') {
        // As in etcd, a wildcard stands for any number of labels here.
        Some(suffix) if suffix.starts_with('.') => {
            name.len() > suffix.len()
                && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        }
        _ => pattern.eq_ignore_ascii_case(name),
    }
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>> {
        Box::pin(async move {
            match tokio::net::lookup_host((name, 0)).await {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(_) => Vec::new(),
            }
        })
    }

    fn names(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>> {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || reverse(address)).await.ok().flatten().into_iter().collect()
        })
    }
}

/// Reverse lookup; blocks.
fn reverse(address: IpAddr) -> Option<String> {
    let socket = socket2::SockAddr::from(SocketAddr::new(address, 0));
    let mut host = [0u8; 1025]; // NI_MAXHOST
    let host_len = libc::socklen_t::try_from(host.len()).ok()?;
    // SAFETY: `socket` owns an initialised socket address of `socket.len()` bytes that outlives the call; `host` is
    // writable for `host_len` bytes, which is the length passed; no service buffer is given and its length is zero,
    // which the function allows. It keeps none of the pointers.
    let code = unsafe {
        libc::getnameinfo(
            socket.as_ptr().cast(),
            socket.len(),
            host.as_mut_ptr().cast(),
            host_len,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        return None;
    }
    CStr::from_bytes_until_nul(&host).ok()?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed answers: db1.example and db2.example forward, pod-7.ns.example backward.
    struct Fixed;

    impl Resolver for Fixed {
        fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>> {
            let found = if name == "db1.example" { vec!["10.0.0.1".parse().unwrap()] } else { vec![] };
            Box::pin(async move { found })
        }
        fn names(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>> {
            let seven: IpAddr = "10.0.0.7".parse().unwrap();
            let found = if address == seven { vec!["Pod-7.ns.example.".to_owned()] } else { vec![] };
            Box::pin(async move { found })
        }
    }

    async fn passes(ips: &[&str], names: &[&str], remote: &str) -> bool {
        let identity = PeerIdentity {
            ip_addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            dns_names: names.iter().map(|n| (*n).to_owned()).collect(),
            ..PeerIdentity::default()
        };
        check(&identity, remote.parse().unwrap(), &Fixed).await.is_ok()
    }

    #[tokio::test]
    async fn addresses_names_and_wildcards() {
        assert!(passes(&[], &[], "10.0.0.9").await, "a certificate without names is not restricted");
        assert!(passes(&["10.0.0.9"], &[], "10.0.0.9").await);
        assert!(passes(&["10.0.0.9"], &[], "::ffff:10.0.0.9").await, "mapped address of a dual-stack socket");
        assert!(!passes(&["10.0.0.9"], &[], "10.0.0.8").await);
        assert!(
            passes(&["10.0.0.9"], &["db1.example"], "10.0.0.1").await,
            "a name may match when no address does"
        );
        assert!(!passes(&[], &["db2.example"], "10.0.0.1").await);
        assert!(passes(&[], &["*.ns.example"], "10.0.0.7").await);
        assert!(!passes(&[], &["*.other.example"], "10.0.0.7").await);
        assert!(!passes(&[], &["*.pod-7.ns.example"], "10.0.0.7").await);
        assert!(passes(&[], &["pod-7.ns.example"], "10.0.0.7").await);
    }

    #[test]
    fn reverse_lookup_is_sound_for_both_families() {
        // Whatever the machine answers, the call must return.
        drop(reverse("127.0.0.1".parse().unwrap()));
        drop(reverse("::1".parse().unwrap()));
    }
}
