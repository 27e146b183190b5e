//! Watches over a real stream: replies, order, cancellation, progress, fragments.

use std::time::Duration;

use keelson_api::errors;
use keelson_proto::{
    etcdserverpb::{
        self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::kit::*;

struct Session {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Session {
    async fn open(member: &Member) -> Session {
        Session::open_with(member, |_| {}).await
    }

    async fn open_with(
        member: &Member,
        change: impl FnOnce(&mut tonic::Request<ReceiverStream<pb::WatchRequest>>),
    ) -> Session {
        let (requests, receiver) = mpsc::channel(64);
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        change(&mut request);
        let responses = member.watch().watch(request).await.unwrap().into_inner();
        Session { requests, responses }
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        soon(self.responses.message()).await.unwrap().expect("the stream goes on")
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        let reply = self.next().await;
        assert!(reply.created);
        reply
    }
}

fn on(key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn summary(response: &WatchResponse) -> Vec<String> {
    response
        .events
        .iter()
        .map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let kind = if event.r#type == mvccpb::event::EventType::Put as i32 { "put" } else { "delete" };
            let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
            format!("{kind} {key}={value}@{}", kv.mod_revision)
        })
        .collect()
}

#[tokio::test]
async fn a_watch_is_announced_and_then_told_everything() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    let created = session.create(on("a", "b")).await;
    let expected = WatchResponse { header: member.header(1), created: true, ..Default::default() };
    assert_eq!(created, expected, "ids begin at 0");
    member.put("a", "1").await;
    let first = session.next().await;
    assert_eq!((summary(&first), first.header), (vec!["put a=1@2".to_owned()], member.header(2)));
    member.put("b", "outside").await;
    member.kv().delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    let second = session.next().await;
    assert_eq!(summary(&second), ["delete a=@4"]);
    let tombstone = second.events[0].kv.clone().unwrap();
    assert_eq!(tombstone, mvccpb::KeyValue { key: "a".into(), mod_revision: 4, ..Default::default() });
}

#[tokio::test]
async fn one_revision_comes_in_one_response() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "z")).await;
    let put = |key: &'static str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: key.into(),
            ..Default::default()
        })),
    };
    let txn = pb::TxnRequest { success: vec![put("b"), put("a"), put("c")], ..Default::default() };
    member.kv().txn(txn).await.unwrap();
    assert_eq!(summary(&session.next().await), ["put b=@2", "put a=@2", "put c=@2"]);
}

#[tokio::test]
async fn the_past_is_replayed_from_the_asked_revision() {
    let member = Member::alone().await;
    for value in ["1", "2", "3"] {
        member.put("a", value).await;
    }
    let mut session = Session::open(&member).await;
    session.create(WatchCreateRequest { start_revision: 3, prev_kv: true, ..on("a", "") }).await;
    let replay = session.next().await;
    assert_eq!(summary(&replay), ["put a=2@3", "put a=3@4"]);
    let previous: Vec<_> = replay.events.iter().map(|e| e.prev_kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(previous, [2, 3]);
}

#[tokio::test]
async fn ids_are_chosen_or_given() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    assert_eq!(session.create(on("a", "")).await.watch_id, 0);
    assert_eq!(session.create(WatchCreateRequest { watch_id: 1, ..on("a", "") }).await.watch_id, 1);
    assert_eq!(session.create(on("a", "")).await.watch_id, 2, "a number in use is skipped");
    let twice = session.create(WatchCreateRequest { watch_id: 1, ..on("a", "") }).await;
    assert_eq!((twice.watch_id, twice.canceled), (-1, true));
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    let empty = session.create(on("b", "a")).await;
    assert_eq!((empty.watch_id, empty.canceled), (-1, true));
    assert_eq!(empty.cancel_reason, "mvcc: watcher range is empty");
    let negative = session.create(WatchCreateRequest { start_revision: -1, ..on("a", "") }).await;
    assert_eq!((negative.watch_id, negative.canceled, negative.header), (-1, true, member.header(1)));
    assert_eq!(negative.cancel_reason, errors::COMPACTED.text);
}

#[tokio::test]
async fn an_empty_key_is_the_smallest_and_all_can_be_watched() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("", "\0")).await;
    member.put("anything", "1").await;
    assert_eq!(summary(&session.next().await), ["put anything=1@2"]);
}

#[tokio::test]
async fn filters_leave_kinds_out() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(WatchCreateRequest { filters: vec![0, 55], ..on("a", "") }).await;
    member.put("a", "1").await;
    member.kv().delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    assert_eq!(summary(&session.next().await), ["delete a=@3"]);
}

#[tokio::test]
async fn cancellation_is_confirmed_once() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "")).await;
    session.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 77 })).await;
    session.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })).await;
    let canceled = session.next().await;
    let expected = WatchResponse { header: member.header(1), canceled: true, ..Default::default() };
    assert_eq!(canceled, expected, "an unknown id is passed over in silence");
    member.put("a", "1").await;
    session.create(on("b", "")).await;
}

#[tokio::test]
async fn a_compacted_start_is_told_the_mark() {
    let member = Member::alone().await;
    for _ in 0..4 {
        member.put("a", "v").await;
    }
    member.kv().compact(pb::CompactionRequest { revision: 4, physical: false }).await.unwrap();
    let mut session = Session::open(&member).await;
    session.create(WatchCreateRequest { start_revision: 2, watch_id: 9, ..on("a", "") }).await;
    let canceled = session.next().await;
    let expected = WatchResponse {
        header: member.header(0),
        watch_id: 9,
        canceled: true,
        compact_revision: 4,
        ..Default::default()
    };
    assert_eq!(canceled, expected);
    session.create(WatchCreateRequest { start_revision: 4, ..on("a", "") }).await;
    assert_eq!(
        summary(&session.next().await),
        ["put a=v@4", "put a=v@5"],
        "the mark itself is still complete"
    );
}

