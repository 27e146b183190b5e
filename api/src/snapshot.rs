//! A snapshot of the store as etcd's own database file, for `etcdctl snapshot save`, `etcdutl` and etcd itself; and the way
//! back, from such a file, whoever wrote it, to a store.
//!
//! Owns: the steps of both. Reading: [`file`](mod@file) compares the digest, [`database`] reads pages, [`rows`] their meaning,
//! [`mod@import`] builds a store, [`mod@status`] gives figures.
//! Writing: [`contents`] writes the buckets of one view into a file without a name ([`sort`] brings the rows
//! into the order of revisions, [`bbolt`] lays out the pages), and [`stream`] sends the file and its digest.
//! Called by: the maintenance service, the command line. Invariants of a snapshot written: everything comes from one view; writers are not held up, only the
//! history the view needs is kept meanwhile; memory does not grow with the store; nothing stays on disk, because
//! the files have no names.
//! Source: etcd `server/storage/schema` (buckets and their rows), `server/etcdserver/api/v3rpc/maintenance.go`.

pub mod database;
pub mod directory;
pub mod etcd_log;
pub mod file;
pub mod import;
pub mod replay;
pub mod rows;
pub mod status;

mod bbolt;
mod contents;
mod sort;
mod stream;

use std::io;

use keelson_mvcc::types::ReadError;

pub use stream::{SnapshotStream, stream};

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// Nobody waits for it any more.
    #[error("given up")]
    GivenUp,
    /// The store.
    #[error("read the store")]
    Read(#[from] ReadError),
    /// The membership row.
    #[error("decode the membership")]
    Membership(#[from] keelson_raftstore::wire::WireError),
    /// The temporary file.
    #[error("write the snapshot")]
    File(#[from] io::Error),
}
