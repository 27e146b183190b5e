//! Decoding requests and encoding answers, as the services do it.

mod common;

use bytes::{Bytes, BytesMut};
use common::guard;
use keelson_api::convert;
use keelson_api::services::WatchCodec;
use keelson_guard::Bound;
use keelson_mvcc::types::{Event, EventKind, KeyValue, RangeReply};
use keelson_proto::etcdserverpb as pb;
use keelson_watch::FrameCodec;
use prost::Message;

fn put() -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from(vec![b'k'; 32]),
        value: Bytes::from(vec![b'v'; 256]),
        ..Default::default()
    }
}

fn key_value() -> KeyValue {
    KeyValue {
        key: Bytes::from(vec![b'k'; 32]),
        value: Bytes::from(vec![b'v'; 256]),
        create_revision: 1000,
        mod_revision: 2000,
        version: 3,
        lease: 0,
    }
}

#[test]
fn a_put_is_decoded_into_slices_of_its_message() {
    let message = Bytes::from(put().encode_to_vec());
    guard("decode put", 1000, Bound { count: 0.0, bytes: 0.0 }, |_| {
        let request = pb::PutRequest::decode(message.clone()).expect("decodes");
        assert_eq!(convert::put(request).value.len(), 256);
    });
}

#[test]
fn a_guarded_update_is_decoded_with_an_allocation_per_list() {
    let compare = pb::Compare {
        key: put().key,
        target: pb::compare::CompareTarget::Mod as i32,
        target_union: Some(pb::compare::TargetUnion::ModRevision(7)),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(pb::request_op::Request::RequestPut(put()))],
        failure: vec![op(pb::request_op::Request::RequestRange(pb::RangeRequest {
            key: put().key,
            ..Default::default()
        }))],
    };
    let message = Bytes::from(request.encode_to_vec());
    // Three lists on the wire, two in the command: the guards are taken over.
    guard("decode transaction", 1000, Bound { count: 5.0, bytes: 2500.0 }, |_| {
        let request = pb::TxnRequest::decode(message.clone()).expect("decodes");
        assert_eq!(convert::txn(request).success.len(), 1);
    });
}

#[test]
fn the_answer_to_a_read_is_encoded_into_one_buffer() {
    let kv = key_value();
    // The list of one key-value, which the response takes over, and the encoded message.
    guard("encode range", 1000, Bound { count: 2.0, bytes: 420.0 }, |_| {
        let reply = RangeReply { kvs: vec![kv.clone()], more: false, count: 1 };
        let response = convert::range_response(pb::ResponseHeader::default(), reply);
        assert!(response.encode_to_vec().len() > 256);
    });
}

#[test]
fn a_watch_event_is_encoded_once_into_the_shared_buffer() {
    let event = Event { kind: EventKind::Put, kv: key_value(), prev: None, sub: 0 };
    let mut out = BytesMut::with_capacity(1 << 20);
    guard("encode event", 1000, Bound { count: 0.0, bytes: 0.0 }, |_| {
        out.clear();
        WatchCodec.events(&[&event], false, &mut out);
        assert!(out.len() > 256);
    });
}
