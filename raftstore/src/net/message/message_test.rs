//! Tests of the message formats: everything comes back, nothing panics.

use openraft_rt_tokio::TokioRuntime;
use proptest::prelude::*;

use super::*;
use crate::types::{LeaderId, Payload, Types};

type C = Types<TokioRuntime>;

fn vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>())
        .prop_map(|(term, voted_for, committed)| Vote { leader_id: LeaderId { term, voted_for }, committed })
}

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogId::new_term_index(term, index))
}

fn append() -> impl Strategy<Value = AppendEntriesRequest<C>> {
    let payloads =
        proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6);
    (vote(), proptest::option::of(log_id()), proptest::option::of(log_id()), 0..u64::MAX / 2, payloads)
        .prop_map(|(vote, prev_log_id, leader_commit, first, payloads)| {
            let entries = payloads.into_iter().enumerate().map(|(offset, (term, bytes))| {
                let payload = match bytes.len() {
                    0 => Payload::Blank,
                    _ => Payload::Normal(crate::types::Batch(Bytes::from([&[1], &bytes[..]].concat()))),
                };
                Entry { log_id: LogId::new_term_index(term, first + offset as u64), payload }
            });
            AppendEntriesRequest { vote, prev_log_id, entries: entries.collect(), leader_commit }
        })
}

const ENVELOPE: Envelope = Envelope { cluster: 5, from: 1, to: 2 };

proptest! {
    #[test]
    fn append_requests_come_back(request in append()) {
        let bytes = append_request(begin(ENVELOPE, Kind::Append), &request).into_bytes();
        let (envelope, kind, reader) = opened(bytes).unwrap();
        prop_assert_eq!((envelope, kind), (ENVELOPE, Kind::Append));
        prop_assert_eq!(sender(&begin(ENVELOPE, Kind::Append)), Some(ENVELOPE.from));
        let back: AppendEntriesRequest<C> = get_append_request(reader).unwrap();
        prop_assert_eq!(back.vote, request.vote);
        prop_assert_eq!(back.prev_log_id, request.prev_log_id);
        prop_assert_eq!(back.leader_commit, request.leader_commit);
        prop_assert_eq!(back.entries, request.entries);
    }

    #[test]
    fn results_and_votes_come_back(vote in vote(), log_id in proptest::option::of(log_id()), granted: bool) {
        let mut results: Vec<StreamAppendResult<C>> = vec![Ok(log_id), Err(StreamAppendError::HigherVote(vote))];
        results.extend(log_id.map(|log_id| Err(StreamAppendError::Conflict(log_id))));
        for result in results {
            let mut out = BytesMut::new();
            put_append_result::<C>(&mut out, &result);
            let reader = answered(answer(Ok(out))).unwrap().unwrap();
            prop_assert_eq!(get_append_result::<C>(reader).unwrap(), result);
        }
        let mut request = VoteRequest::<C>::new(vote, log_id);
        request.leadership_transfer = granted;
        let mut out = BytesMut::new();
        put_vote_request(&mut out, &request);
        prop_assert_eq!(get_vote_request::<C>(Reader::new(out.freeze())).unwrap(), request);
        let response = VoteResponse::<C>::new(vote, log_id, granted);
        let mut out = BytesMut::new();
        put_vote_response(&mut out, &response);
        prop_assert_eq!(get_vote_response::<C>(Reader::new(out.freeze())).unwrap(), response);
        let request = TransferLeaderRequest::<C>::new(vote, 7, log_id);
        let mut out = BytesMut::new();
        put_transfer_request(&mut out, &request);
        prop_assert_eq!(get_transfer_request::<C>(Reader::new(out.freeze())).unwrap(), request);
    }

    #[test]
    fn decoding_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let bytes = Bytes::from(bytes);
        let _ = opened(bytes.clone());
        let _ = answered(bytes.clone());
        let reader = || Reader::new(bytes.clone());
        let _ = get_append_request::<C>(reader());
        let _ = get_append_result::<C>(reader());
        let _ = get_vote_request::<C>(reader());
        let _ = get_vote_response::<C>(reader());
        let _ = get_transfer_request::<C>(reader());
        let _ = get_transfer_response::<C>(reader());
        let _ = Forwarded::get(reader());
        let _ = MemberChange::get(&mut reader());
        let _ = get_member_result(reader());
        let _ = get_snapshot_head(reader());
        // Prefixes of something valid reach deeper.
        let entries = vec![Entry { log_id: LogId::new_term_index(1, 1), payload: Payload::Blank }; 3];
        let vote = Vote { leader_id: LeaderId { term: 1, voted_for: 1 }, committed: true };
        let request = AppendEntriesRequest::<C> { vote, prev_log_id: None, entries, leader_commit: None };
        let whole = append_request(BytesMut::new(), &request).into_bytes();
        let prefix = whole.slice(..cut.min(whole.len() - 1));
        prop_assert!(get_append_request::<C>(Reader::new(prefix)).is_err());
    }
}

