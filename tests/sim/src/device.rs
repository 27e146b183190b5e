//! The WAL as the log store sees it, with the planted bugs of a log.
//!
//! Owns: the wrapper, put in only where a bug wants it. Called by: [`crate::member`].

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use keelson_raftstore::LogDevice;
use keelson_wal::{Completion, EntryRecord, Op};

use crate::planted::Bug;

/// `inner` with `bug`, if that is one of a log.
pub(crate) fn device(inner: Arc<dyn LogDevice>, bug: Option<Bug>) -> Arc<dyn LogDevice> {
    match bug {
        Some(bug @ (Bug::AppendAckedEarly | Bug::VoteNotPersisted)) => Arc::new(Planted { inner, bug }),
        _ => inner,
    }
}

struct Planted {
    inner: Arc<dyn LogDevice>,
    bug: Bug,
}

impl LogDevice for Planted {
    fn submit(&self, op: Op, done: Option<Completion>) {
        let early = matches!(
            (self.bug, &op),
            (Bug::AppendAckedEarly, Op::Append(_)) | (Bug::VoteNotPersisted, Op::Vote(_))
        );
        if !early {
            return self.inner.submit(op, done);
        }
        if self.bug == Bug::AppendAckedEarly {
            self.inner.submit(op, None);
        }
        if let Some(done) = done {
            done(Ok(()));
        }
    }

    fn admitted(&self) -> BoxFuture<'_, ()> {
        self.inner.admitted()
    }

    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<EntryRecord>> {
        self.inner.read(start, end, bytes_max)
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        self.inner.close()
    }
}
