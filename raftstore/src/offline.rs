//! What is done to the log of a member that does not run: beginning one behind data that came from elsewhere, and giving a
//! member whose quorum is lost a log in which it is alone.
//!
//! Owns: the first and the last entry of such logs. Called by: the commands that import, restore and recover.
//! Invariants: a log that is begun stands where a member stands that has just installed a snapshot; a log that is recovered
//! holds every entry the old one held, committed or not, and one more: nothing this member has ever acknowledged is lost.
//! Source: etcd `server/etcdserver/bootstrap.go` (`createConfigChangeEnts`) for the idea of an entry that ends a membership.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use keelson_mvcc::codec as commands;
use keelson_mvcc::types::{Command, LogPosition};
use keelson_wal::{Disk, EntryRecord, Op, OpenError, Options, Recovered, Wal, WalError};

use crate::batch;
use crate::codec::{self, MembershipRow};
use crate::membership::sorted;
use crate::types::{LeaderId, LogId, MemberId, MemberNode, Membership, Payload, Vote, log_id};

/// Bytes of entries copied at once.
const COPY_BYTES: u64 = 4 << 20;

/// Why a log was not made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The log does not open; another process may have it open.
    #[error("open the log")]
    Open(#[from] OpenError),
    /// The disk.
    #[error("write the log")]
    Write(#[from] WalError),
    /// An entry cannot be read back, or means nothing to this version.
    #[error("read the log")]
    Read(#[from] io::Error),
    /// There is something in the folder.
    #[error("there is a log already")]
    NotEmpty,
}

/// What the log of a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its last entry, or the position up to which it was purged.
    pub last: Option<LogPosition>,
    /// Up to here the entries are known to be committed; the ones behind may be.
    pub committed: Option<LogPosition>,
    /// The latest term it has voted in.
    pub term: u64,
    /// The membership of the last entry that has one; `None` if the data have a later one.
    pub membership: Option<Vec<(MemberId, MemberNode)>>,
    /// Who may vote, by that membership.
    pub voters: Vec<MemberId>,
    /// Facts of the layer above that entries set, the newest of each; the data may have later ones, or not yet these.
    pub facts: BTreeMap<Bytes, Bytes>,
}

/// The membership row of a store whose first members these are, from `position` on.
pub fn first_membership(position: &LogPosition, members: &BTreeMap<MemberId, Vec<String>>) -> Bytes {
    let node = |urls: &Vec<String>| MemberNode { peer_urls: sorted(urls), joining: false };
    let nodes: BTreeMap<_, _> = members.iter().map(|(id, urls)| (*id, node(urls))).collect();
    let voters = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes).expect("voters are nodes");
    MembershipRow::default().next(log_id(position), membership).encode()
}

/// Begins the log of a member whose data cover everything up to `position`.
///
/// # Errors
/// A folder with a log, or the disk.
pub fn begin_log<D: Disk>(
    disk: D,
    dir: &Path,
    options: Options,
    position: &LogPosition,
) -> Result<(), OfflineError> {
    let member = options.identity.member;
    let (mut wal, recovered) = Wal::open(disk, dir, options)?;
    if !recovered.fresh {
        return Err(OfflineError::NotEmpty);
    }
    let through = log_id(position);
    wal.write(&[
        Op::Purge { through: through.index, position: codec::encode_log_id(&through) },
        vote(through.leader_id.term, member),
    ])?;
    wal.seal()?;
    Ok(())
}

/// Looks at the log of a member that does not run.
///
/// # Errors
/// A log that does not open or is not understood.
pub fn inspect<D: Disk>(disk: D, dir: &Path, options: Options) -> Result<Inspected, OfflineError> {
    let (wal, recovered) = Wal::open(disk, dir, options)?;
    let positions = Positions::of(&recovered)?;
    let mut membership = None;
    let mut facts = BTreeMap::new();
    each_entry(&wal, &recovered, |entry| {
        match codec::decode_payload(&entry.payload).map_err(io::Error::other)? {
            Payload::Membership(found) => membership = Some(found),
            Payload::Normal(batch) => {
                for bytes in batch::decode(&batch.0).map_err(io::Error::other)?.1 {
                    if let Command::MetaSet { key, value } =
                        commands::decode(bytes).map_err(io::Error::other)?
                    {
                        facts.insert(key, value);
                    }
                }
            }
            Payload::Blank => {}
        }
        Ok(())
    })?;
    let voters = membership.as_ref().map(|membership| membership.voter_ids().collect()).unwrap_or_default();
    Ok(Inspected {
        last: positions.last.as_ref().map(crate::types::position),
        committed: positions.committed.as_ref().map(crate::types::position),
        term: positions.term,
        membership: membership
            .map(|membership| membership.nodes().map(|(id, node)| (*id, node.clone())).collect()),
        voters,
        facts,
    })
}