#[test]
fn member_changes_and_errors_come_back() {
    let urls = vec!["http://a:1".to_string(), "http://b:2".to_string()];
    for change in [
        MemberChange::Add(NewMember { id: 4, peer_urls: urls.clone(), learner: true }),
        MemberChange::Promote(4),
        MemberChange::Remove(4),
        MemberChange::Update { id: 4, peer_urls: urls },
    ] {
        let mut out = BytesMut::new();
        change.put(&mut out);
        let mut reader = Reader::new(out.freeze());
        assert_eq!(MemberChange::get(&mut reader).expect("decodes"), change);
        reader.end().expect("nothing left");
    }
    for result in [
        Ok(LogId::new_term_index(3, 9)),
        Err(None),
        Err(Some(MemberError::NotFound)),
        Err(Some(MemberError::Exists)),
        Err(Some(MemberError::PeerUrlExists)),
        Err(Some(MemberError::TooManyLearners)),
        Err(Some(MemberError::NotEnoughStarted)),
        Err(Some(MemberError::Unhealthy)),
        Err(Some(MemberError::NotLearner)),
        Err(Some(MemberError::LearnerNotReady)),
        Err(Some(MemberError::Timeout(TimeoutCause::Plain))),
        Err(Some(MemberError::Stopped)),
        Err(Some(MemberError::Refused("why".into()))),
    ] {
        let mut out = BytesMut::new();
        put_member_result(&mut out, &result);
        assert_eq!(get_member_result(Reader::new(out.freeze())).expect("decodes"), result);
    }
    for forwarded in [
        Forwarded::Applied(LogId::new_term_index(3, 9)),
        Forwarded::NotAppended { leader: Some(0) },
        Forwarded::NotAppended { leader: None },
        Forwarded::Discarded,
    ] {
        let mut out = BytesMut::new();
        forwarded.put(&mut out);
        assert_eq!(Forwarded::get(Reader::new(out.freeze())).expect("decodes"), forwarded);
    }
}

#[test]
fn refusals_come_back_and_read_well() {
    for refusal in [
        Refusal::Malformed("x".into()),
        Refusal::Version { theirs: 2, ours: 1 },
        Refusal::Cluster { ours: 0xa, theirs: 0xb },
        Refusal::Member { ours: 1, wanted: 2 },
        Refusal::Removed,
        Refusal::Unavailable("x".into()),
        Refusal::Handler("x".into()),
    ] {
        assert_eq!(answered(answer(Err(refusal.clone()))).expect("decodes").err(), Some(refusal));
    }
    let text = Refusal::Cluster { ours: 0xa, theirs: 0xb }.to_string();
    assert_eq!(text, "cluster id mismatch: this member is of cluster a, the message of b");
}

#[test]
fn entries_are_not_copied_on_the_way_out_and_shared_on_the_way_in() {
    let payload = Bytes::from(vec![1; 50_000]);
    let entry = Entry {
        log_id: LogId::new_term_index(1, 3),
        payload: Payload::Normal(crate::types::Batch(payload.clone())),
    };
    let vote = Vote { leader_id: LeaderId { term: 1, voted_for: 1 }, committed: true };
    let request =
        AppendEntriesRequest::<C> { vote, prev_log_id: None, entries: vec![entry], leader_commit: None };
    let frame = append_request(BytesMut::new(), &request);
    assert!(frame.pieces().iter().any(|piece| piece.as_ptr() == payload.as_ptr()));
    let received = own(frame.into_bytes());
    let back: AppendEntriesRequest<C> = get_append_request(Reader::new(received.clone())).expect("decodes");
    let Payload::Normal(batch) = &back.entries[0].payload else { panic!("a batch") };
    let range = received.as_ptr_range();
    assert!(range.contains(&batch.0.as_ptr()), "a slice of what was received");
}
