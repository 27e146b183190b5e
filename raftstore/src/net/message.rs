//! The messages between members, as bytes.
//!
//! Owns: the format. Called by: `net::client`, `net::server`. Invariants: decoding is total; the first byte is the
//! version of the protocol, and a receiver refuses another one, naming both; payloads of entries are slices of what
//! was received, never copied here (except out of large receive buffers, see [`own`]).
//!
//! ```text
//! first message of a call, stream or upload:
//!   1 version, 8 cluster, 8 from, 8 to, 1 kind, then the request
//! request of a stream after the first:  the append request alone
//! append:   vote 17, prev 1|17, commit 1|17, 8 first index, 4 count, count x (8 term, 4 length), payloads
//! answer:   0 and the result, or 1 and why it is refused
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use openraft::RaftTypeConfig;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::Frame;
use crate::codec::{
    self, MembershipRow, get_log_id, get_log_id_option, get_vote, put_log_id, put_log_id_option, put_vote,
};
use crate::consensus::{MemberError, NewMember, TimeoutCause};
use crate::types::{Entry, LogId, MemberId, Vote};
use crate::wire::{Reader, WireError, len_u32, put_bytes};

/// Version of the protocol between members.
pub const PROTOCOL_VERSION: u8 = 1;

/// Received messages up to this size are copied into a buffer of their own before their entries are kept, because a
/// small slice would keep the whole receive buffer alive; larger ones mostly consist of entries anyway.
pub const OWN_BYTES_MAX: usize = 16 << 10;

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Envelope {
    pub cluster: u64,
    pub from: MemberId,
    pub to: MemberId,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Heartbeat = 1,
    Vote = 2,
    PreVote = 3,
    TransferLeader = 4,
    Forward = 5,
    ReadIndex = 6,
    Member = 7,
    Call = 8,
    Confirm = 9,
    Append = 16,
    Snapshot = 17,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Kind::Heartbeat,
            2 => Kind::Vote,
            3 => Kind::PreVote,
            4 => Kind::TransferLeader,
            5 => Kind::Forward,
            6 => Kind::ReadIndex,
            7 => Kind::Member,
            8 => Kind::Call,
            9 => Kind::Confirm,
            16 => Kind::Append,
            17 => Kind::Snapshot,
            tag => return Err(WireError::Unknown { what: "message kind", tag: tag.into() }),
        })
    }
}

/// Starts a message.
pub fn begin(envelope: Envelope, kind: Kind) -> BytesMut {
    let mut out = BytesMut::with_capacity(128);
    out.put_u8(PROTOCOL_VERSION);
    out.put_u64_le(envelope.cluster);
    out.put_u64_le(envelope.from);
    out.put_u64_le(envelope.to);
    out.put_u8(kind as u8);
    out
}

/// Who sent a message that begins a call, stream or upload; read without looking at anything else.
pub fn sender(message: &[u8]) -> Option<MemberId> {
    let from = message.get(9..17)?;
    Some(MemberId::from_le_bytes(from.try_into().ok()?))
}

/// Reads the start of a message.
///
/// # Errors
/// Another protocol version gives [`WireError::Unknown`] with `what` = "protocol version".
pub fn opened(message: Bytes) -> Result<(Envelope, Kind, Reader), WireError> {
    let mut reader = Reader::new(message);
    match reader.u8("protocol version")? {
        PROTOCOL_VERSION => {}
        tag => return Err(WireError::Unknown { what: "protocol version", tag: tag.into() }),
    }
    let cluster = reader.u64("cluster")?;
    let from = reader.u64("from")?;
    let to = reader.u64("to")?;
    let kind = Kind::from_byte(reader.u8("message kind")?)?;
    Ok((Envelope { cluster, from, to }, kind, reader))
}

