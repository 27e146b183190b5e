//! Orders that the API leaves open: reads sorted by an attribute that several keys share.
//!
//! Owns: bringing such an answer into one form. etcd sorts with an algorithm that is not stable, so among equal sort keys any
//! order is right, and where the limit cuts a group of equals any of them may be the ones that are returned.
//! Called by: the session, for every range answer, nested ones included.

use keelson_proto::{etcdserverpb as pb, mvccpb::KeyValue};

use super::op::{Range, Request, Txn};

const VERSION: i32 = pb::range_request::SortTarget::Version as i32;
const CREATE: i32 = pb::range_request::SortTarget::Create as i32;
const MOD: i32 = pb::range_request::SortTarget::Mod as i32;

/// The attribute that decides the order.
fn sort_key(kv: &KeyValue, target: i32) -> Vec<u8> {
    match target {
        VERSION => kv.version.to_be_bytes().to_vec(),
        CREATE => kv.create_revision.to_be_bytes().to_vec(),
        MOD => kv.mod_revision.to_be_bytes().to_vec(),
        _ => kv.value.to_vec(),
    }
}

/// Sorts groups of equals by key, and blanks a last group that the limit may have cut.
pub fn normalize_range(range: &Range, answer: &mut pb::RangeResponse) {
    if !range.has_ties() {
        return;
    }
    let target = range.sort_target;
    let keys: Vec<Vec<u8>> = answer.kvs.iter().map(|kv| sort_key(kv, target)).collect();
    let mut start = 0;
    while start < keys.len() {
        let length = keys[start..].iter().take_while(|key| **key == keys[start]).count();
        let group = &mut answer.kvs[start..start + length];
        group.sort_by(|left, right| left.key.cmp(&right.key));
        let last = start + length == keys.len();
        if last && answer.more {
            group.iter_mut().for_each(|kv| *kv = only(kv, target));
        }
        start += length;
    }
}

/// A key-value with nothing left but its sort key.
fn only(kv: &KeyValue, target: i32) -> KeyValue {
    match target {
        VERSION => KeyValue { version: kv.version, ..Default::default() },
        CREATE => KeyValue { create_revision: kv.create_revision, ..Default::default() },
        MOD => KeyValue { mod_revision: kv.mod_revision, ..Default::default() },
        _ => KeyValue { value: kv.value.clone(), ..Default::default() },
    }
}

/// Applies [`normalize_range`] to every read of a transaction.
pub fn normalize_txn(txn: &Txn, answer: &mut pb::TxnResponse) {
    use pb::response_op::Response;
    let branch = if answer.succeeded { &txn.success } else { &txn.failure };
    for (request, response) in branch.iter().zip(&mut answer.responses) {
        match (request, &mut response.response) {
            (Request::Range(range), Some(Response::ResponseRange(inner))) => normalize_range(range, inner),
            (Request::Txn(txn), Some(Response::ResponseTxn(inner))) => normalize_txn(txn, inner),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, version: i64) -> KeyValue {
        KeyValue { key: key.into(), version, ..Default::default() }
    }

    #[test]
    fn equals_are_ordered_by_key_and_a_cut_group_keeps_only_its_sort_key() {
        let mut range = Range::plain("a", "z");
        (range.sort_target, range.sort_order) = (VERSION, 1);
        let mut answer = pb::RangeResponse {
            kvs: vec![kv("b", 1), kv("a", 1), kv("d", 2), kv("c", 2)],
            ..Default::default()
        };
        normalize_range(&range, &mut answer);
        assert_eq!(answer.kvs, [kv("a", 1), kv("b", 1), kv("c", 2), kv("d", 2)]);
        answer.more = true;
        normalize_range(&range, &mut answer);
        assert_eq!(answer.kvs, [kv("a", 1), kv("b", 1), kv("", 2), kv("", 2)]);
    }
}
