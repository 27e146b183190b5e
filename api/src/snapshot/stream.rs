//! Sends a snapshot: the file in pieces, then its SHA-256.
//!
//! Owns: the order of messages. Called by: the maintenance service. Invariants: the file is put together when the
//! client first waits for something, and given up when it goes away; a piece is read when the connection asks for
//! it, so a slow client costs a file and no memory.
//! Source: etcd `server/etcdserver/api/v3rpc/maintenance.go` (`Snapshot`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use keelson_proto::etcdserverpb::SnapshotResponse;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{SnapshotError, contents};
use crate::{errors, state::AppState};

/// Bytes of the file in one message; as in etcd.
const PIECE_BYTES: usize = 32 << 10;

/// The stream handed to tonic.
pub type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

/// Where the stream stands.
enum Step {
    Begin,
    File(Sending),
    Digest([u8; 32]),
}

/// A file on its way.
struct Sending {
    file: File,
    bytes: u64,
    sent: u64,
    digest: Sha256,
}

/// Sets its flag when it goes.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A snapshot of the newest view at the time of the first poll.
pub fn stream(state: AppState) -> SnapshotStream {
    let version = state.options.cluster_version();
    Box::pin(stream::unfold(Some(Step::Begin), move |step| {
        let (state, version) = (state.clone(), version.clone());
        async move {
            let sending = match step? {
                Step::Begin => build(state, version.clone()).await,
                Step::File(sending) => Ok(sending),
                Step::Digest(digest) => {
                    let blob = Bytes::copy_from_slice(&digest);
                    return Some((
                        Ok(SnapshotResponse { header: None, remaining_bytes: 0, blob, version }),
                        None,
                    ));
                }
            };
            let piece = match sending {
                Ok(sending) => blocking(move || sending.piece()).await,
                Err(error) => Err(error),
            };
            Some(match piece {
                Ok((blob, remaining_bytes, next)) => {
                    (Ok(SnapshotResponse { header: None, remaining_bytes, blob, version }), Some(next))
                }
                Err(error) => (Err(status(&error)), None),
            })
        }
    }))
}

async fn build(state: AppState, version: String) -> Result<Sending, SnapshotError> {
    let permit = state.snapshot_gate.clone().acquire_owned().await.map_err(|_| SnapshotError::GivenUp)?;
    let given_up = Arc::new(AtomicBool::new(false));
    let _guard = GiveUp(given_up.clone());
    blocking(move || {
        let (file, bytes) =
            contents::write(&*state.view(), &version, &state.options.snapshot_dir, &given_up)?;
        drop(permit);
        Ok(Sending { file, bytes, sent: 0, digest: Sha256::new() })
    })
    .await
}

impl Sending {
    /// Reads the next piece; gives it with what is left after it.
    fn piece(mut self) -> Result<(Bytes, u64, Step), SnapshotError> {
        let left = self.bytes - self.sent;
        let mut piece = BytesMut::zeroed(PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES)));
        self.file.read_exact_at(&mut piece, self.sent)?;
        self.digest.update(&piece);
        self.sent += piece.len() as u64;
        let left = self.bytes - self.sent;
        let next = if left == 0 { Step::Digest(self.digest.finalize().into()) } else { Step::File(self) };
        Ok((piece.freeze(), left, next))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    let work = tokio::task::spawn_blocking(work).await;
    work.unwrap_or_else(|failure| Err(SnapshotError::File(std::io::Error::other(failure))))
}

fn status(error: &SnapshotError) -> Status {
    if let SnapshotError::Read(read) = error {
        return errors::from_read(read.clone());
    }
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "a snapshot failed");
    Status::internal(format!("{error}: {cause}"))
}