/// The message in a buffer that holds nothing else, where that is worth a copy.
pub fn own(message: Bytes) -> Bytes {
    if message.len() <= OWN_BYTES_MAX { Bytes::copy_from_slice(&message) } else { message }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not of this protocol.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The sender speaks another version.
    #[error("protocol version {theirs} is not supported, only {ours}")]
    #[allow(missing_docs)]
    Version { theirs: u64, ours: u64 },
    /// The sender belongs to another cluster.
    #[error("cluster id mismatch: this member is of cluster {ours:x}, the message of {theirs:x}")]
    #[allow(missing_docs)]
    Cluster { ours: u64, theirs: u64 },
    /// The message is for another member.
    #[error("member id mismatch: this is member {ours:x}, the message is for {wanted:x}")]
    #[allow(missing_docs)]
    Member { ours: u64, wanted: u64 },
    /// The sender was removed from the cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// This member stops, or is not ready to answer that.
    #[error("not available: {0}")]
    Unavailable(String),
    /// A call's handler said no.
    #[error("{0}")]
    Handler(String),
}

impl Refusal {
    fn put(&self, out: &mut BytesMut) {
        let (tag, first, second, text) = match self {
            Refusal::Malformed(text) => (1, 0, 0, text.as_str()),
            Refusal::Version { theirs, ours } => (2, *theirs, *ours, ""),
            Refusal::Cluster { ours, theirs } => (3, *ours, *theirs, ""),
            Refusal::Member { ours, wanted } => (4, *ours, *wanted, ""),
            Refusal::Removed => (5, 0, 0, ""),
            Refusal::Unavailable(text) => (6, 0, 0, text.as_str()),
            Refusal::Handler(text) => (7, 0, 0, text.as_str()),
        };
        out.put_u8(tag);
        out.put_u64_le(first);
        out.put_u64_le(second);
        put_bytes(out, text.as_bytes());
    }

    fn get(reader: &mut Reader) -> Result<Self, WireError> {
        let tag = reader.u8("refusal")?;
        let first = reader.u64("refusal")?;
        let second = reader.u64("refusal")?;
        let text = reader.string("refusal")?;
        Ok(match tag {
            1 => Refusal::Malformed(text),
            2 => Refusal::Version { theirs: first, ours: second },
            3 => Refusal::Cluster { ours: first, theirs: second },
            4 => Refusal::Member { ours: first, wanted: second },
            5 => Refusal::Removed,
            6 => Refusal::Unavailable(text),
            7 => Refusal::Handler(text),
            tag => return Err(WireError::Unknown { what: "refusal", tag: tag.into() }),
        })
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Unknown { what: "protocol version", tag } => {
                Refusal::Version { theirs: tag, ours: PROTOCOL_VERSION.into() }
            }
            error => Refusal::Malformed(error.to_string()),
        }
    }
}

/// An answer: the result, or why there is none.
pub fn answer(result: Result<BytesMut, Refusal>) -> Bytes {
    match result {
        Ok(mut body) => {
            // The bodies are small; a byte in front is worth a move of them.
            let mut out = BytesMut::with_capacity(1 + body.len());
            out.put_u8(0);
            out.unsplit(body.split());
            out.freeze()
        }
        Err(refusal) => {
            let mut out = BytesMut::with_capacity(64);
            out.put_u8(1);
            refusal.put(&mut out);
            out.freeze()
        }
    }
}

/// The inverse of [`answer`].
///
/// # Errors
/// Bytes of another format.
pub fn answered(message: Bytes) -> Result<Result<Reader, Refusal>, WireError> {
    let mut reader = Reader::new(message);
    match reader.u8("answer")? {
        0 => Ok(Ok(reader)),
        1 => {
            let refusal = Refusal::get(&mut reader)?;
            reader.end()?;
            Ok(Err(refusal))
        }
        tag => Err(WireError::Unknown { what: "answer", tag: tag.into() }),
    }
}

/// The append request, after `start` (the beginning of a message, or nothing). Payloads are not copied.
pub fn append_request<C>(mut start: BytesMut, request: &AppendEntriesRequest<C>) -> Frame
where
    C: RaftTypeConfig<Entry = Entry, Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let head = &mut start;
    head.reserve(80 + 12 * request.entries.len());
    put_vote(head, &request.vote);
    put_log_id_option(head, request.prev_log_id.as_ref());
    put_log_id_option(head, request.leader_commit.as_ref());
    head.put_u64_le(request.entries.first().map_or(0, |entry| entry.log_id.index));
    head.put_u32_le(len_u32(request.entries.len()));
    let mut payloads = Vec::with_capacity(request.entries.len() + 1);
    payloads.push(Bytes::new());
    for entry in &request.entries {
        let payload = codec::encode_payload(&entry.payload);
        head.put_u64_le(entry.log_id.leader_id.term);
        head.put_u32_le(len_u32(payload.len()));
        payloads.push(payload);
    }
    payloads[0] = start.freeze();
    Frame::new(payloads)
}

