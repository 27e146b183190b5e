//! Why the store itself failed, as opposed to a command or a read.

use crate::engine::EngineError;
use crate::types::{LogPosition, ReadError};

/// Final: the caller stops using the store, and the process restarts from what is durable.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("storage engine failed")]
    Engine(#[from] EngineError),
    #[error("the data has format {found}, this build knows up to {known}: upgrade this member")]
    UnknownFormat { found: u64, known: u64 },
    #[error("the data is damaged: {0}")]
    Damaged(String),
    #[error("an earlier error made this store unusable")]
    Latched,
    #[error("the received snapshot is not usable: {0}")]
    BadSnapshot(String),
    #[error("the received snapshot ends at {snapshot:?}, this store has already applied {applied:?}")]
    SnapshotBehind { snapshot: Option<LogPosition>, applied: Option<LogPosition> },
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        ReadError::Engine(error.to_string())
    }
}
