//! Limits and timings of connections.
//!
//! Owns: [`ServerOptions`]. Each number has its reason beside it. Called by: the wiring.
//! Source: etcd's flags; grpc-go's keepalive defaults.

use std::time::Duration;

/// HTTP/2 keepalive, with etcd's flag defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `--grpc-keepalive-min-time`: pings that come faster than this, while we send nothing, end the connection at the
    /// third one. Zero switches the check off.
    pub min_time: Duration,
    /// `--grpc-keepalive-interval`: we ping when nothing was received for so long. Zero switches pings off.
    pub interval: Duration,
    /// `--grpc-keepalive-timeout`: how long we wait for the answer.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            min_time: Duration::from_secs(5),
            interval: Duration::from_secs(2 * 3600),
            timeout: Duration::from_secs(20),
        }
    }
}

/// Limits and timings of a server's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Current-thread runtimes of the server's own; 0 serves on the runtime that starts it.
    pub runtimes: usize,
    /// Accept to end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Connections that have not yet sent a request byte or finished their handshake; beyond it the oldest is closed,
    /// so that a flood of silent connections cannot keep others out.
    pub handshakes_pending_max: usize,
    /// End of the handshake to the first bytes of a request.
    pub first_byte_timeout: Duration,
    /// HTTP/1.1: a whole request head, and the pause between two requests.
    pub header_read_timeout: Duration,
    /// Open connections per listening address; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// HTTP/2 keepalive.
    pub keepalive: Keepalive,
    /// `--max-concurrent-streams`; `None` is etcd's "no limit".
    pub streams_max: Option<u32>,
    /// HTTP/2 window of one stream.
    pub stream_window_bytes: u32,
    /// HTTP/2 window of a connection.
    pub connection_window_bytes: u32,
    /// Largest header list of one request.
    pub header_list_bytes_max: u32,
    /// Gives up sending to a silent peer after this. `None` leaves it to the kernel (about 15 minutes), as etcd does;
    /// a smaller value also cuts off readers that pause for as long.
    pub tcp_user_timeout: Option<Duration>,
}

/// File descriptors kept back for files and outgoing connections, as etcd does.
const RESERVED_DESCRIPTORS: u64 = 150;

impl Default for ServerOptions {
    fn default() -> Self {
        let descriptors = crate::edge::metrics::process::descriptor_limit().unwrap_or(1024);
        let connections = usize::try_from(descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(64));
        ServerOptions {
            runtimes: 0,
            handshake_timeout: Duration::from_secs(10),
            handshakes_pending_max: 1024,
            first_byte_timeout: Duration::from_secs(30),
            // Longer than the usual scrape interval of 60 s, so that scrapes reuse their connection.
            header_read_timeout: Duration::from_secs(90),
            connections_max: connections.unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS),
            keepalive: Keepalive::default(),
            streams_max: None,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            header_list_bytes_max: 64 << 10,
            tcp_user_timeout: None,
        }
    }
}
