//! Finds members whose data differ from the others'.
//!
//! Owns: the question one member asks the others ([`AppState::compare_history`]), its answer, and the verdict ([`judge`],
//! pure). Called by: the binary at its start and by its periodic checks; peers. Invariants: only histories at one
//! revision and one compaction mark are compared; a member that gave no answer is neither right nor wrong; with a
//! majority the others are named, without one nobody is.
//! Source: etcd `server/etcdserver/corrupt.go` (what is compared, the majority). There a leader takes itself for right in
//! the periodic check; here the majority is asked in every check, so a damaged leader is found, too.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use keelson_mvcc::types::Revision;
use tonic::Status;

use crate::{
    errors,
    state::{AppState, Size},
};

/// What is the hash of your history at a revision?
pub(crate) const KIND_HISTORY_HASH: u8 = 3;

/// How long a member waits until it has applied the revision it is asked for.
const CATCH_UP_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at that.
const CATCH_UP_POLL: Duration = Duration::from_millis(20);

/// A member's history at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryHash {
    /// As `HashKV` gives it.
    pub hash: u32,
    /// The revision it covers.
    pub revision: Revision,
    /// The compaction mark it was computed with.
    pub compacted: Revision,
}

/// What the members' answers mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No answer can be held against ours.
    NotCompared,
    /// Everybody who answered has what we have.
    Equal {
        /// Members compared with this one.
        compared: usize,
        /// This one and those are a majority.
        by_majority: bool,
    },
    /// A majority agrees; these differ from it.
    Outvoted(Vec<u64>),
    /// The histories differ, and no majority says who is right.
    Undecided,
}

/// A comparison with the other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// This member's history.
    pub own: HistoryHash,
    /// What it came to.
    pub verdict: Verdict,
}

/// Judges the answers of all other members; `None` where there is none.
pub fn judge(member: u64, own: HistoryHash, others: &[(u64, Option<HistoryHash>)]) -> Verdict {
    let comparable =
        |answer: &HistoryHash| (answer.revision, answer.compacted) == (own.revision, own.compacted);
    let compared = others.iter().filter_map(|(id, answer)| Some((*id, answer.filter(comparable)?.hash)));
    let hashes: Vec<(u64, u32)> = std::iter::once((member, own.hash)).chain(compared).collect();
    if hashes.len() == 1 {
        return Verdict::NotCompared;
    }
    let members = others.len() + 1;
    let majority = members / 2 + 1;
    if hashes.iter().all(|(_, hash)| *hash == own.hash) {
        return Verdict::Equal { compared: hashes.len() - 1, by_majority: hashes.len() >= majority };
    }
    let votes = |hash: u32| hashes.iter().filter(|(_, other)| *other == hash).count();
    match hashes.iter().find(|(_, hash)| votes(*hash) >= majority) {
        Some((_, right)) => {
            Verdict::Outvoted(hashes.iter().filter(|(_, hash)| hash != right).map(|(id, _)| *id).collect())
        }
        None => Verdict::Undecided,
    }
}

impl HistoryHash {
    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(20);
        out.put_u32(self.hash);
        out.put_i64(self.revision);
        out.put_i64(self.compacted);
        out.freeze()
    }

    /// `None`: malformed, which counts as no answer.
    fn decode(mut body: &[u8]) -> Option<Self> {
        (body.len() == 20).then(|| HistoryHash {
            hash: body.get_u32(),
            revision: body.get_i64(),
            compacted: body.get_i64(),
        })
    }
}

impl AppState {
    /// Compares this member's history at `revision` (0: the newest here) with that of the other members, which have
    /// `patience` to answer. Done once a majority has spoken, with `all` once everybody has.
    ///
    /// # Errors
    /// A revision that is compacted, or the engine.
    pub async fn compare_history(
        &self,
        revision: Revision,
        patience: Duration,
        all: bool,
    ) -> Result<Comparison, Status> {
        let revision = if revision == 0 { self.view().revision() } else { revision };
        let status = self.consensus.status();
        let members = self.consensus.members();
        let asked =
            members.members.iter().map(|member| member.id).filter(|id| *id != status.member).map(|id| {
                let call = self.consensus.call(id, KIND_HISTORY_HASH, encode_question(revision), patience);
                async move {
                    let answer = call.await;
                    if let Err(error) = &answer {
                        tracing::debug!(member = %format!("{id:x}"), %error, "no hash from a member");
                    }
                    (id, answer.ok().and_then(|body| HistoryHash::decode(&body)))
                }
            });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut others: Vec<_> = members.members.iter().map(|member| (member.id, None)).collect();
        others.retain(|(id, _)| *id != status.member);
        let own = self.history_hash(revision).await?;
        while let Some((id, answer)) = asked.next().await {
            others.iter_mut().filter(|(other, _)| *other == id).for_each(|(_, place)| *place = answer);
            match judge(status.member, own, &others) {
                Verdict::Equal { by_majority: true, .. } | Verdict::Outvoted(_) if !all => break,
                _ => {}
            }
        }
        Ok(Comparison { own, verdict: judge(status.member, own, &others) })
    }

