//! Random commands over a handful of keys, so that they meet.

use bytes::Bytes;
use keelson_mvcc::*;
use proptest::prelude::*;
use proptest::sample::select;

pub const TERM: u64 = 3;

/// A revision from here on means "so many before the current one, when the command is applied", from 1 ahead on.
const RELATIVE: Revision = 1000;

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![6 => Just(0i64), 4 => RELATIVE..RELATIVE + 8, 1 => -1i64..30]
}

fn absolute(revision: &mut Revision, current: Revision) {
    if *revision >= RELATIVE {
        *revision = (current + 1 - (*revision - RELATIVE)).max(0);
    }
}

/// Fills in the revisions that depend on the current one.
pub fn resolve(command: &mut Command, current: Revision) {
    fn ops(txn: &mut Txn, current: Revision) {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match op {
                TxnOp::Range(options) => absolute(&mut options.revision, current),
                TxnOp::Txn(nested) => ops(nested, current),
                TxnOp::Put(_) | TxnOp::DeleteRange(_) => {}
            }
        }
    }
    match command {
        Command::Txn(txn) => ops(txn, current),
        Command::Compact { revision } => absolute(revision, current),
        _ => {}
    }
}

pub fn key() -> impl Strategy<Value = Bytes> {
    let keys: Vec<&[u8]> =
        vec![b"a", b"a\0", b"a\0b", b"ab", b"b", b"b/1", b"b/2", b"c", b"\xff", b"\xff\xff"];
    select(keys).prop_map(Bytes::from_static)
}

pub fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        2 => key().prop_map(KeyRange::single),
        2 => (key(), key()).prop_map(|(key, end)| KeyRange { key, end }),
        1 => key().prop_map(|key| KeyRange { key, end: Bytes::from_static(&[0]) }),
        1 => Just(super::everything()),
    ]
}

pub fn options() -> impl Strategy<Value = RangeOptions> {
    let bound = || prop_oneof![3 => Just(0i64), 1 => 1i64..12];
    let order = select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let limit = prop_oneof![2 => Just(0i64), 3 => 1i64..5, 1 => Just(-1i64), 1 => Just(i64::MAX)];
    (
        range(),
        limit,
        order,
        target,
        any::<bool>(),
        prop::bool::weighted(0.2),
        [bound(), bound(), bound(), bound()],
    )
        .prop_map(|(range, limit, sort_order, sort_target, keys_only, count_only, bounds)| {
            RangeOptions {
                range,
                limit,
                revision: 0,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: bounds[0],
                max_mod_revision: bounds[1],
                min_create_revision: bounds[2],
                max_create_revision: bounds[3],
            }
        })
}

fn put() -> impl Strategy<Value = Put> {
    let value = select(vec!["", "x", "yy", "a longer value than the others"]);
    (key(), value, lease_or_none(), any::<bool>(), prop::bool::weighted(0.15), prop::bool::weighted(0.15))
        .prop_map(|(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            value: if ignore_value { Bytes::new() } else { Bytes::from_static(value.as_bytes()) },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        })
}

fn lease() -> impl Strategy<Value = LeaseId> {
    select(vec![7i64, 8, -9, i64::MAX])
}

fn lease_or_none() -> impl Strategy<Value = LeaseId> {
    prop_oneof![3 => Just(0), 1 => lease()]
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    let target = prop_oneof![
        (0i64..4).prop_map(CompareTarget::Version),
        (0i64..20).prop_map(CompareTarget::Create),
        (0i64..20).prop_map(CompareTarget::Mod),
        lease_or_none().prop_map(CompareTarget::Lease),
        select(vec!["", "x"]).prop_map(|value| CompareTarget::Value(Bytes::from_static(value.as_bytes()))),
    ];
    (range(), result, target).prop_map(|(range, result, target)| Compare { range, result, target })
}

pub fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        (options(), revision())
            .prop_map(|(options, revision)| TxnOp::Range(RangeOptions { revision, ..options })),
        put().prop_map(TxnOp::Put),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange),
    ];
    let compares = || prop::collection::vec(compare(), 0..2);
    let op = leaf.prop_recursive(2, 8, 3, move |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..3);
        (compares(), ops(), ops())
            .prop_map(|(compare, success, failure)| TxnOp::Txn(Txn { compare, success, failure }))
    });
    let ops = prop::collection::vec(op, 0..4);
    (compares(), ops.clone(), ops).prop_map(|(compare, success, failure)| Txn { compare, success, failure })
}

pub fn command() -> impl Strategy<Value = Command> {
    let alarm = (1u64..3, select(vec![AlarmKind::NoSpace, AlarmKind::Corrupt]))
        .prop_map(|(member, kind)| Alarm { member, kind });
    prop_oneof![
        30 => put().prop_map(Command::Put),
        10 => delete().prop_map(Command::DeleteRange),
        15 => txn().prop_map(Command::Txn),
        6 => revision().prop_map(|revision| Command::Compact { revision }),
        6 => (lease(), 1i64..100).prop_map(|(id, ttl_s)| Command::LeaseGrant { id, ttl_s }),
        4 => (lease(), select(vec![None, Some(TERM), Some(TERM - 1)]))
            .prop_map(|(id, term)| Command::LeaseRevoke { id, term }),
        2 => (lease(), 0i64..50, select(vec![None, Some(TERM), Some(TERM - 1)]))
            .prop_map(|(id, left, term)| Command::LeaseCheckpoint { remaining: vec![(id, left), (99, 1)], term }),
        1 => alarm.clone().prop_map(Command::AlarmRaise),
        4 => alarm.prop_map(Command::AlarmClear),
        2 => (key(), select(vec!["", "fact"])).prop_map(|(key, value)| Command::MetaSet {
            key,
            value: Bytes::from_static(value.as_bytes())
        }),
    ]
}

/// Groups of entries of commands.
pub fn groups() -> impl Strategy<Value = Vec<Vec<Vec<Command>>>> {
    let entry = prop::collection::vec(command(), 0..6);
    prop::collection::vec(prop::collection::vec(entry, 1..4), 1..14)
}
