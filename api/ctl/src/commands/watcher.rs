//! One watch that survives the loss of its connection.
//!
//! Owns: the stream, and where to go on. Invariant: no event is given twice or left out; what cannot be resumed ends with
//! the server's last answer. Called by: `watch`, `make-mirror`, locks and elections.
//! Source: etcd client/v3/watch.go for what is resumed.

use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::event::EventType;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming};

use super::range;
use crate::clock::pause;
use crate::failure::{ERROR, Failure, INTERRUPTED};
use crate::net::client::Client;

/// What to watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub(super) key: Bytes,
    pub(super) end: Bytes,
    /// From this revision on; 0 is from now on.
    pub(super) revision: i64,
    pub(super) prev_kv: bool,
    pub(super) progress_notify: bool,
}

/// A watch.
pub(super) struct Watcher {
    client: Client,
    spec: Spec,
    open: Option<Open>,
    progress: Option<mpsc::UnboundedReceiver<()>>,
}

struct Open {
    answers: Streaming<pb::WatchResponse>,
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
}

impl Spec {
    /// One key.
    pub(super) fn key(key: &Bytes, revision: i64) -> Self {
        Self { key: key.clone(), revision, ..Self::default() }
    }

    /// All keys that begin so.
    pub(super) fn prefix(prefix: &str, revision: i64) -> Self {
        let (key, end) = range::prefix(prefix);
        Self { key, end, revision, ..Self::default() }
    }
}

impl Watcher {
    pub(super) fn new(client: &Client, spec: Spec) -> Self {
        Self { client: client.clone(), spec, open: None, progress: None }
    }

    /// Asks the server how far it is whenever something comes in here.
    pub(super) fn with_progress(mut self, asked: mpsc::UnboundedReceiver<()>) -> Self {
        self.progress = Some(asked);
        self
    }

    /// The next answer that is more than "created". One that says canceled is the last.
    pub(super) async fn next(&mut self) -> Result<pb::WatchResponse, Failure> {
        const BETWEEN_TRIES: Duration = Duration::from_millis(100);
        loop {
            let answer = match self.step().await {
                Ok(answer) => answer,
                Err(status) if may_resume(&status) => {
                    self.open = None;
                    pause(BETWEEN_TRIES).await;
                    continue;
                }
                Err(status) => return Err(self.client.explain(&status).await.with_code(INTERRUPTED)),
            };
            if let Some(last) = answer.events.iter().filter_map(|event| event.kv.as_ref()).next_back() {
                self.spec.revision = last.mod_revision + 1;
            } else if let Some(header) =
                answer.header.as_ref().filter(|_| !answer.created && !answer.canceled)
            {
                self.spec.revision = self.spec.revision.max(header.revision + 1);
            }
            if !answer.created || answer.canceled {
                return Ok(answer);
            }
            if let Some(header) = answer.header.as_ref().filter(|_| self.spec.revision == 0) {
                self.spec.revision = header.revision + 1;
            }
        }
    }

    async fn step(&mut self) -> Result<pb::WatchResponse, Status> {
        if self.open.is_none() {
            self.open = Some(self.begin().await?);
        }
        let open = self.open.as_mut().expect("opened above");
        loop {
            let asked = async {
                match &mut self.progress {
                    Some(asked) => asked.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = open.answers.message() => {
                    return answer?.ok_or_else(|| Status::unavailable("the stream has ended"));
                }
                Some(()) = asked => {
                    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    // A stream that has ended says so when it is read.
                    let _ = open.requests.send(pb::WatchRequest { request_union: Some(request) });
                }
            }
        }
    }

    async fn begin(&self) -> Result<Open, Status> {
        let (requests, sent) = mpsc::unbounded_channel();
        let create = pb::WatchCreateRequest {
            key: self.spec.key.clone(),
            range_end: self.spec.end.clone(),
            start_revision: self.spec.revision,
            prev_kv: self.spec.prev_kv,
            progress_notify: self.spec.progress_notify,
            ..Default::default()
        };
        let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The receiver is ours and lives.
        let _ = requests.send(first);
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent).map(|request| request);
        let mut service = WatchClient::new(self.client.channel()).max_decoding_message_size(usize::MAX);
        let answers = service.watch(self.client.led_request(stream)).await?.into_inner();
        Ok(Open { answers, requests })
    }

    /// Waits until the key is gone; the revision at which it was.
    pub(super) async fn until_deleted(&mut self) -> Result<i64, Failure> {
        self.until(EventType::Delete).await
    }

    /// Waits until something is written.
    pub(super) async fn until_put(&mut self) -> Result<i64, Failure> {
        self.until(EventType::Put).await
    }

    async fn until(&mut self, kind: EventType) -> Result<i64, Failure> {
        loop {
            let answer = self.next().await?;
            if answer.canceled {
                return Err(Failure::new(ERROR, "lost watcher waiting for delete")
                    .seen(reason(&answer))
                    .help("try again; if history is compacted that quickly, keep more of it"));
            }
            if answer.events.iter().any(|event| event.r#type() == kind) {
                return Ok(answer.header.map_or(0, |header| header.revision));
            }
        }
    }
}

/// Why a watch was canceled, in the server's words.
pub(super) fn reason(answer: &pb::WatchResponse) -> String {
    match (answer.compact_revision, answer.cancel_reason.as_str()) {
        (0, "") => "etcdserver: mvcc: required revision is a future revision".to_owned(),
        (0, reason) if reason.starts_with("etcdserver: ") => reason.to_owned(),
        (0, reason) => format!("rpc error: code = FailedPrecondition desc = {reason}"),
        _ => "etcdserver: mvcc: required revision has been compacted".to_owned(),
    }
}

/// Whether another stream can take over: only the connection failed, or the server is restarting.
fn may_resume(status: &Status) -> bool {
    let lost = !crate::diagnose::is_of_server(status);
    lost || (status.code() == Code::Unavailable && status.message() != "etcdserver: no leader")
}