/// Reads an append request; entries share memory with the message.
pub fn get_append_request<C>(mut reader: Reader) -> Result<AppendEntriesRequest<C>, WireError>
where
    C: RaftTypeConfig<Entry = Entry, Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let vote = get_vote(&mut reader)?;
    let prev_log_id = get_log_id_option(&mut reader)?;
    let leader_commit = get_log_id_option(&mut reader)?;
    let first = reader.u64("first index")?;
    let count = reader.count(12, "entry count")?;
    if first.checked_add(count as u64).is_none() {
        return Err(WireError::Invalid("first index"));
    }
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        heads.push((reader.u64("entry term")?, reader.u32("entry length")? as usize));
    }
    let mut rest = reader.rest();
    let mut entries = Vec::with_capacity(count);
    for (offset, (term, len)) in heads.into_iter().enumerate() {
        if len > rest.len() {
            return Err(WireError::Truncated("entry payload"));
        }
        let payload = rest.split_to(len);
        entries.push(codec::entry(term, first + offset as u64, &payload)?);
    }
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// Writes the result of an append.
pub fn put_append_result<C>(out: &mut BytesMut, result: &StreamAppendResult<C>)
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    match result {
        Ok(matching) => {
            out.put_u8(0);
            put_log_id_option(out, matching.as_ref());
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            out.put_u8(1);
            put_log_id(out, log_id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            put_vote(out, vote);
        }
    }
}

/// Reads the result of an append.
pub fn get_append_result<C>(mut reader: Reader) -> Result<StreamAppendResult<C>, WireError>
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let result = match reader.u8("append result")? {
        0 => Ok(get_log_id_option(&mut reader)?),
        1 => Err(StreamAppendError::Conflict(get_log_id(&mut reader)?)),
        2 => Err(StreamAppendError::HigherVote(get_vote(&mut reader)?)),
        tag => return Err(WireError::Unknown { what: "append result", tag: tag.into() }),
    };
    reader.end()?;
    Ok(result)
}

/// Writes a vote request.
pub fn put_vote_request<C>(out: &mut BytesMut, request: &VoteRequest<C>)
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    put_vote(out, &request.vote);
    put_log_id_option(out, request.last_log_id.as_ref());
    out.put_u8(request.leadership_transfer.into());
}

/// Reads a vote request.
pub fn get_vote_request<C>(mut reader: Reader) -> Result<VoteRequest<C>, WireError>
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let vote = get_vote(&mut reader)?;
    let mut request = VoteRequest::new(vote, get_log_id_option(&mut reader)?);
    request.leadership_transfer = reader.bool("leadership transfer")?;
    reader.end()?;
    Ok(request)
}

/// Writes the answer to a vote request.
pub fn put_vote_response<C>(out: &mut BytesMut, response: &VoteResponse<C>)
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    put_vote(out, &response.vote);
    out.put_u8(response.vote_granted.into());
    put_log_id_option(out, response.last_log_id.as_ref());
}

/// Reads the answer to a vote request.
pub fn get_vote_response<C>(mut reader: Reader) -> Result<VoteResponse<C>, WireError>
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let vote = get_vote(&mut reader)?;
    let granted = reader.bool("vote granted")?;
    let response = VoteResponse::new(vote, get_log_id_option(&mut reader)?, granted);
    reader.end()?;
    Ok(response)
}

/// Writes a request to take leadership over.
pub fn put_transfer_request<C>(out: &mut BytesMut, request: &TransferLeaderRequest<C>)
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId, NodeId = MemberId>,
{
    put_vote(out, request.from_leader());
    out.put_u64_le(*request.to_node_id());
    put_log_id_option(out, request.last_log_id());
}

