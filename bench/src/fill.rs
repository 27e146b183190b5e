//! Writes a data set.
//!
//! Called by: workloads that read, and those that measure what storing costs.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use keelson_proto::etcdserverpb as pb;

use crate::client::{CallError, frame};
use crate::data::Shape;
use crate::progress::Progress;
use crate::target::Target;
use crate::workload::path;

/// Puts every key of the key space once, at this version, with many requests in flight; returns the bytes of all keys
/// and values.
///
/// # Errors
/// The first failed call.
pub async fn fill(
    target: &Target,
    shape: Shape,
    version: u64,
    progress: &Progress,
) -> Result<u64, CallError> {
    fill_part(target, shape, 0..shape.key_space, version, progress).await
}

/// As [`fill`], but only these keys of the key space.
///
/// # Errors
/// The first failed call.
pub async fn fill_part(
    target: &Target,
    shape: Shape,
    keys: Range<u64>,
    version: u64,
    progress: &Progress,
) -> Result<u64, CallError> {
    const WRITERS: u64 = 256;
    const CONNECTIONS: usize = 8;
    let connections = target.connect(CONNECTIONS).await?;
    let done = Rc::new(Cell::new(0));
    let writers: Vec<_> = (0..WRITERS.min(keys.end - keys.start))
        .map(|writer| {
            let mut connection = connections[writer as usize % connections.len()].clone();
            let (progress, done, keys) = (progress.clone(), done.clone(), keys.clone());
            tokio::task::spawn_local(async move {
                let template = connection.template(path::PUT);
                let mut bytes = 0;
                for number in (keys.start + writer..keys.end).step_by(WRITERS as usize) {
                    let (key, value) = (shape.key(number), shape.value(number, version));
                    bytes += (key.len() + value.len()) as u64;
                    let request = pb::PutRequest { key, value, ..Default::default() };
                    connection.call(&template, frame(&request)).await?;
                    done.set(done.get() + 1);
                    progress.pieces(done.get(), keys.end - keys.start, "keys");
                }
                Ok::<u64, CallError>(bytes)
            })
        })
        .collect();
    let mut bytes = 0;
    for writer in writers {
        bytes += writer.await.expect("a load task does not panic")?;
    }
    progress.clear();
    Ok(bytes)
}
