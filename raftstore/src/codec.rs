//! Bytes of everything Raft itself stores: votes, log ids, memberships, and which kind an entry's payload is.
//!
//! Owns: the formats below. Called by: `log_store` (WAL payloads), `net::message` (the same payloads on the wire),
//! `state_machine` (membership row). Invariant: decoding is total; an unknown format is an error, never a guess.
//!
//! An entry's payload starts with its format: 0 = blank (nothing follows), 1 = batch (see [`crate::batch`]),
//! 2 = membership. The membership row kept with the data carries the ids that were ever removed as well.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::FORMAT_BATCH;
use crate::types::{
    Batch, Entry, LeaderId, LogId, MemberId, MemberNode, Membership, Payload, StoredMembership, Vote,
};
use crate::wire::{Reader, WireError, len_u32, put_bytes};

const FORMAT_BLANK: u8 = 0;
const FORMAT_MEMBERSHIP: u8 = 2;
const FORMAT_VOTE: u8 = 1;
const FORMAT_MEMBERSHIP_ROW: u8 = 1;

/// Bytes of an encoded log id.
pub const LOG_ID_BYTES: usize = 16;

/// Writes a log id: term, index.
pub fn put_log_id(out: &mut impl BufMut, log_id: &LogId) {
    out.put_u64_le(log_id.leader_id.term);
    out.put_u64_le(log_id.index);
}

/// Reads a log id.
pub fn get_log_id(reader: &mut Reader) -> Result<LogId, WireError> {
    let term = reader.u64("log id term")?;
    let index = reader.u64("log id index")?;
    Ok(LogId::new_term_index(term, index))
}

/// Writes an optional log id: 0, or 1 and the log id.
pub fn put_log_id_option(out: &mut impl BufMut, log_id: Option<&LogId>) {
    match log_id {
        None => out.put_u8(0),
        Some(log_id) => {
            out.put_u8(1);
            put_log_id(out, log_id);
        }
    }
}

/// Reads an optional log id.
pub fn get_log_id_option(reader: &mut Reader) -> Result<Option<LogId>, WireError> {
    if reader.bool("log id presence")? { get_log_id(reader).map(Some) } else { Ok(None) }
}

/// A log id on its own, as the WAL keeps purged and committed positions.
pub fn encode_log_id(log_id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(LOG_ID_BYTES);
    put_log_id(&mut out, log_id);
    out.freeze()
}

/// The inverse of [`encode_log_id`].
///
/// # Errors
/// Bytes of another format.
pub fn decode_log_id(bytes: &Bytes) -> Result<LogId, WireError> {
    let mut reader = Reader::new(bytes.clone());
    let log_id = get_log_id(&mut reader)?;
    reader.end()?;
    Ok(log_id)
}

/// Writes a vote: term, node, committed.
pub fn put_vote(out: &mut impl BufMut, vote: &Vote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(vote.committed.into());
}

/// Reads a vote.
pub fn get_vote(reader: &mut Reader) -> Result<Vote, WireError> {
    let term = reader.u64("vote term")?;
    let voted_for = reader.u64("vote node")?;
    let committed = reader.bool("vote committed")?;
    Ok(Vote { leader_id: LeaderId { term, voted_for }, committed })
}

/// A vote on its own, as the WAL keeps it.
pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(18);
    out.put_u8(FORMAT_VOTE);
    put_vote(&mut out, vote);
    out.freeze()
}

/// The inverse of [`encode_vote`].
///
/// # Errors
/// Bytes of another format.
pub fn decode_vote(bytes: &Bytes) -> Result<Vote, WireError> {
    let mut reader = Reader::new(bytes.clone());
    match reader.u8("vote format")? {
        FORMAT_VOTE => {}
        tag => return Err(WireError::Unknown { what: "vote format", tag: tag.into() }),
    }
    let vote = get_vote(&mut reader)?;
    reader.end()?;
    Ok(vote)
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u32_le(len_u32(configs.len()));
    for config in configs {
        out.put_u32_le(len_u32(config.len()));
        config.iter().for_each(|id| out.put_u64_le(*id));
    }
    out.put_u32_le(len_u32(membership.nodes().count()));
    for (id, node) in membership.nodes() {
        out.put_u64_le(*id);
        out.put_u8(node.joining.into());
        out.put_u32_le(len_u32(node.peer_urls.len()));
        node.peer_urls.iter().for_each(|url| put_bytes(out, url.as_bytes()));
    }
}

fn get_ids(reader: &mut Reader) -> Result<BTreeSet<MemberId>, WireError> {
    let count = reader.count(8, "ids")?;
    (0..count).map(|_| reader.u64("id")).collect()
}

fn get_membership(reader: &mut Reader) -> Result<Membership, WireError> {
    let configs = reader.count(4, "configs")?;
    let configs = (0..configs).map(|_| get_ids(reader)).collect::<Result<Vec<_>, _>>()?;
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.count(13, "nodes")? {
        let id = reader.u64("node id")?;
        let joining = reader.bool("joining")?;
        let urls = reader.count(4, "peer urls")?;
        let peer_urls = (0..urls).map(|_| reader.string("peer url")).collect::<Result<Vec<_>, _>>()?;
        nodes.insert(id, MemberNode { peer_urls, joining });
    }
    Membership::new(configs, nodes).map_err(|_| WireError::Invalid("membership"))
}

/// The payload bytes of an entry. A batch is its own payload: no copy.
pub fn encode_payload(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::from_static(&[FORMAT_BLANK]),
        Payload::Normal(batch) => batch.0.clone(),
        Payload::Membership(membership) => {
            let mut out = BytesMut::new();
            out.put_u8(FORMAT_MEMBERSHIP);
            put_membership(&mut out, membership);
            out.freeze()
        }
    }
}

