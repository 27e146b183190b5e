//! Requests into commands and range options.

use keelson_mvcc::types::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, RangeOptions, SortOrder,
    SortTarget, Txn, TxnOp,
};
use keelson_proto::etcdserverpb::{
    self as pb, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, compare::TargetUnion,
    request_op::Request,
};

/// A range; the enums were checked by `validate::range`.
pub fn range(request: RangeRequest) -> RangeOptions {
    RangeOptions {
        range: KeyRange { key: request.key, end: request.range_end },
        limit: request.limit,
        revision: request.revision,
        sort_order: match request.sort_order {
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => SortOrder::None,
        },
        sort_target: match request.sort_target {
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => SortTarget::Key,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A put.
pub fn put(request: PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub fn delete_range(request: DeleteRangeRequest) -> DeleteRange {
    DeleteRange { range: KeyRange { key: request.key, end: request.range_end }, prev_kv: request.prev_kv }
}

/// A transaction; every operation is set, as `validate::txn` made sure.
pub fn txn(request: TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().filter_map(compare).collect(),
        success: request.success.into_iter().filter_map(op).collect(),
        failure: request.failure.into_iter().filter_map(op).collect(),
    }
}

/// A compaction.
pub fn command_compact(request: &pb::CompactionRequest) -> Command {
    Command::Compact { revision: request.revision }
}

fn op(op: pb::RequestOp) -> Option<TxnOp> {
    Some(match op.request? {
        Request::RequestRange(request) => TxnOp::Range(range(request)),
        Request::RequestPut(request) => TxnOp::Put(put(request)),
        Request::RequestDeleteRange(request) => TxnOp::DeleteRange(delete_range(request)),
        Request::RequestTxn(request) => TxnOp::Txn(txn(request)),
    })
}

/// A guard. `None` means "always true", which leaves the list as it is without it.
///
/// Enum values a newer client might send are judged as etcd judges them: an unknown target compares as equal, an
/// unknown result holds for every key (but a comparison of values still fails on a missing key). A union that does
/// not fit the target counts as its zero.
fn compare(compare: pb::Compare) -> Option<Compare> {
    let range = KeyRange { key: compare.key, end: compare.range_end };
    let number =
        |wanted: fn(&TargetUnion) -> Option<i64>| compare.target_union.as_ref().and_then(wanted).unwrap_or(0);
    let target = match compare.target {
        0 => {
            CompareTarget::Version(number(|u| if let TargetUnion::Version(v) = u { Some(*v) } else { None }))
        }
        1 => CompareTarget::Create(number(|u| {
            if let TargetUnion::CreateRevision(v) = u { Some(*v) } else { None }
        })),
        2 => {
            CompareTarget::Mod(number(|u| if let TargetUnion::ModRevision(v) = u { Some(*v) } else { None }))
        }
        3 => match compare.target_union {
            Some(TargetUnion::Value(value)) => CompareTarget::Value(value),
            _ => CompareTarget::Value(bytes::Bytes::new()),
        },
        4 => CompareTarget::Lease(number(|u| if let TargetUnion::Lease(v) = u { Some(*v) } else { None })),
        _ => {
            return match compare.result {
                // "Not equal", "greater" or "less" than itself: never.
                1..=3 => {
                    Some(Compare { range, result: CompareResult::Less, target: CompareTarget::Version(0) })
                }
                _ => None,
            };
        }
    };
    let result = match compare.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ if matches!(target, CompareTarget::Value(_)) => {
            // True for any key that exists.
            return Some(Compare {
                range,
                result: CompareResult::Greater,
                target: CompareTarget::Version(0),
            });
        }
        _ => return None,
    };
    Some(Compare { range, result, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(target: i32, result: i32, union: Option<TargetUnion>) -> Option<Compare> {
        compare(pb::Compare { result, target, key: "k".into(), range_end: "".into(), target_union: union })
    }

    #[test]
    fn known_compares_keep_their_meaning() {
        let range = KeyRange::single("k");
        for (target, union, expected) in [
            (0, TargetUnion::Version(7), CompareTarget::Version(7)),
            (1, TargetUnion::CreateRevision(8), CompareTarget::Create(8)),
            (2, TargetUnion::ModRevision(9), CompareTarget::Mod(9)),
            (3, TargetUnion::Value("v".into()), CompareTarget::Value("v".into())),
            (4, TargetUnion::Lease(10), CompareTarget::Lease(10)),
        ] {
            let made = guard(target, 1, Some(union)).unwrap();
            assert_eq!(
                made,
                Compare { range: range.clone(), result: CompareResult::Greater, target: expected }
            );
        }
    }

    #[test]
    fn a_union_of_another_target_counts_as_zero() {
        assert_eq!(guard(2, 0, Some(TargetUnion::Version(7))).unwrap().target, CompareTarget::Mod(0));
        assert_eq!(guard(2, 0, None).unwrap().target, CompareTarget::Mod(0));
        assert_eq!(guard(3, 0, Some(TargetUnion::Lease(1))).unwrap().target, CompareTarget::Value("".into()));
    }

    #[test]
    fn unknown_values_are_judged_as_etcd_judges_them() {
        assert_eq!(guard(9, 0, None), None, "unknown target, equal: always");
        assert_eq!(guard(9, 77, None), None, "unknown both: always");
        let never = guard(9, 3, None).unwrap();
        assert_eq!((never.result, never.target), (CompareResult::Less, CompareTarget::Version(0)));
        assert_eq!(guard(0, 77, None), None, "unknown result: always");
        let exists = guard(3, 77, Some(TargetUnion::Value("v".into()))).unwrap();
        assert_eq!((exists.result, exists.target), (CompareResult::Greater, CompareTarget::Version(0)));
    }

    #[test]
    fn conversion_shares_the_request_buffer() {
        let buffer = bytes::Bytes::from_static(b"keyvalue");
        let request = PutRequest { key: buffer.slice(0..3), value: buffer.slice(3..), ..Default::default() };
        let value_at = request.value.as_ptr();
        assert_eq!(put(request).value.as_ptr(), value_at);
    }
}