    /// Answers another member.
    pub(crate) async fn handle_history_hash(&self, body: Bytes) -> Result<Bytes, String> {
        let revision = decode_question(&body).ok_or("malformed question for a hash")?;
        let deadline = self.clock.now() + CATCH_UP_WAIT;
        while self.view().revision() < revision && self.clock.now() < deadline {
            self.clock.sleep(CATCH_UP_POLL).await;
        }
        let own = self.history_hash(revision).await.map_err(|status| status.message().to_owned())?;
        Ok(own.encode())
    }

    async fn history_hash(&self, revision: Revision) -> Result<HistoryHash, Status> {
        let view = self.view();
        let read = move || view.hash_kv(revision).map_err(errors::from_read);
        let (hash, compacted, revision) = self.read_blocking(Size::Long, read).await?;
        Ok(HistoryHash { hash, revision, compacted })
    }
}

fn encode_question(revision: Revision) -> Bytes {
    Bytes::copy_from_slice(&revision.to_be_bytes())
}

fn decode_question(body: &[u8]) -> Option<Revision> {
    body.try_into().ok().map(Revision::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hash: u32, compacted: Revision) -> Option<HistoryHash> {
        Some(HistoryHash { hash, revision: 10, compacted })
    }

    /// Member 1 has hash 7 at mark 3; the others, from 2 on, have these.
    fn check(others: &[Option<HistoryHash>], expected: Verdict) {
        let others: Vec<_> = (2..).zip(others.iter().copied()).collect();
        assert_eq!(judge(1, at(7, 3).unwrap(), &others), expected, "{others:?}");
    }

    #[test]
    fn the_majority_is_right_wherever_this_member_stands() {
        check(&[at(7, 3), at(7, 3)], Verdict::Equal { compared: 2, by_majority: true });
        check(&[at(7, 3), at(8, 3)], Verdict::Outvoted(vec![3]));
        check(&[at(8, 3), at(8, 3)], Verdict::Outvoted(vec![1]));
        check(&[at(8, 3), at(8, 3), at(7, 3), at(7, 3)], Verdict::Outvoted(vec![2, 3]));
        check(&[at(8, 3), at(9, 3), at(7, 3), at(7, 3)], Verdict::Outvoted(vec![2, 3]));
    }

    #[test]
    fn without_a_majority_nobody_is_named() {
        check(&[at(8, 3)], Verdict::Undecided);
        check(&[at(8, 3), at(9, 3)], Verdict::Undecided);
        check(&[at(8, 3), None], Verdict::Undecided);
        check(&[at(8, 3), at(8, 3), at(7, 3)], Verdict::Undecided);
    }

    #[test]
    fn who_is_silent_or_compacted_elsewhere_is_not_compared() {
        check(&[], Verdict::NotCompared);
        check(&[None, None], Verdict::NotCompared);
        check(&[at(8, 4), None], Verdict::NotCompared);
        check(&[at(7, 3), None], Verdict::Equal { compared: 1, by_majority: true });
        check(&[at(7, 3), None, None, at(8, 4)], Verdict::Equal { compared: 1, by_majority: false });
        check(&[at(7, 3), at(8, 4)], Verdict::Equal { compared: 1, by_majority: true });
    }

    #[test]
    fn messages_come_back_and_malformed_ones_are_no_answer() {
        let hash = HistoryHash { hash: 0xdead_beef, revision: 12, compacted: -1 };
        assert_eq!(HistoryHash::decode(&hash.encode()), Some(hash));
        assert_eq!(HistoryHash::decode(&hash.encode()[1..]), None);
        assert_eq!(decode_question(&encode_question(-7)), Some(-7));
        assert_eq!(decode_question(b"short"), None);
    }
}
