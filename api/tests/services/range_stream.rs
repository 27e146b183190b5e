//! RangeStream: chunks at one revision.

use keelson_api::errors;
use keelson_proto::etcdserverpb as pb;
use tonic::Code;

use crate::kit::*;

async fn fill(member: &Member, count: usize) {
    for number in 0..count {
        let key = format!("k{number:04}").into_bytes().into();
        member
            .kv()
            .put(pb::PutRequest { key, value: vec![b'v'; 100].into(), ..Default::default() })
            .await
            .unwrap();
    }
}

async fn collect(member: &Member, request: pb::RangeRequest) -> Vec<pb::RangeResponse> {
    let mut stream = member.kv().range_stream(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part.range_response.unwrap());
    }
    parts
}

#[tokio::test]
async fn parts_make_up_the_whole_range() {
    let member = Member::alone_with(|options| options.request_bytes_max = 4096).await;
    fill(&member, 100).await;
    let parts = collect(&member, range("k", "l")).await;
    assert!(parts.len() > 3, "{} parts", parts.len());
    assert_eq!(parts[0].kvs.len(), 10);
    let (last, rest) = parts.split_last().unwrap();
    assert!(rest.iter().all(|part| part.header.is_none() && part.count == 0 && !part.more));
    assert_eq!((last.header, last.count, last.more), (member.header(101), 100, false));
    let streamed: Vec<_> = parts.iter().flat_map(|part| part.kvs.clone()).collect();
    let at_once = member.kv().range(range("k", "l")).await.unwrap().into_inner().kvs;
    assert_eq!(streamed, at_once);
}

#[tokio::test]
async fn a_limit_leaves_more() {
    let member = Member::alone().await;
    fill(&member, 40).await;
    let parts = collect(&member, pb::RangeRequest { limit: 25, ..range("k", "l") }).await;
    let last = parts.last().unwrap();
    assert_eq!((last.count, last.more), (40, true));
    assert_eq!(parts.iter().map(|part| part.kvs.len()).sum::<usize>(), 25);
    let exact = collect(&member, pb::RangeRequest { limit: 40, ..range("k", "l") }).await;
    let last = exact.last().unwrap();
    assert_eq!((last.count, last.more), (40, false));
}

#[tokio::test]
async fn counting_takes_one_message() {
    let member = Member::alone().await;
    fill(&member, 30).await;
    let parts = collect(&member, pb::RangeRequest { count_only: true, ..range("k", "l") }).await;
    assert_eq!(parts, [pb::RangeResponse { header: member.header(31), count: 30, ..Default::default() }]);
    let none = collect(&member, range("x", "y")).await;
    assert_eq!(none, [pb::RangeResponse { header: member.header(31), ..Default::default() }]);
}

#[tokio::test]
async fn writes_after_the_start_are_not_seen() {
    // Values large enough that the parts cannot all wait in the connection's windows.
    let member = Member::alone_with(|options| options.request_bytes_max = 64 << 10).await;
    let large: bytes::Bytes = vec![b'v'; 32 << 10].into();
    for number in 0..400 {
        let key = format!("k{number:04}").into_bytes().into();
        let put = pb::PutRequest { key, value: large.clone(), ..Default::default() };
        member.kv().put(put).await.unwrap();
    }
    let mut stream = member.kv().range_stream(range("k", "l")).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().range_response.unwrap();
    assert_eq!(first.kvs.len(), 10);
    member
        .kv()
        .delete_range(pb::DeleteRangeRequest { key: "k0399".into(), ..Default::default() })
        .await
        .unwrap();
    let (mut keys, mut last) = (first.kvs.len(), first);
    while let Some(part) = stream.message().await.unwrap() {
        last = part.range_response.unwrap();
        keys += last.kvs.len();
    }
    assert_eq!((keys, last.count, last.header), (400, 400, member.header(401)));
}

#[tokio::test]
async fn refused_as_etcd_refuses() {
    let member = Member::alone().await;
    let ask = |request: pb::RangeRequest| {
        let mut kv = member.kv();
        async move { kv.range_stream(request).await.map(drop) }
    };
    assert_error(ask(range("", "")).await, errors::EMPTY_KEY);
    let sorted = pb::RangeRequest { sort_order: 2, ..range("a", "b") };
    assert_status(ask(sorted).await, Code::Unimplemented, "RangeStream does not support custom sort orders");
    let filtered = pb::RangeRequest { min_mod_revision: 2, ..range("a", "b") };
    assert_status(ask(filtered).await, Code::Unimplemented, "RangeStream does not support revision filters");
    let mut future = member
        .kv()
        .range_stream(pb::RangeRequest { revision: 9, ..range("a", "b") })
        .await
        .unwrap()
        .into_inner();
    assert_error(future.message().await, errors::FUTURE_REVISION);
}
