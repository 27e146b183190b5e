//! Writes protobuf fields by hand: the stored objects are known by their shape, not by generated types.
//!
//! Owns: the encoding of tags and lengths. Called by: `data::kubernetes`.

/// A message under construction.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A string or bytes field.
    pub(super) fn text(&mut self, number: u64, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// An integer or boolean field.
    pub(super) fn number(&mut self, number: u64, value: u64) -> &mut Self {
        self.varint(number << 3);
        self.varint(value);
        self
    }

    /// A message field.
    pub(super) fn message(&mut self, number: u64, build: impl FnOnce(&mut Message)) -> &mut Self {
        let mut inner = Message::default();
        build(&mut inner);
        self.text(number, inner.0)
    }

    /// An entry of a map from strings to strings.
    pub(super) fn entry(&mut self, number: u64, key: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.message(number, |entry| {
            entry.text(1, key).text(2, value);
        })
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_decoder_reads_what_is_written() {
        let mut message = Message::default();
        message.text(1, "key").number(3, 300).text(5, vec![7; 128]);
        let kv = KeyValue::decode(message.0.as_slice()).expect("a key-value");
        assert_eq!((kv.key.as_ref(), kv.mod_revision, kv.value.len()), (&b"key"[..], 300, 128));
    }
}
