//! Lists that do not fit into one piece.

use keelson_proto::etcdserverpb as pb;
use prost::Message;

use crate::kit::*;

/// Keys and bytes of a value: some three pieces in all.
const KEYS: usize = 300;
const VALUE_BYTES: usize = 10_000;

async fn fill(member: &Member) {
    for number in 0..KEYS {
        let key = format!("k{number:04}").into_bytes().into();
        let value = vec![number as u8; VALUE_BYTES].into();
        member.kv().put(pb::PutRequest { key, value, ..Default::default() }).await.unwrap();
    }
}

async fn list(member: &Member, request: pb::RangeRequest) -> pb::RangeResponse {
    let mut kv = member.kv().max_decoding_message_size(usize::MAX);
    kv.range(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_long_list_is_the_sum_of_its_pages() {
    let member = Member::alone().await;
    fill(&member).await;
    let whole = list(&member, range("k", "l")).await;
    assert_eq!((whole.header, whole.count, whole.more), (member.header(KEYS as i64 + 1), KEYS as i64, false));
    assert!(whole.encoded_len() > 2 << 20, "several pieces");
    let mut pages = Vec::new();
    let mut from = b"k".to_vec();
    loop {
        let page =
            list(&member, pb::RangeRequest { key: from.clone().into(), limit: 16, ..range("k", "l") }).await;
        from = [&page.kvs.last().unwrap().key[..], &[0]].concat();
        pages.extend(page.kvs);
        if !page.more {
            break;
        }
    }
    assert_eq!(whole.kvs, pages);
}

#[tokio::test]
async fn a_limit_ends_a_long_list_and_counts_all_of_it() {
    let member = Member::alone().await;
    fill(&member).await;
    // Limits above 1,000 go the way of long lists; this one is not reached, the next one is.
    let whole = list(&member, pb::RangeRequest { limit: 1_001, ..range("k", "l") }).await;
    assert_eq!((whole.kvs.len(), whole.count, whole.more), (KEYS, KEYS as i64, false));
    for number in KEYS..1_200 {
        let key = format!("k{number:04}").into_bytes().into();
        let value = vec![b'x'; 3_000].into();
        member.kv().put(pb::PutRequest { key, value, ..Default::default() }).await.unwrap();
    }
    let cut = list(&member, pb::RangeRequest { limit: 1_001, ..range("k", "l") }).await;
    assert_eq!((cut.kvs.len(), cut.count, cut.more), (1_001, 1_200, true));
    assert_eq!(cut.kvs.last().unwrap().key, "k1000");
}

#[tokio::test]
async fn keys_only_leaves_out_values_and_leases() {
    let member = Member::alone().await;
    let lease = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    member.lease().lease_grant(lease).await.unwrap();
    for number in 0..20 {
        let key = format!("k{number:02}").into_bytes().into();
        let put = pb::PutRequest { key, value: vec![1; 9].into(), lease: 7, ..Default::default() };
        member.kv().put(put).await.unwrap();
    }
    let keys = list(&member, pb::RangeRequest { keys_only: true, ..range("k", "l") }).await;
    assert_eq!(keys.kvs.len(), 20);
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.lease == 0 && kv.version == 1));
}

#[tokio::test]
async fn an_empty_list_has_a_header_and_no_count() {
    let member = Member::alone().await;
    let none = list(&member, range("k", "l")).await;
    assert_eq!(none, pb::RangeResponse { header: member.header(1), ..Default::default() });
}
