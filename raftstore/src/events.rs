//! The watch hub's way to events of the past.
//!
//! Owns: the adapter. Called by: whoever makes the hub (the binary, the simulation).

use std::sync::Arc;

use keelson_mvcc::types::{ReadError, Revision, RevisionEvents};
use keelson_mvcc::{KvEngine, Reader};
use keelson_watch::{EventSource, SourceError};

/// Reads the events of a store.
pub struct StoreEvents<E: KvEngine>(pub Reader<E>);

impl<E: KvEngine> EventSource for StoreEvents<E> {
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        self.0.view().events(after, upto, bytes_soft).map_err(|error| match error {
            ReadError::Compacted { mark, .. } => SourceError::Compacted { mark },
            error => SourceError::Failed(error.to_string()),
        })
    }

    fn revision(&self) -> Revision {
        self.0.view().revision()
    }

    fn compacted(&self) -> Revision {
        self.0.view().compacted()
    }
}
