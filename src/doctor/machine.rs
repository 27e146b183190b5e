//! What the system lets the process do: open files, and the ports it wants.

use std::net::{TcpListener, ToSocketAddrs as _};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::config::EffectiveConfig;

/// A member has a file per connection and per table of the engine.
const FILES_GOOD: u64 = 65_536;
const FILES_MIN: u64 = 1_024;

pub(super) fn limits() -> Vec<Finding> {
    let check = "open files";
    let limit = getrlimit(Resource::Nofile);
    let seen = match limit.current {
        Some(files) => format!("at most {files} for a process started here"),
        None => "no limit".to_owned(),
    };
    let help =
        "raise it: LimitNOFILE=1048576 in the unit (`keelson install service` has it), ulimit -n in a shell";
    vec![match limit.current {
        Some(files) if files < FILES_MIN => Finding::failure(check, seen, help),
        Some(files) if files < FILES_GOOD => Finding::warning(check, seen, help),
        _ => Finding::ok(check, seen),
    }]
}

/// `running`: endpoints that a store answers on.
pub(super) fn ports(config: &EffectiveConfig, running: &[String]) -> Vec<Finding> {
    let listen = &config.listen;
    let groups = [
        ("clients", &listen.client_urls),
        ("HTTP clients", &listen.client_http_urls),
        ("members", &listen.peer_urls),
        ("metrics", &listen.metrics_urls),
    ];
    let is_running = !running.is_empty();
    groups
        .into_iter()
        .flat_map(|(what, urls)| urls.iter().map(move |url| (what, url.host().to_owned(), url.port())))
        .map(|(what, host, port)| port_of(what, &host, port, is_running))
        .collect()
}

fn port_of(what: &str, host: &str, port: u16, is_running: bool) -> Finding {
    let check = format!("port {port} for {what}");
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect::<Vec<_>>(),
        Err(error) => {
            return Finding::failure(
                check,
                format!("{host} has no address: {error}"),
                "correct the host in the listen URL, or the name servers",
            );
        }
    };
    let taken =
        addresses.iter().find_map(|address| TcpListener::bind(address).err().map(|error| (address, error)));
    match taken {
        None => Finding::ok(check, "free"),
        Some((address, error)) if error.kind() == std::io::ErrorKind::AddrInUse && is_running => {
            Finding::ok(check, format!("{address} is in use, and the store answers"))
        }
        Some((address, error)) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::failure(
            check,
            format!("{address} is in use, and no store answers"),
            format!("see who has it: ss -ltnp 'sport = :{port}'; stop it, or change the listen URL"),
        ),
        Some((address, error)) => Finding::failure(
            check,
            format!("cannot listen on {address}: {error}"),
            "listen on an address of this machine (ip address), and on a port above 1023 unless root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_port_is_free_ours_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(port_of("clients", "127.0.0.1", port, false).level, Level::Failure);
        assert_eq!(port_of("clients", "127.0.0.1", port, true).level, Level::Ok);
        drop(taken);
        assert_eq!(port_of("clients", "127.0.0.1", port, false).level, Level::Ok);
        assert_eq!(port_of("clients", "192.0.2.1", port, false).level, Level::Failure);
    }
}
