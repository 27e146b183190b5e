//! Range, Put, DeleteRange and Compact.

use keelson_api::errors;
use keelson_proto::etcdserverpb as pb;
use keelson_raftstore::consensus::{ProposeError, ReadIndexError, TimeoutCause};

use crate::kit::*;

#[tokio::test]
async fn a_fresh_store_is_at_one_and_its_first_write_at_two() {
    let member = Member::alone().await;
    let empty = member.get("a").await;
    assert_eq!(empty, pb::RangeResponse { header: member.header(1), ..Default::default() });
    assert_eq!(member.put("a", "1").await, 2);
    let found = member.get("a").await;
    assert_eq!((found.header, found.count, found.more), (member.header(2), 1, false));
    let kv = &found.kvs[0];
    assert_eq!((kv.key.as_ref(), kv.value.as_ref()), (&b"a"[..], &b"1"[..]));
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 2, 1, 0));
}

#[tokio::test]
async fn a_put_tells_what_it_replaced_only_when_asked() {
    let member = Member::alone().await;
    let put = |value: &'static str, prev_kv| {
        let request = pb::PutRequest { key: "a".into(), value: value.into(), prev_kv, ..Default::default() };
        let mut kv = member.kv();
        async move { kv.put(request).await.unwrap().into_inner() }
    };
    assert_eq!(put("1", true).await, pb::PutResponse { header: member.header(2), prev_kv: None });
    assert_eq!(put("2", false).await.prev_kv, None);
    let replaced = put("3", true).await.prev_kv.unwrap();
    assert_eq!((replaced.value.as_ref(), replaced.mod_revision, replaced.version), (&b"2"[..], 3, 2));
}

#[tokio::test]
async fn keeping_a_value_or_a_lease_needs_a_key() {
    let member = Member::alone().await;
    let keep = pb::PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
    assert_error(member.kv().put(keep.clone()).await, errors::KEY_NOT_FOUND);
    member.put("a", "1").await;
    member.kv().put(keep).await.unwrap();
    assert_eq!(member.get("a").await.kvs[0].version, 2);
    let leased = pb::PutRequest { key: "a".into(), lease: 99, ..Default::default() };
    assert_error(member.kv().put(leased).await, errors::LEASE_NOT_FOUND);
    assert_eq!(member.cluster.revision(), 3, "refused writes take no revision");
}

#[tokio::test]
async fn ranges_count_what_limit_and_filters_hide() {
    let member = Member::alone().await;
    for key in ["a", "b", "c", "d"] {
        member.put(key, "v").await;
    }
    let ask = |change: fn(&mut pb::RangeRequest)| {
        let mut request = range("a", "\0");
        change(&mut request);
        let mut kv = member.kv();
        async move { kv.range(request).await.unwrap().into_inner() }
    };
    let keys = |response: &pb::RangeResponse| -> String {
        response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    };
    let limited = ask(|r| r.limit = 2).await;
    assert_eq!((keys(&limited).as_str(), limited.count, limited.more), ("ab", 4, true));
    let filtered = ask(|r| r.min_mod_revision = 4).await;
    assert_eq!((keys(&filtered).as_str(), filtered.count, filtered.more), ("cd", 4, false));
    let counted = ask(|r| r.count_only = true).await;
    assert_eq!((keys(&counted).as_str(), counted.count), ("", 4));
    let descending = ask(|r| (r.sort_order, r.limit) = (2, 3)).await;
    assert_eq!((keys(&descending).as_str(), descending.more), ("dcb", true));
    let names = ask(|r| r.keys_only = true).await;
    assert!(names.kvs.iter().all(|kv| kv.value.is_empty()));
    let past = ask(|r| r.revision = 3).await;
    assert_eq!((keys(&past).as_str(), past.header.unwrap().revision), ("ab", 5));
    let inverted = member.kv().range(range("d", "a")).await.unwrap().into_inner();
    assert_eq!((inverted.count, inverted.kvs.len()), (0, 0));
}

#[tokio::test]
async fn short_and_long_ranges_are_answered_alike() {
    let member = Member::alone().await;
    for number in 0..40 {
        let put = pb::PutRequest { key: format!("k{number:02}").into_bytes().into(), ..Default::default() };
        member.kv().put(put).await.unwrap();
    }
    // Around the number of keys that are read on the spot: what is asked, what is given, whether there is more.
    for (end, limit, given, more) in [
        ("k15", 0, 15, false),
        ("k16", 0, 16, false),
        ("k17", 0, 17, false),
        ("l", 0, 40, false),
        ("l", 15, 15, true),
        ("l", 16, 16, true),
        ("l", 17, 17, true),
        ("l", 40, 40, false),
        ("k16", 16, 16, false),
        ("l", -1, 40, false),
    ] {
        let request = pb::RangeRequest { limit, ..range("k", end) };
        let found = member.kv().range(request).await.unwrap().into_inner();
        let total = if end == "l" { 40 } else { end[1..].parse().unwrap() };
        assert_eq!((found.kvs.len(), found.more, found.count), (given, more, total), "{end} limit {limit}");
        assert!(found.kvs.is_sorted_by(|a, b| a.key < b.key));
    }
}

