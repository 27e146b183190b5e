//! Counts of connections and their fates.
//!
//! Owns: [`EdgeStats`]. Invariants: counters only grow, except `active`; byte counts are kept per runtime so that
//! runtimes do not share a cache line. Called by: this module; read by [`crate::edge::metrics`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::pending::Pending;

/// Keeps its content on cache lines of its own (two, because processors fetch pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// What one runtime counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) active: AtomicUsize,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// Why a connection was closed before or besides its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// HTTP/2 control frames beyond every reason.
    Abuse,
    /// Gave way to newer connections in the bounded stage before the first request.
    Evicted,
    /// TLS handshake failed.
    Handshake,
    /// A peer from an address its certificate does not name.
    PeerAddress,
    /// Handshake or first bytes took too long.
    Timeout,
    /// Plain HTTP on a TLS port, or TLS on a plain port.
    WrongScheme,
}

impl Refusal {
    /// All, in the order of their labels.
    pub const ALL: [Refusal; 6] = [
        Refusal::Abuse,
        Refusal::Evicted,
        Refusal::Handshake,
        Refusal::PeerAddress,
        Refusal::Timeout,
        Refusal::WrongScheme,
    ];

    /// Label value in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Refusal::Abuse => "abuse",
            Refusal::Evicted => "evicted",
            Refusal::Handshake => "handshake",
            Refusal::PeerAddress => "peer_address",
            Refusal::Timeout => "timeout",
            Refusal::WrongScheme => "wrong_scheme",
        }
    }
}

/// Counts of one server.
#[derive(Debug)]
pub struct EdgeStats {
    accepted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(crate) workers: Box<[Padded<WorkerCounts>]>,
    pending: Arc<Pending>,
}

impl EdgeStats {
    pub(crate) fn new(workers: usize, pending: Arc<Pending>) -> Self {
        EdgeStats {
            accepted: AtomicU64::new(0),
            refused: Default::default(),
            workers: (0..workers.max(1)).map(|_| Padded::default()).collect(),
            pending,
        }
    }

    pub(crate) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections accepted since start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections closed for a reason of ours, by reason.
    #[must_use]
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// Open connections, those in the stage before the first request included.
    #[must_use]
    pub fn active(&self) -> usize {
        self.workers.iter().map(|w| w.0.active.load(Ordering::Relaxed)).sum()
    }

    /// Open connections of each runtime.
    #[must_use]
    pub fn active_by_runtime(&self) -> Vec<usize> {
        self.workers.iter().map(|w| w.0.active.load(Ordering::Relaxed)).collect()
    }

    /// Connections whose handshake or first request byte is outstanding.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of HTTP/2 DATA frames received: messages of gRPC clients with their five-byte heads, and what few HTTP
    /// requests come over HTTP/2.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.workers.iter().map(|w| w.0.received_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of HTTP/2 DATA frames sent.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.workers.iter().map(|w| w.0.sent_bytes.load(Ordering::Relaxed)).sum()
    }
}