/// Reads a request to take leadership over.
pub fn get_transfer_request<C>(mut reader: Reader) -> Result<TransferLeaderRequest<C>, WireError>
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId, NodeId = MemberId>,
{
    let from = get_vote(&mut reader)?;
    let to = reader.u64("transfer target")?;
    let request = TransferLeaderRequest::new(from, to, get_log_id_option(&mut reader)?);
    reader.end()?;
    Ok(request)
}

/// Writes the answer to a transfer.
pub fn put_transfer_response<C>(out: &mut BytesMut, response: &TransferLeaderResponse<C>)
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    match response {
        Ok(()) => out.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.put_u8(1);
            put_vote(out, expected);
            put_vote(out, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.put_u8(2);
            put_log_id_option(out, expected.as_ref());
            put_log_id_option(out, actual.as_ref());
        }
    }
}

/// Reads the answer to a transfer.
pub fn get_transfer_response<C>(mut reader: Reader) -> Result<TransferLeaderResponse<C>, WireError>
where
    C: RaftTypeConfig<Vote = Vote, LeaderId = crate::types::LeaderId>,
{
    let response = match reader.u8("transfer result")? {
        0 => Ok(()),
        1 => {
            let expected = get_vote(&mut reader)?;
            Err(TransferLeaderError::VoteChanged { expected, actual: get_vote(&mut reader)? })
        }
        2 => {
            let expected = get_log_id_option(&mut reader)?;
            Err(TransferLeaderError::LogNotFlushed { expected, actual: get_log_id_option(&mut reader)? })
        }
        tag => return Err(WireError::Unknown { what: "transfer result", tag: tag.into() }),
    };
    reader.end()?;
    Ok(response)
}

/// What became of a forwarded batch at the member it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It is applied there; the sender finds its replies in its own apply.
    Applied(LogId),
    /// It was certainly not appended: try again elsewhere or later.
    NotAppended {
        /// Who leads instead, if known.
        leader: Option<MemberId>,
    },
    /// It left that member's log; outcome unknown.
    Discarded,
}

impl Forwarded {
    /// Writes it.
    pub fn put(&self, out: &mut BytesMut) {
        match self {
            Forwarded::Applied(log_id) => {
                out.put_u8(0);
                put_log_id(out, log_id);
            }
            Forwarded::NotAppended { leader } => {
                out.put_u8(1);
                out.put_u8(leader.is_some().into());
                out.put_u64_le(leader.unwrap_or(0));
            }
            Forwarded::Discarded => out.put_u8(2),
        }
    }

    /// Reads it.
    pub fn get(mut reader: Reader) -> Result<Self, WireError> {
        let forwarded = match reader.u8("forward result")? {
            0 => Forwarded::Applied(get_log_id(&mut reader)?),
            1 => {
                let known = reader.bool("leader known")?;
                let leader = reader.u64("leader")?;
                Forwarded::NotAppended { leader: known.then_some(leader) }
            }
            2 => Forwarded::Discarded,
            tag => return Err(WireError::Unknown { what: "forward result", tag: tag.into() }),
        };
        reader.end()?;
        Ok(forwarded)
    }
}

/// A change of the membership, as any member may ask the leader for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MemberChange {
    Add(NewMember),
    Promote(MemberId),
    Remove(MemberId),
    Update { id: MemberId, peer_urls: Vec<String> },
}

fn put_urls(out: &mut BytesMut, urls: &[String]) {
    out.put_u32_le(len_u32(urls.len()));
    urls.iter().for_each(|url| put_bytes(out, url.as_bytes()));
}

fn get_urls(reader: &mut Reader) -> Result<Vec<String>, WireError> {
    let count = reader.count(4, "peer urls")?;
    (0..count).map(|_| reader.string("peer url")).collect()
}

