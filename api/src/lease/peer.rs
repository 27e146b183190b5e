//! What members ask the leader about leases: two small messages and their answers.
//!
//! Owns: their bytes. Called by: [`super::LeaseManager`] on both sides. Invariants: the first byte of an answer is its
//! kind; an unknown kind or a malformed body counts as no answer, so a newer member cannot mislead an older one.
//! Source: etcd `server/lease/leasehttp` (the same two questions over HTTP).

use bytes::{BufMut, Bytes, BytesMut};
use keelson_mvcc::types::LeaseId;
use keelson_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use prost::Message;

use super::TimeToLive;

/// Renew a lease.
pub(crate) const KIND_LEASE_RENEW: u8 = 1;
/// How long does a lease still live?
pub(crate) const KIND_LEASE_TIME_TO_LIVE: u8 = 2;

const FOUND: u8 = 1;
const NOT_FOUND: u8 = 2;
const NOT_LEADING: u8 = 3;

pub(super) fn encode_renew(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

pub(super) fn decode_renew(body: &[u8]) -> Option<LeaseId> {
    body.try_into().ok().map(LeaseId::from_be_bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenewReply {
    Renewed(i64),
    NotFound,
    NotLeading,
}

impl RenewReply {
    pub(super) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(9);
        match self {
            RenewReply::Renewed(ttl_s) => {
                out.put_u8(FOUND);
                out.put_i64(ttl_s);
            }
            RenewReply::NotFound => out.put_u8(NOT_FOUND),
            RenewReply::NotLeading => out.put_u8(NOT_LEADING),
        }
        out.freeze()
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        match body.split_first()? {
            (&FOUND, ttl_s) => Some(RenewReply::Renewed(i64::from_be_bytes(ttl_s.try_into().ok()?))),
            (&NOT_FOUND, []) => Some(RenewReply::NotFound),
            (&NOT_LEADING, []) => Some(RenewReply::NotLeading),
            _ => None,
        }
    }
}

pub(super) fn encode_time_to_live(id: LeaseId, keys: bool) -> Bytes {
    LeaseTimeToLiveRequest { id, keys }.encode_to_vec().into()
}

pub(super) fn decode_time_to_live_request(body: &[u8]) -> Option<(LeaseId, bool)> {
    LeaseTimeToLiveRequest::decode(body).ok().map(|request| (request.id, request.keys))
}

pub(super) fn encode_time_to_live_reply(found: Option<&TimeToLive>) -> Bytes {
    let Some(found) = found else { return Bytes::from_static(&[NOT_FOUND]) };
    let message = LeaseTimeToLiveResponse {
        ttl: found.ttl_s,
        granted_ttl: found.granted_s,
        keys: found.keys.clone(),
        ..Default::default()
    };
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(FOUND);
    out.put_slice(&message.encode_to_vec());
    out.freeze()
}

/// `None`: not an answer. `Some(None)`: no such lease.
pub(super) fn decode_time_to_live(body: &Bytes) -> Option<Option<TimeToLive>> {
    match *body.first()? {
        NOT_FOUND if body.len() == 1 => Some(None),
        FOUND => {
            let message = LeaseTimeToLiveResponse::decode(body.slice(1..)).ok()?;
            Some(Some(TimeToLive { ttl_s: message.ttl, granted_s: message.granted_ttl, keys: message.keys }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_back_as_it_was() {
        assert_eq!(decode_renew(&encode_renew(-7)), Some(-7));
        for reply in [RenewReply::Renewed(60), RenewReply::NotFound, RenewReply::NotLeading] {
            assert_eq!(RenewReply::decode(&reply.encode()), Some(reply));
        }
        assert_eq!(decode_time_to_live_request(&encode_time_to_live(9, true)), Some((9, true)));
        let found = TimeToLive { ttl_s: 5, granted_s: 60, keys: vec!["a".into(), "b".into()] };
        assert_eq!(decode_time_to_live(&encode_time_to_live_reply(Some(&found))), Some(Some(found)));
        assert_eq!(decode_time_to_live(&encode_time_to_live_reply(None)), Some(None));
    }

    #[test]
    fn noise_is_no_answer() {
        for noise in [&b""[..], b"\x09", b"\x01", b"\x01short", b"\x02more", b"\x03more"] {
            assert_eq!(RenewReply::decode(noise), None, "{noise:?}");
        }
        assert_eq!(decode_renew(b"short"), None);
        assert_eq!(decode_time_to_live(&Bytes::from_static(b"\x07")), None);
        assert_eq!(decode_time_to_live(&Bytes::from_static(b"\x01\xff")), None);
    }
}
