//! The space quota: refuses growth and raises the alarm before the disk is full.
//!
//! Owns: the estimate of a request's cost and the sampled size. Called by: Put, Txn, LeaseGrant, before validation as
//! in etcd. Invariants: apply never looks at a size (rule 6): what stops writes is the alarm, which goes through the
//! log; this check only decides when to raise it.
//! Source: etcd `server/storage/quota.go`, `server/etcdserver/api/v3rpc/quota.go`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use keelson_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};
use tonic::Status;

use crate::{call::Call, errors, options::ApiOptions, state::AppState};

/// Estimate of what a key costs beside its bytes.
const KEY_OVERHEAD_BYTES: u64 = 256;
/// Estimate of what a lease costs.
pub(crate) const LEASE_COST_BYTES: u64 = 64;
/// Asking the engine for its size walks its files, so the answer is kept this long.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(100);

/// The quota with the last sampled size.
pub(crate) struct Quota {
    bytes_max: Option<u64>,
    size_bytes: AtomicU64,
    /// When the sample was taken, in microseconds of the clock; 0 = never.
    sampled_at_us: AtomicU64,
}

impl Quota {
    pub(crate) fn new(options: &ApiOptions) -> Self {
        let bytes_max = options.quota_bytes_effective().map(|bytes| bytes as u64);
        Quota { bytes_max, size_bytes: AtomicU64::new(0), sampled_at_us: AtomicU64::new(0) }
    }

    fn has_room(&self, state: &AppState, cost: u64) -> bool {
        let Some(bytes_max) = self.bytes_max else { return true };
        cost == 0 || self.size_bytes(state) + cost < bytes_max
    }

    /// The store is so far below the quota that writes can go on for a while. Between this and [`Quota::has_room`] lies
    /// a tenth, so that an alarm does not come and go with every write.
    pub(crate) fn has_ample_room(&self, state: &AppState) -> bool {
        self.bytes_max.is_none_or(|bytes_max| self.size_bytes(state) < bytes_max - bytes_max / 10)
    }

    /// The store's size, sampled.
    fn size_bytes(&self, state: &AppState) -> u64 {
        let now_us = state.clock.now().as_micros() as u64 + 1;
        let sampled_at_us = self.sampled_at_us.load(Ordering::Relaxed);
        if sampled_at_us == 0 || now_us.saturating_sub(sampled_at_us) >= SAMPLE_AGE_MAX.as_micros() as u64 {
            // Two requests may sample at once; both write the truth.
            self.size_bytes.store(state.view().size_bytes(), Ordering::Relaxed);
            self.sampled_at_us.store(now_us, Ordering::Relaxed);
        }
        self.size_bytes.load(Ordering::Relaxed)
    }
}

impl AppState {
    /// Refuses a request of `cost` bytes when it would exceed the quota, and raises the alarm for this member.
    pub(crate) async fn check_quota(&self, cost: u64, call: &Call) -> Result<(), Status> {
        if self.quota.has_room(self, cost) {
            return Ok(());
        }
        self.raise_no_space(call.timeout).await;
        Err(errors::NO_SPACE.into())
    }
}

/// Cost of a put.
pub(crate) fn put_cost(request: &PutRequest) -> u64 {
    KEY_OVERHEAD_BYTES + (request.key.len() + request.value.len()) as u64
}

/// Cost of a transaction: that of its dearer branch.
pub(crate) fn txn_cost(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost(put),
                Some(Request::RequestTxn(txn)) => txn_cost(txn),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearer_branch_counts_with_all_that_is_nested() {
        let put = |value: &'static str| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: "key".into(),
                value: value.into(),
                ..Default::default()
            })),
        };
        let nested = RequestOp {
            request: Some(Request::RequestTxn(TxnRequest {
                success: vec![put("12345")],
                failure: vec![put("1"), put("2")],
                ..Default::default()
            })),
        };
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
        let request = TxnRequest {
            success: vec![put("1234567"), nested],
            failure: vec![put("1")],
            ..Default::default()
        };
        assert_eq!(txn_cost(&request), (256 + 10) + 2 * (256 + 4));
    }
}
