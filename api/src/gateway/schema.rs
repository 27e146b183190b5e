//! Messages by their descriptors, as JSON.
//!
//! Owns: the schema of this binary. Invariant: no message is known by name here, so a new field or method
//! needs no change.
//! Source: the JSON mapping of protobuf; the options etcd gives its gateway (names as in the schema, no default values,
//! unknown fields ignored).

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde::de::Error;
use tonic::Status;

/// Made at the first request: a server nobody talks JSON to does not pay for it.
static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(keelson_proto::FILE_DESCRIPTOR_SET).expect("the descriptors in this binary decode")
});

/// Everything the services speak.
pub(super) fn schema() -> &'static DescriptorPool {
    &SCHEMA
}

/// A method by the names of its service and its own.
pub(super) fn method(service: &str, name: &str) -> Option<MethodDescriptor> {
    schema().get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// A message from its JSON.
pub(super) fn from_json(
    kind: MessageDescriptor,
    json: &mut serde_json::Deserializer<serde_json::de::SliceRead<'_>>,
) -> Result<DynamicMessage, serde_json::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(kind, json, &options)
}

/// The JSON of a message, its fields in the order of the schema.
pub(super) fn to_json(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let mut json = Vec::new();
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)?;
    String::from_utf8(json).map_err(serde_json::Error::custom)
}

/// The first message in a body; an empty body is an empty message, and what follows the first one is ignored.
pub(super) fn first_message(kind: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Status> {
    if body.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(kind));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    from_json(kind, &mut json).map_err(not_a_message)
}

/// What is answered to JSON that is not the message asked for.
pub(super) fn not_a_message(error: serde_json::Error) -> Status {
    match error.is_eof() {
        true => Status::invalid_argument("unexpected EOF"),
        false => Status::invalid_argument(format!("proto: {error}")),
    }
}

/// Messages from a body that comes in pieces, one JSON object after the other.
#[derive(Default)]
pub(super) struct Pieces {
    buffer: Vec<u8>,
}

impl Pieces {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// Bytes that are no whole message yet.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole message, `None` while there is none. `ended`: nothing will come any more.
    pub(super) fn next(
        &mut self,
        kind: &MessageDescriptor,
        ended: bool,
    ) -> Option<Result<DynamicMessage, Status>> {
        if self.buffer.trim_ascii().is_empty() {
            self.buffer.clear();
            return None;
        }
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde_json::Value>();
        let value = match values.next()? {
            Err(error) if error.is_eof() && !ended => return None,
            value => value,
        };
        let taken = values.byte_offset();
        let message = value.and_then(|value| {
            let options = DeserializeOptions::new().deny_unknown_fields(false);
            DynamicMessage::deserialize_with_options(kind.clone(), value, &options)
                .map_err(serde_json::Error::custom)
        });
        self.buffer.drain(..taken.min(self.buffer.len()));
        Some(message.map_err(not_a_message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> MessageDescriptor {
        schema().get_message_by_name(name).expect("a message of the schema")
    }

    fn check(name: &str, json: &str, expected: &str) {
        let message = first_message(kind(name), json.as_bytes()).unwrap();
        assert_eq!(to_json(&message).unwrap(), expected);
    }

    #[test]
    fn json_is_read_and_written_as_etcd_does() {
        let range = "etcdserverpb.RangeRequest";
        check(range, "", "{}");
        check(range, " \n", "{}");
        check(range, r#"{"key":"Zm9v","rangeEnd":"Zm9w"}"#, r#"{"key":"Zm9v","range_end":"Zm9w"}"#);
        check(
            range,
            r#"{"key":"eA","limit":5,"revision":"7"}"#,
            r#"{"key":"eA==","limit":"5","revision":"7"}"#,
        );
        check(
            range,
            r#"{"sort_order":"DESCEND","sort_target":2}"#,
            r#"{"sort_order":"DESCEND","sort_target":"CREATE"}"#,
        );
        check(range, r#"{"sort_order":"X","unknown":[1],"key":null}"#, "{}");
        check(range, r#"{"key":"-_8="}"#, r#"{"key":"+/8="}"#);
        check(range, r#"{}{"key":"#, "{}");
        check(
            "etcdserverpb.Member",
            r#"{"ID":"7","peerURLs":["http://a"]}"#,
            r#"{"ID":"7","peerURLs":["http://a"]}"#,
        );
        check("etcdserverpb.HashResponse", r#"{"hash":7}"#, r#"{"hash":7}"#);
        for wrong in [r#"{"key":5}"#, r#"{"limit":"x"}"#, "[]", "{", "x", r#"{"serializable":"yes"}"#] {
            let refused = first_message(kind(range), wrong.as_bytes()).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn messages_come_out_of_pieces_however_they_are_cut() {
        let json = br#" {"create_request":{"key":"YQ=="}}  {"cancel_request":{"watch_id":"1"}}{} "#;
        let kind = kind("etcdserverpb.WatchRequest");
        for cut in 0..json.len() {
            let mut pieces = Pieces::default();
            let mut found = Vec::new();
            for (piece, ended) in [(&json[..cut], false), (&json[cut..], true)] {
                pieces.add(piece);
                while let Some(message) = pieces.next(&kind, ended) {
                    found.push(to_json(&message.unwrap()).unwrap());
                }
            }
            let expected =
                [r#"{"create_request":{"key":"YQ=="}}"#, r#"{"cancel_request":{"watch_id":"1"}}"#, "{}"];
            assert_eq!(found, expected, "cut at {cut}");
        }
        let mut pieces = Pieces::default();
        pieces.add(b"{\"create");
        assert!(pieces.next(&kind, false).is_none());
        assert!(pieces.next(&kind, true).is_some_and(|message| message.is_err()));
    }
}
