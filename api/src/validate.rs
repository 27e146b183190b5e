//! Checks of requests before anything is read or proposed, in etcd's order.
//!
//! Owns: the checks of key-value requests, of URLs and of versions. Called by: the services. Invariants: pure
//! functions; the first violated rule decides the error; conversion relies on what is checked here.
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`.

mod intervals;
mod urls;
mod version;

use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};

pub use urls::peer_urls;
pub use version::ClusterVersion;

use crate::errors::{self, WireError};

/// Checks a range.
pub fn range(request: &RangeRequest) -> Result<(), WireError> {
    if request.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(errors::INVALID_SORT_OPTION);
    }
    Ok(())
}

/// Checks a range that is answered in several messages.
pub fn range_stream(request: &RangeRequest) -> Result<(), WireError> {
    range(request)?;
    if !has_key_order(request) {
        return Err(errors::STREAM_SORT);
    }
    if has_revision_filter(request) {
        return Err(errors::STREAM_FILTERS);
    }
    Ok(())
}

/// True if results in ascending order of keys are what was asked for; a target alone does not count.
pub fn has_key_order(request: &RangeRequest) -> bool {
    request.sort_order == 0 || (request.sort_target == 0 && request.sort_order == 1)
}

/// True if results are filtered by revision.
pub fn has_revision_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// Checks a put.
pub fn put(request: &PutRequest) -> Result<(), WireError> {
    if request.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(errors::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(errors::LEASE_PROVIDED);
    }
    Ok(())
}

/// Checks a deletion.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), WireError> {
    if request.key.is_empty() { Err(errors::EMPTY_KEY) } else { Ok(()) }
}

/// Checks a transaction: the number of operations, each compare and operation, then both branches for keys that
/// would be written twice.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), WireError> {
    txn_parts(request, ops_max)?;
    intervals::check(&request.success)?;
    intervals::check(&request.failure)
}

fn txn_parts(request: &TxnRequest, ops_max: usize) -> Result<(), WireError> {
    let widest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if widest > ops_max {
        return Err(errors::TOO_MANY_OPS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(errors::EMPTY_KEY);
    }
    // A nested level only gets what this level leaves.
    for op in request.success.iter().chain(&request.failure) {
        request_op(op, ops_max - widest)?;
    }
    Ok(())
}

fn request_op(op: &RequestOp, ops_max: usize) -> Result<(), WireError> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn_parts(request, ops_max),
        None => Err(errors::KEY_NOT_FOUND),
    }
}

/// True if no branch writes, however it decides; a nested transaction counts as a write.
pub fn txn_is_read_only(request: &TxnRequest) -> bool {
    branch_ranges(request).all(|range| range.is_some())
}

/// True if every range may be answered from the local view.
pub fn txn_is_serializable(request: &TxnRequest) -> bool {
    branch_ranges(request).all(|range| range.is_some_and(|range| range.serializable))
}

fn branch_ranges(request: &TxnRequest) -> impl Iterator<Item = Option<&RangeRequest>> {
    request.success.iter().chain(&request.failure).map(|op| match &op.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    })
}

#[cfg(test)]
#[path = "validate_test.rs"]
mod tests;