/// Writes to `to` what the log in `from` holds, and behind it an entry by which `options_to.identity.member` is alone.
///
/// `peer_urls`: where that member is reached. `data`: the position of the member's data.
///
/// # Errors
/// A log that does not open, is not understood, or cannot be written.
pub fn recover_log<D: Disk>(
    disk: D,
    from: (&Path, Options),
    to: (&Path, Options),
    peer_urls: &[String],
    data: Option<&LogPosition>,
) -> Result<LogPosition, OfflineError> {
    let member = to.1.identity.member;
    let (source, recovered) = Wal::open(disk.clone(), from.0, from.1)?;
    let positions = Positions::of(&recovered)?;
    let (mut target, fresh) = Wal::open(disk, to.0, to.1)?;
    if !fresh.fresh {
        return Err(OfflineError::NotEmpty);
    }
    if let Some((through, position)) = recovered.purged.clone() {
        target.write(&[Op::Purge { through, position }])?;
    }
    let mut batch = Vec::new();
    let mut bytes = 0;
    each_entry(&source, &recovered, |entry| {
        bytes += entry.payload.len() as u64;
        batch.push(entry);
        if bytes >= COPY_BYTES {
            bytes = 0;
            write(&mut target, &mut batch)?;
        }
        Ok(())
    })?;
    write(&mut target, &mut batch).map_err(OfflineError::Read)?;
    // Behind everything this member has, under a term nobody has voted in.
    let next = positions.last.map_or(0, |last| last.index + 1).max(data.map_or(0, |data| data.index + 1));
    let term = positions.term.max(data.map_or(0, |data| data.term)) + 1;
    let node = MemberNode { peer_urls: sorted(peer_urls), joining: false };
    let membership = Membership::new(vec![[member].into()], BTreeMap::from([(member, node)]))
        .expect("the voter is a node");
    let alone = EntryRecord {
        index: next,
        term,
        leader: 0,
        payload: codec::encode_payload(&Payload::Membership(membership)),
    };
    target.write(&[vote(term, member)])?;
    write(&mut target, &mut vec![alone]).map_err(OfflineError::Read)?;
    target.seal()?;
    Ok(LogPosition { term, leader: 0, index: next })
}

/// What a recovered log says about itself.
struct Positions {
    last: Option<LogId>,
    committed: Option<LogId>,
    term: u64,
}

impl Positions {
    fn of(recovered: &Recovered) -> Result<Self, OfflineError> {
        let decode = |bytes: &Bytes| codec::decode_log_id(bytes).map_err(io::Error::other);
        let purged = recovered.purged.as_ref().map(|(_, bytes)| decode(bytes)).transpose()?;
        let committed = recovered.committed.as_ref().map(decode).transpose()?;
        let vote = recovered.vote.as_ref().map(codec::decode_vote).transpose().map_err(io::Error::other)?;
        let last = recovered.tail.last().map(|entry| LogId::new_term_index(entry.term, entry.index));
        let last = last.or(purged);
        let committed = committed.filter(|committed| last.is_some_and(|last| committed.index <= last.index));
        let term = vote.map_or(0, |vote| vote.leader_id.term).max(last.map_or(0, |last| last.leader_id.term));
        Ok(Positions { last, committed: committed.or(purged), term })
    }
}

fn vote(term: u64, member: MemberId) -> Op {
    let vote = Vote { leader_id: LeaderId { term, voted_for: member }, committed: false };
    Op::Vote(codec::encode_vote(&vote))
}

fn each_entry<D: Disk>(
    wal: &Wal<D>,
    recovered: &Recovered,
    mut visit: impl FnMut(EntryRecord) -> io::Result<()>,
) -> Result<(), OfflineError> {
    let (Some(first), Some(last)) = (recovered.first_index, recovered.last_index) else { return Ok(()) };
    let mut next = first;
    while next <= last {
        let entries = wal.read(next..last + 1, COPY_BYTES).map_err(io::Error::other)?;
        assert!(!entries.is_empty(), "the log holds entry {next}");
        for entry in entries {
            next = entry.index + 1;
            visit(entry)?;
        }
    }
    Ok(())
}

fn write<D: Disk>(wal: &mut Wal<D>, entries: &mut Vec<EntryRecord>) -> io::Result<()> {
    if !entries.is_empty() {
        wal.write(&[Op::Append(std::mem::take(entries))]).map_err(io::Error::other)?;
        wal.prepare().map_err(io::Error::other)?;
    }
    Ok(())
}