impl MemberChange {
    /// Writes it.
    pub fn put(&self, out: &mut BytesMut) {
        match self {
            MemberChange::Add(member) => {
                out.put_u8(1);
                out.put_u64_le(member.id);
                out.put_u8(member.learner.into());
                put_urls(out, &member.peer_urls);
            }
            MemberChange::Promote(id) => {
                out.put_u8(2);
                out.put_u64_le(*id);
            }
            MemberChange::Remove(id) => {
                out.put_u8(3);
                out.put_u64_le(*id);
            }
            MemberChange::Update { id, peer_urls } => {
                out.put_u8(4);
                out.put_u64_le(*id);
                put_urls(out, peer_urls);
            }
        }
    }

    /// Reads it.
    pub fn get(reader: &mut Reader) -> Result<Self, WireError> {
        let tag = reader.u8("member change")?;
        let id = reader.u64("member id")?;
        Ok(match tag {
            1 => {
                let learner = reader.bool("learner")?;
                MemberChange::Add(NewMember { id, learner, peer_urls: get_urls(reader)? })
            }
            2 => MemberChange::Promote(id),
            3 => MemberChange::Remove(id),
            4 => MemberChange::Update { id, peer_urls: get_urls(reader)? },
            tag => return Err(WireError::Unknown { what: "member change", tag: tag.into() }),
        })
    }
}

/// Writes what a change of the membership gave: the log id to wait for, or the error. `None`: not the leader.
pub fn put_member_result(out: &mut BytesMut, result: &Result<LogId, Option<MemberError>>) {
    let (tag, text) = match result {
        Ok(log_id) => {
            out.put_u8(0);
            put_log_id(out, log_id);
            return;
        }
        Err(None) => (1, ""),
        Err(Some(error)) => match error {
            MemberError::NotFound => (2, ""),
            MemberError::Exists => (3, ""),
            MemberError::PeerUrlExists => (4, ""),
            MemberError::TooManyLearners => (5, ""),
            MemberError::NotEnoughStarted => (6, ""),
            MemberError::Unhealthy => (7, ""),
            MemberError::NotLearner => (8, ""),
            MemberError::LearnerNotReady => (9, ""),
            MemberError::Timeout(_) => (10, ""),
            MemberError::Stopped => (11, ""),
            MemberError::Refused(text) => (12, text.as_str()),
        },
    };
    out.put_u8(tag);
    put_bytes(out, text.as_bytes());
}

/// Reads what a change of the membership gave.
pub fn get_member_result(mut reader: Reader) -> Result<Result<LogId, Option<MemberError>>, WireError> {
    let tag = reader.u8("member result")?;
    if tag == 0 {
        let log_id = get_log_id(&mut reader)?;
        reader.end()?;
        return Ok(Ok(log_id));
    }
    let text = reader.string("member error")?;
    reader.end()?;
    Ok(Err(match tag {
        1 => None,
        2 => Some(MemberError::NotFound),
        3 => Some(MemberError::Exists),
        4 => Some(MemberError::PeerUrlExists),
        5 => Some(MemberError::TooManyLearners),
        6 => Some(MemberError::NotEnoughStarted),
        7 => Some(MemberError::Unhealthy),
        8 => Some(MemberError::NotLearner),
        9 => Some(MemberError::LearnerNotReady),
        10 => Some(MemberError::Timeout(TimeoutCause::Plain)),
        11 => Some(MemberError::Stopped),
        12 => Some(MemberError::Refused(text)),
        tag => return Err(WireError::Unknown { what: "member result", tag: tag.into() }),
    }))
}

/// Writes the head of a snapshot: the leader's vote, its position and the membership row. Chunks follow as messages of
/// their own, each with the number and checksum `keelson_mvcc::Export` gives it.
pub fn put_snapshot_head(out: &mut BytesMut, vote: &Vote, last: &LogId, row: &MembershipRow) {
    put_vote(out, vote);
    put_log_id(out, last);
    put_bytes(out, &row.encode());
}

/// Reads the head of a snapshot.
pub fn get_snapshot_head(mut reader: Reader) -> Result<(Vote, LogId, MembershipRow), WireError> {
    let vote = get_vote(&mut reader)?;
    let last = get_log_id(&mut reader)?;
    let row = MembershipRow::decode(&reader.bytes("membership row")?)?;
    reader.end()?;
    Ok((vote, last, row))
}

#[cfg(test)]
mod message_test;
