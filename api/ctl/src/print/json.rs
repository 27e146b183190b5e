//! JSON as Go writes it for etcd's messages: their own field names, numbers as numbers, bytes in base64, nothing empty.
//!
//! Owns: the writer and its escapes. Invariant: fields stand in the order of their numbers. Called by: the printer.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keelson_proto::etcdserverpb as pb;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage, Value};

use super::{Health, Of};

static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(keelson_proto::FILE_DESCRIPTOR_SET).expect("the descriptors in this binary decode")
});

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl From<i64> for Json {
    fn from(number: i64) -> Self {
        Json::Number(number.to_string())
    }
}

impl Json {
    /// Bytes as Go writes them.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Json::Text(STANDARD.encode(bytes))
    }

    /// A message, by its descriptor.
    pub(crate) fn message<M: Message>(name: &str, message: &M) -> Self {
        let descriptor = SCHEMA.get_message_by_name(name).expect("a message of this API");
        let dynamic =
            DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).expect("encoded just now");
        object(&dynamic)
    }

    /// In one line.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => write!(out, "{value}").expect("writing to a text never fails"),
            Json::Number(number) => out.push_str(number),
            Json::Text(text) => write_text(out, text),
            Json::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_text(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Go escapes what could end a script element, too.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..'\u{20}' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("writing to a text never fails");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn object(message: &DynamicMessage) -> Json {
    let descriptor = message.descriptor();
    let present = descriptor.fields().filter(|field| message.has_field(field));
    Json::Object(present.map(|field| (field.name().to_owned(), value(&message.get_field(&field)))).collect())
}

fn value(value_: &Value) -> Json {
    match value_ {
        Value::Bool(value) => Json::Bool(*value),
        Value::I32(number) | Value::EnumNumber(number) => Json::from(i64::from(*number)),
        Value::I64(number) => Json::from(*number),
        Value::U32(number) => Json::Number(number.to_string()),
        Value::U64(number) => Json::Number(number.to_string()),
        Value::F32(number) => Json::Number(number.to_string()),
        Value::F64(number) => Json::Number(number.to_string()),
        Value::String(text) => Json::Text(text.clone()),
        Value::Bytes(bytes) => Json::bytes(bytes),
        Value::Message(message) => object(message),
        Value::List(items) => Json::List(items.iter().map(value).collect()),
        Value::Map(entries) => {
            let name = |key: &MapKey| key.as_str().map_or_else(String::new, str::to_owned);
            Json::Object(entries.iter().map(|(key, item)| (name(key), value(item))).collect())
        }
    }
}

/// A transaction's answer: what it holds is wrapped once more, as in etcd's own types.
pub(super) fn txn(answer: &pb::TxnResponse) -> Json {
    use pb::response_op::Response;
    let mut members = Vec::new();
    if let Some(header) = &answer.header {
        members.push(("header".to_owned(), Json::message("etcdserverpb.ResponseHeader", header)));
    }
    if answer.succeeded {
        members.push(("succeeded".to_owned(), Json::Bool(true)));
    }
    if !answer.responses.is_empty() {
        let one = |one: &pb::ResponseOp| {
            let inner = one.response.as_ref().map(|response| match response {
                Response::ResponseRange(answer) => {
                    ("response_range", Json::message("etcdserverpb.RangeResponse", answer))
                }
                Response::ResponsePut(answer) => {
                    ("response_put", Json::message("etcdserverpb.PutResponse", answer))
                }
                Response::ResponseDeleteRange(answer) => {
                    ("response_delete_range", Json::message("etcdserverpb.DeleteRangeResponse", answer))
                }
                Response::ResponseTxn(answer) => ("response_txn", txn(answer)),
            });
            let inner = inner.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Json::Object(vec![("Response".to_owned(), Json::Object(inner))])
        };
        members.push(("responses".to_owned(), Json::List(answer.responses.iter().map(one).collect())));
    }
    Json::Object(members)
}

/// A watch's answer, as etcd's client keeps it.
pub(super) fn watch(answer: &pb::WatchResponse) -> Json {
    let header = answer
        .header
        .as_ref()
        .map_or(Json::Null, |header| Json::message("etcdserverpb.ResponseHeader", header));
    let events = answer.events.iter().map(|event| Json::message("mvccpb.Event", event)).collect();
    Json::Object(vec![
        ("Header".to_owned(), header),
        ("Events".to_owned(), nullable(events)),
        ("CompactRevision".to_owned(), Json::from(answer.compact_revision)),
        ("Canceled".to_owned(), Json::Bool(answer.canceled)),
        ("Created".to_owned(), Json::Bool(answer.created)),
        ("CancelReason".to_owned(), Json::Text(answer.cancel_reason.clone())),
    ])
}

pub(super) fn health(list: &[Health]) -> Json {
    let one = |health: &Health| {
        let mut members = vec![
            ("endpoint".to_owned(), Json::Text(health.endpoint.clone())),
            ("health".to_owned(), Json::Bool(health.healthy)),
            ("took".to_owned(), Json::Text(health.took.clone())),
        ];
        if !health.error.is_empty() {
            members.push(("error".to_owned(), Json::Text(health.error.clone())));
        }
        Json::Object(members)
    };
    nullable(list.iter().map(one).collect())
}

pub(super) fn endpoints<M: Message>(label: &str, name: &str, list: &[Of<M>]) -> Json {
    let one = |of: &Of<M>| {
        Json::Object(vec![
            ("Endpoint".to_owned(), Json::Text(of.endpoint.clone())),
            (label.to_owned(), Json::message(name, &of.answer)),
        ])
    };
    nullable(list.iter().map(one).collect())
}

/// A list that was never begun is nothing in Go.
fn nullable(items: Vec<Json>) -> Json {
    if items.is_empty() { Json::Null } else { Json::List(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_own_names_and_nothing_empty() {
        let answer = pb::RangeResponse {
            header: Some(pb::ResponseHeader { cluster_id: u64::MAX, revision: 3, ..Default::default() }),
            kvs: vec![keelson_proto::mvccpb::KeyValue { key: "a".into(), lease: -1, ..Default::default() }],
            ..Default::default()
        };
        let want = r#"{"header":{"cluster_id":18446744073709551615,"revision":3},"kvs":[{"key":"YQ==","lease":-1}]}"#;
        assert_eq!(Json::message("etcdserverpb.RangeResponse", &answer).render(), want);
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        assert_eq!(
            Json::Text("<a & \"b\">\u{1}\u{8}\u{2028}é".to_owned()).render(),
            r#""\u003ca \u0026 \"b\"\u003e\u0001\b\u2028é""#
        );
    }
}