#[tokio::test]
async fn progress_is_told_on_request_and_at_intervals() {
    let member =
        Member::alone_with(|options| options.watch_progress_interval = Duration::from_secs(10)).await;
    let mut session = Session::open(&member).await;
    session.create(WatchCreateRequest { progress_notify: true, ..on("a", "") }).await;
    member.put("elsewhere", "1").await;
    session.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let progress = session.next().await;
    assert_eq!(progress, WatchResponse { header: member.header(2), watch_id: -1, ..Default::default() });
    for _ in 0..30 {
        member.cluster.clock.advance(Duration::from_secs(1));
        use keelson_api::clock::Clock;
        member.hub.tick(member.cluster.clock.now());
    }
    let notified = session.next().await;
    assert_eq!(notified, WatchResponse { header: member.header(2), ..Default::default() });
}

#[tokio::test]
async fn large_responses_are_split_only_where_allowed() {
    let member = Member::alone_with(|options| options.request_bytes_max = 1 << 20).await;
    let limit = member.state.options.message_bytes_max();
    let mut whole = Session::open(&member).await;
    let mut split = Session::open(&member).await;
    let value = bytes::Bytes::from(vec![b'v'; 100_000]);
    // Many keys in one revision: more than a message may hold, written by the log itself.
    let put = |number: u32| {
        keelson_mvcc::types::TxnOp::Put(keelson_mvcc::types::Put {
            key: format!("k{number:03}").into_bytes().into(),
            value: value.clone(),
            ..Default::default()
        })
    };
    whole.create(on("k", "l")).await;
    split.create(WatchCreateRequest { fragment: true, ..on("k", "l") }).await;
    let txn = keelson_mvcc::types::Txn { success: (0..40).map(put).collect(), ..Default::default() };
    member.cluster.apply(&keelson_mvcc::types::Command::Txn(txn));
    let at_once = whole.next().await;
    assert_eq!((at_once.events.len(), at_once.fragment), (40, false));
    let mut parts = vec![split.next().await];
    while parts.last().unwrap().fragment {
        parts.push(split.next().await);
    }
    assert!(parts.len() > 2);
    assert!(parts.iter().all(|part| prost::Message::encoded_len(part) < limit));
    assert!(parts.iter().all(|part| part.header == at_once.header));
    let joined: Vec<_> = parts.iter().flat_map(|part| part.events.clone()).collect();
    assert_eq!(joined, at_once.events);
}

#[tokio::test]
async fn many_watches_of_one_stream_share_an_event() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    for _ in 0..100 {
        session.create(on("a", "")).await;
    }
    let value: &'static str = "x".repeat(10_000).leak();
    member.put("a", value).await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        let response = session.next().await;
        assert_eq!(response.events[0].kv.as_ref().unwrap().value, value);
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_more_still_gets_events() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "")).await;
    let Session { requests, mut responses } = session;
    drop(requests);
    member.put("a", "1").await;
    let response = soon(responses.message()).await.unwrap().unwrap();
    assert_eq!(summary(&response), ["put a=1@2"]);
}

#[tokio::test]
async fn streams_that_need_a_leader_end_without_one() {
    let member = Member::alone().await;
    let needs = |request: &mut tonic::Request<ReceiverStream<pb::WatchRequest>>| {
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    };
    let mut strict = Session::open_with(&member, needs).await;
    let mut patient = Session::open(&member).await;
    strict.create(on("a", "")).await;
    patient.create(on("a", "")).await;
    member.control().leader = None;
    let ended = soon(async {
        loop {
            tokio::select! {
                biased;
                ended = strict.responses.message() => break ended,
                () = tokio::task::yield_now() => member.cluster.clock.advance(Duration::from_millis(500)),
            }
        }
    })
    .await;
    assert_error(ended, errors::NO_LEADER);
    member.control().leader = Some(1);
    member.put("a", "1").await;
    assert_eq!(summary(&patient.next().await), ["put a=1@2"], "others go on");
}

#[tokio::test]
async fn a_stopping_server_ends_its_streams() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "")).await;
    member.state.stop();
    assert_error(soon(session.responses.message()).await, errors::STOPPED);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "")).await;
    assert_eq!(member.hub.stats().watchers, 1);
    drop(session);
    until(|| member.hub.stats().watchers == 0).await;
}

#[tokio::test]
async fn an_unknown_request_is_passed_over() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.requests.send(pb::WatchRequest { request_union: None }).await.unwrap();
    session.create(on("a", "")).await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let member = Member::alone().await;
    let mut session = Session::open(&member).await;
    session.create(on("a", "")).await;
    let value: &'static str = "x".repeat(100_000).leak();
    for _ in 0..300 {
        member.put("a", value).await;
    }
    let (mut seen, mut last) = (0, 1);
    while seen < 300 {
        for event in session.next().await.events {
            let revision = event.kv.unwrap().mod_revision;
            assert_eq!(revision, last + 1);
            (seen, last) = (seen + 1, revision);
        }
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_the_stream() {
    let member = Member::alone_with(|options| options.request_bytes_max = 1024).await;
    let limit = member.state.options.message_bytes_max();
    let (requests, receiver) = mpsc::channel(1);
    let mut client =
        pb::watch_client::WatchClient::new(member.channel.clone()).max_encoding_message_size(64 << 20);
    let create = WatchCreateRequest { key: vec![b'k'; limit].into(), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let bytes = prost::Message::encoded_len(&request);
    requests.send(request).await.unwrap();
    let mut responses = client.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let text = format!("grpc: received message larger than max ({bytes} vs. {limit})");
    assert_status(soon(responses.message()).await, Code::ResourceExhausted, &text);
}
