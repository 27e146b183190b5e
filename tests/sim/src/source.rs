//! The watch hub's way to the past, with the planted bug of a watch.
//!
//! Owns: the wrapper. Called by: [`crate::member`].

use std::sync::Arc;

use keelson_mvcc::types::{Revision, RevisionEvents};
use keelson_watch::{EventSource, SourceError};

use crate::planted::Bug;

/// `inner` with `bug`, if that is one of a watch.
pub(crate) fn source(inner: Arc<dyn EventSource>, bug: Option<Bug>) -> Arc<dyn EventSource> {
    match bug {
        Some(Bug::WatchEventDropped) => Arc::new(Planted(inner)),
        _ => inner,
    }
}

struct Planted(Arc<dyn EventSource>);

impl EventSource for Planted {
    fn events(
        &self,
        after: Revision,
        upto: Revision,
        bytes_soft: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, SourceError> {
        let mut events = self.0.events(after, upto, bytes_soft)?;
        if events.last().is_some_and(|last| last.revision == upto) {
            events.pop();
        }
        Ok(events)
    }

    fn revision(&self) -> Revision {
        self.0.revision()
    }

    fn compacted(&self) -> Revision {
        self.0.compacted()
    }
}
