//! Watches: shapes of replies, order, atomicity, progress.

use super::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What a watch stream says next.
#[derive(Debug)]
pub(crate) enum WatchItem {
    Created(pb::WatchResponse),
    Canceled(pb::WatchResponse),
    Events(pb::WatchResponse),
    Progress(pb::WatchResponse),
    /// Nothing for a while.
    Silence,
}

/// A watch stream.
pub(crate) struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: tonic::Streaming<pb::WatchResponse>,
}

/// A watcher of all keys from now on.
pub(crate) fn everything() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        ..Default::default()
    }
}

impl Watch {
    pub(crate) async fn open(client: &Client, create: pb::WatchCreateRequest) -> Self {
        let (requests, queue) = mpsc::channel(64);
        let first =
            pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        requests.send(first).await.expect("an open queue");
        let responses =
            client.watch().watch(ReceiverStream::new(queue)).await.expect("a watch stream").into_inner();
        Self { requests, responses }
    }

    async fn send(&self, union: pb::watch_request::RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.expect("an open stream");
    }

    async fn create(&self, create: pb::WatchCreateRequest) {
        self.send(pb::watch_request::RequestUnion::CreateRequest(create)).await;
    }

    async fn cancel(&self, watch_id: i64) {
        self.send(pb::watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }

    pub(crate) async fn ask_progress(&self) {
        self.send(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    }

    pub(crate) async fn next(&mut self) -> WatchItem {
        self.within(Duration::from_secs(10)).await
    }

    /// The next item, or silence. Silence is only asserted where etcd is silent by design; the wait is then short.
    async fn within(&mut self, wait: Duration) -> WatchItem {
        match tokio::time::timeout(wait, self.responses.message()).await {
            Err(_) => WatchItem::Silence,
            Ok(response) => match response.expect("a message").expect("an open stream") {
                response if response.created => WatchItem::Created(response),
                response if response.canceled => WatchItem::Canceled(response),
                response if response.events.is_empty() => WatchItem::Progress(response),
                response => WatchItem::Events(response),
            },
        }
    }

    async fn events(&mut self) -> pb::WatchResponse {
        match self.next().await {
            WatchItem::Events(response) => response,
            other => panic!("events expected, got {other:?}"),
        }
    }

    async fn created(&mut self) -> pb::WatchResponse {
        match self.next().await {
            WatchItem::Created(response) => response,
            other => panic!("a confirmation expected, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_confirmation_comes_before_replayed_events() {
    alone(async |client| {
        put(&client, "a", "1").await;
        put(&client, "a", "2").await;
        let mut watch =
            Watch::open(&client, pb::WatchCreateRequest { start_revision: 2, ..everything() }).await;
        let created = watch.created().await;
        assert_eq!((created.watch_id, revision(&created.header), created.events.len()), (0, 3, 0));
        let replay = watch.events().await;
        assert_eq!((replay.events.len(), revision(&replay.header)), (2, 3));
        put(&client, "a", "3").await;
        let live = watch.events().await;
        assert_eq!((live.events.len(), revision(&live.header)), (1, 4));
    })
    .await;
}

#[tokio::test]
async fn all_events_of_a_transaction_come_together_in_order() {
    alone(async |client| {
        let mut watch = Watch::open(&client, everything()).await;
        watch.created().await;
        put(&client, "b", "0").await;
        watch.events().await;
        txn(&client, success(vec![put_op("c", "1"), delete_op("b", ""), put_op("a", "2")])).await.unwrap();
        let events = watch.events().await.events;
        let seen: Vec<(i32, &[u8])> =
            events.iter().map(|event| (event.r#type, &event.kv.as_ref().unwrap().key[..])).collect();
        assert_eq!(seen, [(0, &b"c"[..]), (1, b"b"), (0, b"a")]);
        let deleted = events[1].kv.as_ref().unwrap();
        assert_eq!(
            (deleted.create_revision, deleted.version, deleted.value.len(), deleted.mod_revision),
            (0, 0, 0, 3)
        );
    })
    .await;
}

#[tokio::test]
async fn impossible_watches_are_created_and_cancelled_under_id_minus_one() {
    alone(async |client| {
        put(&client, "a", "1").await;
        let mut watch = Watch::open(&client, pb::WatchCreateRequest { watch_id: 5, ..everything() }).await;
        assert_eq!(watch.created().await.watch_id, 5);
        let cases = [
            (
                pb::WatchCreateRequest { watch_id: 5, ..everything() },
                "mvcc: duplicate watch ID provided on the WatchStream",
            ),
            (
                pb::WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..Default::default() },
                "mvcc: watcher range is empty",
            ),
            (
                pb::WatchCreateRequest { key: "b".into(), range_end: "b".into(), ..Default::default() },
                "mvcc: watcher range is empty",
            ),
            (
                pb::WatchCreateRequest { start_revision: -1, ..everything() },
                "etcdserver: mvcc: required revision has been compacted",
            ),
        ];
        for (create, reason) in cases {
            watch.create(create).await;
            let response = watch.created().await;
            assert_eq!(
                (response.watch_id, response.canceled, response.cancel_reason.as_str()),
                (-1, true, reason)
            );
            assert_eq!((revision(&response.header), response.compact_revision), (2, 0));
        }
        // The stream lives on, and automatic ids skip used ones.
        watch.create(everything()).await;
        assert_eq!(watch.created().await.watch_id, 0);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_watcher_is_confirmed_and_an_unknown_one_is_ignored() {
    alone(async |client| {
        let mut watch = Watch::open(&client, everything()).await;
        watch.created().await;
        watch.cancel(77).await;
        watch.cancel(0).await;
        let WatchItem::Canceled(canceled) = watch.next().await else { panic!("a confirmation") };
        assert_eq!(
            (canceled.watch_id, canceled.cancel_reason.as_str(), canceled.compact_revision),
            (0, "", 0)
        );
        put(&client, "a", "1").await;
        watch.create(everything()).await;
        // Ids are not used again by the server.
        assert_eq!(watch.created().await.watch_id, 1);
    })
    .await;
}

#[tokio::test]
async fn progress_is_for_the_whole_stream_and_needs_every_watcher_in_step() {
    alone(async |client| {
        put(&client, "a", "1").await;
        let mut watch = Watch::open(&client, everything()).await;
        watch.created().await;
        watch.ask_progress().await;
        let WatchItem::Progress(progress) = watch.next().await else { panic!("progress") };
        assert_eq!((progress.watch_id, revision(&progress.header)), (-1, 2));
        // A watcher of the future is not in step until then.
        watch
            .create(pb::WatchCreateRequest { key: "x".into(), start_revision: 5, ..Default::default() })
            .await;
        watch.created().await;
        watch.ask_progress().await;
        assert!(matches!(watch.within(Duration::from_millis(300)).await, WatchItem::Silence));
        for number in 0..3 {
            put(&client, "b", &number.to_string()).await;
            watch.events().await;
        }
        watch.ask_progress().await;
        let WatchItem::Progress(progress) = watch.next().await else { panic!("progress") };
        assert_eq!((progress.watch_id, revision(&progress.header)), (-1, 5));
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_watchers_gets_no_progress() {
    alone(async |client| {
        let mut watch = Watch::open(&client, everything()).await;
        watch.created().await;
        watch.cancel(0).await;
        assert!(matches!(watch.next().await, WatchItem::Canceled(_)));
        watch.ask_progress().await;
        assert!(matches!(watch.within(Duration::from_millis(300)).await, WatchItem::Silence));
    })
    .await;
}

#[tokio::test]
async fn progress_notifications_come_by_themselves_to_watchers_that_asked() {
    on_each(1, &["--watch-progress-notify-interval=200ms"], async |cluster| {
        let client = Client::for_streams(&cluster.member(0).client_url());
        put(&client, "a", "1").await;
        let mut watch = Watch::open(
            &client,
            pb::WatchCreateRequest { progress_notify: true, watch_id: 3, ..everything() },
        )
        .await;
        watch.created().await;
        let WatchItem::Progress(progress) = watch.next().await else { panic!("progress") };
        assert_eq!((progress.watch_id, revision(&progress.header)), (3, 2));
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_the_future_sees_nothing_older() {
    // Upstream bug 20221: notifications from before the start revision.
    alone(async |client| {
        put(&client, "a", "1").await;
        let mut watch = Watch::open(
            &client,
            pb::WatchCreateRequest { start_revision: 5, progress_notify: true, ..everything() },
        )
        .await;
        assert_eq!(revision(&watch.created().await.header), 2);
        for number in 3..=6 {
            put(&client, "a", &number.to_string()).await;
        }
        let first = watch.events().await;
        assert_eq!(first.events[0].kv.as_ref().unwrap().mod_revision, 5);
    })
    .await;
}

#[tokio::test]
async fn filters_drop_events_on_the_server() {
    alone(async |client| {
        let mut puts =
            Watch::open(&client, pb::WatchCreateRequest { filters: vec![1], ..everything() }).await;
        puts.created().await;
        let mut deletes =
            Watch::open(&client, pb::WatchCreateRequest { filters: vec![0], ..everything() }).await;
        deletes.created().await;
        put(&client, "a", "1").await;
        delete(&client, "a").await;
        put(&client, "a", "2").await;
        let revisions = |response: pb::WatchResponse| {
            response.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision).collect::<Vec<_>>()
        };
        assert_eq!(revisions(puts.events().await), [2]);
        assert_eq!(revisions(puts.events().await), [4]);
        assert_eq!(revisions(deletes.events().await), [3]);
    })
    .await;
}

#[tokio::test]
async fn previous_values_are_those_of_the_revision_before() {
    alone(async |client| {
        let mut watch = Watch::open(&client, pb::WatchCreateRequest { prev_kv: true, ..everything() }).await;
        watch.created().await;
        put(&client, "a", "1").await;
        assert!(watch.events().await.events[0].prev_kv.is_none());
        put(&client, "a", "2").await;
        assert_eq!(&watch.events().await.events[0].prev_kv.as_ref().unwrap().value[..], b"1");
        delete(&client, "a").await;
        assert_eq!(&watch.events().await.events[0].prev_kv.as_ref().unwrap().value[..], b"2");
    })
    .await;
}

#[tokio::test]
async fn an_empty_key_watches_from_the_smallest_key() {
    alone(async |client| {
        let mut watch = Watch::open(
            &client,
            pb::WatchCreateRequest { range_end: b"\0".as_slice().into(), ..Default::default() },
        )
        .await;
        watch.created().await;
        put(&client, "a", "1").await;
        assert_eq!(watch.events().await.events.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn only_watchers_that_asked_get_previous_values() {
    alone(async |client| {
        let mut watch = Watch::open(&client, pb::WatchCreateRequest { prev_kv: true, ..everything() }).await;
        watch.created().await;
        watch.create(everything()).await;
        watch.created().await;
        put(&client, "a", "0").await;
        watch.events().await;
        watch.events().await;
        for number in 1..=50 {
            put(&client, "a", &number.to_string()).await;
            for _ in 0..2 {
                let response = watch.events().await;
                assert_eq!(response.events[0].prev_kv.is_some(), response.watch_id == 0, "{response:?}");
            }
        }
    })
    .await;
}
