//! What the endpoints need to know about the server.
//!
//! Owns: [`HealthSource`], an object-safe port. Called by: [`super::checks`] and [`super::routes`]; implemented by the
//! wiring over the store and Raft handles.

use std::future::Future;
use std::pin::Pin;

/// Kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// The quota is used up.
    NoSpace,
    /// Members disagree about data.
    Corrupt,
    /// A kind this version does not know.
    Unknown,
}

impl AlarmKind {
    /// Name as in `?exclude=` and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
            AlarmKind::Unknown => "UNKNOWN",
        }
    }
}

/// Why a read for a health check failed; the text is shown to the caller, as etcd does (`etcdserver: no leader`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HealthError(pub String);

/// Versions that `/version` reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The etcd version this server stands for, as in `3.7.3`.
    pub server: String,
    /// What the cluster has agreed on, as in `3.7.0`; `None` before that.
    pub cluster: Option<String>,
    /// Version of the stored format, as in `3.7.0`; `None` while unknown.
    pub storage: Option<String>,
}

/// Result of a read.
pub type ReadResult<'a> = Pin<Box<dyn Future<Output = Result<(), HealthError>> + Send + 'a>>;

/// The state of the server, as probes see it.
///
/// To ensure correctness: `has_leader` derives from the last quorum acknowledgement, not from the role; the reads go
/// through the same path as those of clients, so that a stalled disk or apply loop fails them. They need no deadline
/// of their own.
pub trait HealthSource: Send + Sync + 'static {
    /// Alarms that are raised, one per member and kind.
    fn alarms(&self) -> Vec<AlarmKind>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// Reads one key after a quorum confirmed this member's state.
    fn linearizable_read(&self) -> ReadResult<'_>;
    /// Reads one key of this member's state.
    fn serializable_read(&self) -> ReadResult<'_>;
    /// Versions in effect.
    fn versions(&self) -> Versions;
}
