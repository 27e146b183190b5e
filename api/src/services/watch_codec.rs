//! The protobuf bytes of watch responses.
//!
//! Owns: the encoding of events (field 11 of `WatchResponse`), made once per event and shared by all its receivers,
//! and of the small head that differs per receiver. Called by: the hub (events), the watch body (heads).
//! Invariants: a head followed by any number of encoded events is one `WatchResponse`, because protobuf messages may
//! be concatenated; the encoding of a list is the concatenation of its elements' encodings.
//! Source: `api/etcdserverpb/rpc.proto`, `api/mvccpb/kv.proto` (field numbers).

use bytes::{BufMut, BytesMut};
use keelson_mvcc::types::{Event, EventKind, KeyValue};
use keelson_proto::etcdserverpb::WatchResponse;
use keelson_watch::FrameCodec;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::one_message::PREFIX_BYTES;

const EVENTS: u8 = 11 << 3 | 2;
const TYPE: u8 = 1 << 3;
const KV: u8 = 2 << 3 | 2;
const PREV_KV: u8 = 3 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = 5 << 3 | 2;
const LEASE: u8 = 6 << 3;

/// Encodes events for the hub.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchCodec;

impl FrameCodec for WatchCodec {
    fn events(&self, events: &[&Event], prev_kv: bool, out: &mut BytesMut) {
        for event in events {
            encode_event(event, prev_kv, out);
        }
    }
}

fn encode_event(event: &Event, with_prev: bool, out: &mut BytesMut) {
    let prev = event.prev.as_ref().filter(|_| with_prev);
    let type_len = if event.kind == EventKind::Delete { 2 } else { 0 };
    let kv_len = key_value_len(&event.kv);
    let prev_len = prev.map(key_value_len);
    let event_len = type_len + field_len(kv_len) + prev_len.map_or(0, field_len);
    out.reserve(field_len(event_len));
    out.put_u8(EVENTS);
    encode_varint(event_len as u64, out);
    if event.kind == EventKind::Delete {
        out.put_slice(&[TYPE, 1]);
    }
    out.put_u8(KV);
    encode_varint(kv_len as u64, out);
    encode_key_value(&event.kv, out);
    if let (Some(prev), Some(prev_len)) = (prev, prev_len) {
        out.put_u8(PREV_KV);
        encode_varint(prev_len as u64, out);
        encode_key_value(prev, out);
    }
}

/// A field with a length: tag, length, content.
fn field_len(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

fn key_value_len(kv: &KeyValue) -> usize {
    let bytes = |bytes: &[u8]| if bytes.is_empty() { 0 } else { field_len(bytes.len()) };
    let number = |number: i64| if number == 0 { 0 } else { 1 + encoded_len_varint(number as u64) };
    bytes(&kv.key)
        + number(kv.create_revision)
        + number(kv.mod_revision)
        + number(kv.version)
        + bytes(&kv.value)
        + number(kv.lease)
}

fn encode_key_value(kv: &KeyValue, out: &mut BytesMut) {
    put_bytes(KEY, &kv.key, out);
    put_number(CREATE_REVISION, kv.create_revision, out);
    put_number(MOD_REVISION, kv.mod_revision, out);
    put_number(VERSION, kv.version, out);
    put_bytes(VALUE, &kv.value, out);
    put_number(LEASE, kv.lease, out);
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut BytesMut) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

fn put_number(tag: u8, number: i64, out: &mut BytesMut) {
    if number != 0 {
        out.put_u8(tag);
        encode_varint(number as u64, out);
    }
}

/// Appends the gRPC prefix of a message of `head` and `events_len` more bytes, and the head itself.
pub(super) fn put_head(head: &WatchResponse, events_len: usize, out: &mut BytesMut) {
    debug_assert!(head.events.is_empty(), "events follow as shared bytes");
    let head_len = head.encoded_len();
    let message_len =
        u32::try_from(head_len + events_len).expect("a watch response fits gRPC's length field");
    out.reserve(PREFIX_BYTES + head_len);
    out.put_u8(0);
    out.put_u32(message_len);
    head.encode_raw(out);
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use keelson_proto::{etcdserverpb::ResponseHeader, mvccpb};

    use super::*;
    use crate::convert;

    fn kv(value: &'static str, lease: i64) -> KeyValue {
        KeyValue {
            key: "key".into(),
            value: value.into(),
            create_revision: 3,
            mod_revision: 300,
            version: 2,
            lease,
        }
    }

    fn as_message(event: &Event, with_prev: bool) -> mvccpb::Event {
        mvccpb::Event {
            r#type: i32::from(event.kind == EventKind::Delete),
            kv: Some(convert::key_value(event.kv.clone())),
            prev_kv: event.prev.clone().filter(|_| with_prev).map(convert::key_value),
        }
    }

    fn samples() -> Vec<Event> {
        let tombstone = KeyValue { key: "key".into(), mod_revision: 301, ..Default::default() };
        vec![
            Event { kind: EventKind::Put, kv: kv("value", -5), prev: None, sub: 0 },
            Event { kind: EventKind::Put, kv: kv("", 0), prev: Some(kv("old", 7)), sub: 1 },
            Event { kind: EventKind::Delete, kv: tombstone, prev: Some(kv("old", 0)), sub: 2 },
        ]
    }

    #[test]
    fn head_and_events_decode_to_the_whole_response() {
        let events = samples();
        for with_prev in [false, true] {
            let mut encoded = BytesMut::new();
            WatchCodec.events(&events.iter().collect::<Vec<_>>(), with_prev, &mut encoded);
            let head = WatchResponse {
                header: Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 301, raft_term: 4 }),
                watch_id: 9,
                fragment: true,
                ..Default::default()
            };
            let mut message = BytesMut::new();
            put_head(&head, encoded.len(), &mut message);
            message.extend_from_slice(&encoded);

            assert_eq!(message.get_u8(), 0);
            assert_eq!(message.get_u32() as usize, message.remaining());
            let decoded = WatchResponse::decode(message).unwrap();
            let wanted = events.iter().map(|event| as_message(event, with_prev)).collect();
            assert_eq!(decoded, WatchResponse { events: wanted, ..head });
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_encoder() {
        for event in samples() {
            let mut ours = BytesMut::new();
            WatchCodec.events(&[&event], true, &mut ours);
            let theirs = WatchResponse { events: vec![as_message(&event, true)], ..Default::default() };
            assert_eq!(ours.as_ref(), theirs.encode_to_vec());
        }
    }

    #[test]
    fn a_list_is_the_concatenation_of_its_elements() {
        let events = samples();
        let (mut whole, mut parts) = (BytesMut::new(), BytesMut::new());
        WatchCodec.events(&events.iter().collect::<Vec<_>>(), true, &mut whole);
        for event in &events {
            WatchCodec.events(&[event], true, &mut parts);
        }
        assert_eq!(whole, parts);
    }
}
