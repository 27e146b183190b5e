//! Replies into responses.

use keelson_mvcc::auth::Permission;
use keelson_mvcc::types::{KeyValue, OpReply, RangeReply, Revision, TxnReply};
use keelson_proto::{
    authpb,
    etcdserverpb::{
        DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
        response_op::Response,
    },
    mvccpb,
};

/// A key-value; key and value are shared, not copied.
pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// A permission.
pub fn permission(permission: &Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.kind,
        key: permission.range.key.clone(),
        range_end: permission.range.end.clone(),
    }
}

/// The answer to a range.
pub fn range_response(header: ResponseHeader, reply: RangeReply) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: reply.kvs.into_iter().map(key_value).collect(),
        more: reply.more,
        count: reply.count,
    }
}

/// The answer to a transaction. `header` is the outer one, with the revision after the transaction; the operations'
/// headers carry a revision only, and nested transactions an empty header.
pub fn txn_response(header: ResponseHeader, reply: TxnReply) -> TxnResponse {
    let mut revisions = op_header_revisions(header.revision, &reply).into_iter();
    let response = txn(Some(header), reply, &mut revisions);
    debug_assert!(revisions.next().is_none(), "one revision per operation");
    response
}

/// The revision each operation saw, in order, nested ones in place: that before the transaction until the first
/// change, that after it from then on.
pub fn op_header_revisions(after: Revision, reply: &TxnReply) -> Vec<Revision> {
    fn walk(reply: &TxnReply, changed: &mut bool, seen: &mut Vec<bool>) {
        for op in &reply.ops {
            match op {
                OpReply::Range(_) => {}
                OpReply::Put { .. } => *changed = true,
                OpReply::DeleteRange { deleted, .. } => *changed |= *deleted > 0,
                OpReply::Txn(nested) => {
                    walk(nested, changed, seen);
                    continue;
                }
            }
            seen.push(*changed);
        }
    }
    let (mut changed, mut seen) = (false, Vec::with_capacity(reply.ops.len()));
    walk(reply, &mut changed, &mut seen);
    let before = if changed { after - 1 } else { after };
    seen.into_iter().map(|changed| if changed { after } else { before }).collect()
}

fn txn(
    header: Option<ResponseHeader>,
    reply: TxnReply,
    revisions: &mut impl Iterator<Item = Revision>,
) -> TxnResponse {
    let mut responses = Vec::with_capacity(reply.ops.len());
    for op in reply.ops {
        let mut header = || {
            let revision = revisions.next().unwrap_or_default();
            ResponseHeader { revision, ..Default::default() }
        };
        let response = match op {
            OpReply::Range(reply) => Response::ResponseRange(range_response(header(), reply)),
            OpReply::Put { prev } => {
                Response::ResponsePut(PutResponse { header: Some(header()), prev_kv: prev.map(key_value) })
            }
            OpReply::DeleteRange { deleted, prev } => Response::ResponseDeleteRange(DeleteRangeResponse {
                header: Some(header()),
                deleted,
                prev_kvs: prev.into_iter().map(key_value).collect(),
            }),
            OpReply::Txn(nested) => {
                Response::ResponseTxn(txn(Some(ResponseHeader::default()), nested, revisions))
            }
        };
        responses.push(ResponseOp { response: Some(response) });
    }
    TxnResponse { header, succeeded: reply.succeeded, responses }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> OpReply {
        OpReply::Range(RangeReply::default())
    }

    fn delete(deleted: i64) -> OpReply {
        OpReply::DeleteRange { deleted, prev: vec![] }
    }

    fn txn_of(ops: Vec<OpReply>) -> TxnReply {
        TxnReply { succeeded: true, ops }
    }

    #[test]
    fn an_operation_sees_the_old_revision_until_something_changed() {
        let put = || OpReply::Put { prev: None };
        for (ops, expected) in [
            (vec![], vec![]),
            (vec![range(), delete(0)], vec![7, 7]),
            (vec![range(), put(), range()], vec![6, 7, 7]),
            (vec![delete(0), range(), delete(2), range()], vec![6, 6, 7, 7]),
            (vec![range(), OpReply::Txn(txn_of(vec![range(), put()])), range()], vec![6, 6, 7, 7]),
        ] {
            assert_eq!(op_header_revisions(7, &txn_of(ops.clone())), expected, "{ops:?}");
        }
    }

    #[test]
    fn nested_headers_hold_what_etcd_puts_there() {
        let outer = ResponseHeader { cluster_id: 1, member_id: 2, revision: 7, raft_term: 3 };
        let reply = txn_of(vec![range(), OpReply::Txn(txn_of(vec![OpReply::Put { prev: None }]))]);
        let response = txn_response(outer, reply);
        assert_eq!(response.header, Some(outer));
        let Some(Response::ResponseRange(range)) = &response.responses[0].response else { panic!() };
        assert_eq!(range.header, Some(ResponseHeader { revision: 6, ..Default::default() }));
        let Some(Response::ResponseTxn(nested)) = &response.responses[1].response else { panic!() };
        assert_eq!(nested.header, Some(ResponseHeader::default()));
        let Some(Response::ResponsePut(put)) = &nested.responses[0].response else { panic!() };
        assert_eq!(put.header, Some(ResponseHeader { revision: 7, ..Default::default() }));
    }
}