/// The inverse of [`encode_payload`]. The inside of a batch is checked when it is applied.
///
/// # Errors
/// An empty payload, an unknown format or a malformed membership.
pub fn decode_payload(bytes: &Bytes) -> Result<Payload, WireError> {
    match bytes.first() {
        None => Err(WireError::Truncated("payload format")),
        Some(&FORMAT_BLANK) if bytes.len() == 1 => Ok(Payload::Blank),
        Some(&FORMAT_BATCH) => Ok(Payload::Normal(Batch(bytes.clone()))),
        Some(&FORMAT_MEMBERSHIP) => {
            let mut reader = Reader::new(bytes.slice(1..));
            let membership = get_membership(&mut reader)?;
            reader.end()?;
            Ok(Payload::Membership(membership))
        }
        Some(&tag) => Err(WireError::Unknown { what: "payload format", tag: tag.into() }),
    }
}

/// An entry from its parts.
///
/// # Errors
/// See [`decode_payload`].
pub fn entry(term: u64, index: u64, payload: &Bytes) -> Result<Entry, WireError> {
    Ok(Entry { log_id: LogId::new_term_index(term, index), payload: decode_payload(payload)? })
}

/// The membership as it is kept with the data: the last one applied, and every id ever removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipRow {
    /// The last membership applied.
    pub stored: StoredMembership,
    /// Ids that were members once and are not any more; never to be used again.
    pub removed: BTreeSet<MemberId>,
}

impl MembershipRow {
    /// The row after `membership` was applied at `log_id`: a function of the row and the entry alone.
    pub fn next(&self, log_id: LogId, membership: Membership) -> Self {
        let mut removed = self.removed.clone();
        let kept: BTreeSet<_> = membership.nodes().map(|(id, _)| *id).collect();
        removed.extend(self.stored.nodes().map(|(id, _)| *id).filter(|id| !kept.contains(id)));
        removed.retain(|id| !kept.contains(id));
        MembershipRow { stored: StoredMembership::new(Some(log_id), membership), removed }
    }

    /// The bytes kept with the data.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT_MEMBERSHIP_ROW);
        put_log_id_option(&mut out, self.stored.log_id().as_ref());
        put_membership(&mut out, self.stored.membership());
        out.put_u32_le(len_u32(self.removed.len()));
        self.removed.iter().for_each(|id| out.put_u64_le(*id));
        out.freeze()
    }

    /// The inverse of [`MembershipRow::encode`].
    ///
    /// # Errors
    /// Bytes of another format.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes.clone());
        match reader.u8("membership row format")? {
            FORMAT_MEMBERSHIP_ROW => {}
            tag => return Err(WireError::Unknown { what: "membership row format", tag: tag.into() }),
        }
        let log_id = get_log_id_option(&mut reader)?;
        let membership = get_membership(&mut reader)?;
        let removed = get_ids(&mut reader)?;
        reader.end()?;
        Ok(MembershipRow { stored: StoredMembership::new(log_id, membership), removed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(url: &str, joining: bool) -> MemberNode {
        MemberNode { peer_urls: vec![url.into()], joining }
    }

    fn membership(voters: &[u64], nodes: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> =
            nodes.iter().map(|id| (*id, node(&format!("http://{id}"), id % 2 == 0))).collect();
        Membership::new(vec![voters.iter().copied().collect()], nodes).expect("valid")
    }

    #[test]
    fn payloads_come_back_and_unknown_formats_are_refused() {
        let batch = Bytes::from_static(&[1, 2, 3]);
        for payload in [
            Payload::Blank,
            Payload::Normal(Batch(batch)),
            Payload::Membership(membership(&[1, 2], &[1, 2, 3])),
        ] {
            assert_eq!(decode_payload(&encode_payload(&payload)).expect("decodes"), payload);
        }
        assert!(decode_payload(&Bytes::new()).is_err());
        assert!(decode_payload(&Bytes::from_static(&[0, 0])).is_err());
        assert!(decode_payload(&Bytes::from_static(&[9])).is_err());
    }

    #[test]
    fn a_removed_id_is_remembered_for_ever() {
        let row = MembershipRow::default();
        let row = row.next(LogId::new_term_index(0, 0), membership(&[1, 2, 3], &[1, 2, 3]));
        assert!(row.removed.is_empty());
        let row = row.next(LogId::new_term_index(1, 4), membership(&[1, 2], &[1, 2]));
        let row = row.next(LogId::new_term_index(1, 5), membership(&[1, 2, 4], &[1, 2, 4]));
        assert_eq!(row.removed, BTreeSet::from([3]));
        assert_eq!(MembershipRow::decode(&row.encode()).expect("decodes"), row);
    }

    #[test]
    fn the_row_of_a_fresh_store_comes_back() {
        let row = MembershipRow::default();
        assert_eq!(MembershipRow::decode(&row.encode()).expect("decodes"), row);
    }

    proptest::proptest! {
        #[test]
        fn decoding_garbage_never_panics(bytes: Vec<u8>, format in 0u8..4) {
            let bytes = Bytes::from([vec![format], bytes].concat());
            let _ = decode_payload(&bytes);
            let _ = MembershipRow::decode(&bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_log_id(&bytes);
        }

        #[test]
        fn votes_and_log_ids_come_back(term: u64, node: u64, committed: bool, index: u64) {
            let vote = Vote { leader_id: LeaderId { term, voted_for: node }, committed };
            proptest::prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            let log_id = LogId::new_term_index(term, index);
            proptest::prop_assert_eq!(decode_log_id(&encode_log_id(&log_id)).unwrap(), log_id);
        }
    }
}
