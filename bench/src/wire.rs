//! Looks into encoded messages without decoding them: counting the events of a hundred thousand answers a second must
//! not cost more than sending them.
//!
//! Owns: the walk over protobuf fields. Called by: `watch`, `workload::list`.
//! Invariants: bytes that are not a message end the walk; nothing is read past the end.

/// The values of all length-delimited fields with this number, in order.
pub(crate) fn fields(mut message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            let value = match tag & 7 {
                0 => varint(&mut message).map(|_| &[][..]),
                1 => take(&mut message, 8),
                2 => varint(&mut message).and_then(|length| take(&mut message, length as usize)),
                5 => take(&mut message, 4),
                _ => None,
            }?;
            if tag >> 3 == number && tag & 7 == 2 {
                return Some(value);
            }
        }
    })
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(value)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use keelson_proto::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_walk_sees_what_the_decoder_sees() {
        let kv = |key: &'static str| KeyValue {
            key: key.into(),
            value: vec![b'v'; 300].into(),
            ..Default::default()
        };
        let message = RangeResponse {
            header: Some(ResponseHeader { cluster_id: u64::MAX, revision: 7, ..Default::default() }),
            kvs: vec![kv("a"), kv("b"), kv("c")],
            more: true,
            count: 1 << 40,
        };
        let bytes = message.encode_to_vec();
        let keys: Vec<&[u8]> = fields(&bytes, 2).filter_map(|kv| fields(kv, 1).next()).collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        assert_eq!(fields(&bytes, 1).count(), 1, "the header, and nothing with a higher number");
        for cut in 0..bytes.len() {
            assert!(fields(&bytes[..cut], 2).count() <= 3, "a message cut at {cut} ends the walk");
        }
    }
}