#[tokio::test]
async fn the_revision_of_a_read_is_bounded_on_both_sides() {
    let member = Member::alone().await;
    for _ in 0..4 {
        member.put("a", "v").await;
    }
    let at = |revision| {
        let request = pb::RangeRequest { revision, ..range("a", "") };
        let mut kv = member.kv();
        async move { kv.range(request).await.map(|response| response.into_inner().kvs[0].version) }
    };
    assert_error(at(6).await, errors::FUTURE_REVISION);
    assert_eq!(at(5).await.unwrap(), 4);
    let compact = |revision| {
        let mut kv = member.kv();
        async move { kv.compact(pb::CompactionRequest { revision, physical: false }).await }
    };
    assert_error(compact(6).await, errors::FUTURE_REVISION);
    let compacted = compact(4).await.unwrap().into_inner();
    assert_eq!(compacted.header, member.header(5));
    assert_error(compact(4).await, errors::COMPACTED);
    assert_error(at(3).await, errors::COMPACTED);
    assert_eq!(at(4).await.unwrap(), 3, "the mark itself stays readable");
    assert_eq!(at(-1).await.unwrap(), 4, "outside a transaction a negative revision means the newest");
}

#[tokio::test]
async fn a_physical_compaction_waits_for_its_end() {
    let member = Member::alone().await;
    for _ in 0..3 {
        member.put("a", "v").await;
    }
    let mut kv = member.kv();
    let waiting = tokio::spawn(async move {
        kv.compact(pb::CompactionRequest { revision: 3, physical: true }).await.unwrap()
    });
    until(|| {
        member.control().proposed.iter().any(|c| matches!(c, keelson_mvcc::types::Command::Compact { .. }))
    })
    .await;
    member.cluster.clock.advance(std::time::Duration::from_secs(1));
    assert!(!waiting.is_finished(), "nothing is physically gone yet");
    member.cluster.settle_compaction();
    soon(async {
        while !waiting.is_finished() {
            member.cluster.clock.advance(std::time::Duration::from_millis(20));
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_deletion_takes_a_revision_only_if_it_deletes() {
    let member = Member::alone().await;
    member.put("a", "1").await;
    member.put("b", "2").await;
    let delete = |key: &'static str, end: &'static str, prev_kv| {
        let request = pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv };
        let mut kv = member.kv();
        async move { kv.delete_range(request).await.unwrap().into_inner() }
    };
    let nothing = delete("x", "", true).await;
    assert_eq!(nothing, pb::DeleteRangeResponse { header: member.header(3), ..Default::default() });
    let both = delete("a", "c", true).await;
    assert_eq!((both.header, both.deleted), (member.header(4), 2));
    let values: Vec<_> = both.prev_kvs.iter().map(|kv| kv.value.as_ref()).collect();
    assert_eq!(values, [b"1", b"2"]);
    member.put("a", "again").await;
    let reborn = &member.get("a").await.kvs[0];
    assert_eq!((reborn.create_revision, reborn.version), (5, 1));
}

#[tokio::test]
async fn failures_of_consensus_have_their_own_errors() {
    let member = Member::alone().await;
    for (cause, expected) in [
        (ProposeError::Timeout(TimeoutCause::Plain), errors::TIMEOUT),
        (ProposeError::Timeout(TimeoutCause::LeaderFailed), errors::TIMEOUT_LEADER_FAIL),
        (ProposeError::Timeout(TimeoutCause::ConnectionLost), errors::TIMEOUT_CONNECTION_LOST),
        (ProposeError::LeaderChanged, errors::LEADER_CHANGED),
        (ProposeError::TooLarge, errors::REQUEST_TOO_LARGE),
        (ProposeError::Overloaded, errors::TOO_MANY_REQUESTS),
        (ProposeError::Stopped, errors::STOPPED),
    ] {
        member.control().refuse = Some(cause);
        let put = pb::PutRequest { key: "a".into(), ..Default::default() };
        assert_error(member.kv().put(put).await, expected);
    }
    member.control().read_index = Some(ReadIndexError::Timeout(TimeoutCause::Plain));
    assert_error(member.kv().range(range("a", "")).await, errors::TIMEOUT);
    let mut hurried = tonic::Request::new(range("a", ""));
    hurried.set_timeout(std::time::Duration::from_secs(5));
    assert_error(member.kv().range(hurried).await, errors::CLIENT_DEADLINE);
    let local = pb::RangeRequest { serializable: true, ..range("a", "") };
    member.kv().range(local).await.unwrap();
}
