//! Between protobuf and the store's own words.
//!
//! Owns: both directions. Called by: the services, after validation. Invariants: total on validated requests; no key
//! or value is copied here, a command holds slices of the request buffer until the proposer encodes it, which is the
//! one copy a write makes (design decision D9). Whatever is kept longer is copied by [`owned`].
//! Source: rust-analyzer's `to_proto.rs` for the shape: one place that knows both sides.

mod reply;
mod request;

pub use reply::{key_value, op_header_revisions, permission, range_response, txn_response};
pub use request::{command_compact, delete_range, put, range, txn};

use bytes::Bytes;

/// A copy that no longer pins the buffer it was cut from.
pub fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
