//! Random histories against a naive model that keeps everything and delivers nothing by itself.
//!
//! Owns: the model of one watcher's promises. Each frame is checked when it comes; a reader that has to wait must have
//! been given everything. Source: the validators of etcd's robustness tests (`validate/watch.go`), by their names:
//! Filter, Ordered, Unique, Atomic, Reliable, Resumable, Bookmarkable, IsCreate, PrevKV.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use keelson_mvcc::types::{Event, EventKind, Revision, RevisionEvents};
use keelson_watch::{Frame, HubOptions, WatchId, WatchRequest};
use proptest::prelude::*;
use proptest::sample::Index;
use support::*;

/// What the model knows of a watcher.
struct Watcher {
    request: WatchRequest,
    /// Everything of it below this was delivered.
    cursor: Revision,
    /// At some moment it was known to have everything up to here, so it was armed.
    armed_at: Revision,
    /// It asked for a revision the store had not reached.
    future: bool,
    /// It may be cancelled for its cursor alone: it started in the past, or a snapshot jumped over it.
    reads_past: bool,
    header: Revision,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let dropped = match event.kind {
            EventKind::Put => self.request.no_put,
            EventKind::Delete => self.request.no_delete,
        };
        !dropped && self.request.range.contains(&event.kv.key)
    }
}

struct Client {
    reader: Reader,
    watchers: BTreeMap<WatchId, Watcher>,
    /// Replies that must come, in this order.
    replies: VecDeque<String>,
    asked: bool,
    /// The request may have been dropped: at some poll there was no watcher, or one of a future revision.
    dropped: bool,
    /// The reader waits since this many wakes.
    waits: Option<usize>,
}

impl Client {
    fn has_future(&self, revision: Revision) -> bool {
        self.watchers.values().any(|watcher| watcher.future && watcher.request.start > revision)
    }
}

struct Model {
    world: World,
    clients: Vec<Client>,
    mark: Revision,
    now: Duration,
    checks: u64,
}

impl Model {
    fn new(options: HubOptions) -> Self {
        let world = World::with(options);
        let mut model = Model { world, clients: Vec::new(), mark: -1, now: Duration::ZERO, checks: 0 };
        model.open();
        model
    }

    fn open(&mut self) {
        let reader = self.world.open();
        let client = Client {
            reader,
            watchers: BTreeMap::new(),
            replies: VecDeque::new(),
            asked: false,
            dropped: false,
            waits: None,
        };
        self.clients.push(client);
    }

    fn publish(&mut self, group: &[Vec<Change>]) {
        let events: Vec<Arc<RevisionEvents>> =
            group.iter().filter_map(|changes| self.world.write(changes)).collect();
        self.world.hub.publish(&events, self.world.revision);
    }

    fn snapshot(&mut self, group: &[Vec<Change>], mark: Index) {
        for changes in group {
            self.world.write(changes);
        }
        let mark = self.mark.max(mark.index(self.world.revision as usize + 1) as Revision);
        self.mark = mark;
        self.world.source.compact(mark);
        self.world.hub.reset(self.world.revision, mark);
        self.note_snapshot(self.world.revision);
    }

    /// Whoever has not everything up to here reads the past now.
    fn note_snapshot(&mut self, revision: Revision) {
        for watcher in self.clients.iter_mut().flat_map(|client| client.watchers.values_mut()) {
            watcher.reads_past |= watcher.cursor <= revision;
        }
    }

    fn create(&mut self, client: Index, request: WatchRequest, start: Start) {
        let revision = self.world.revision;
        let start = match start {
            Start::Now => 0,
            Start::Negative => -3,
            Start::Mark => self.mark.max(0),
            Start::Any(index) => index.index(revision as usize + 4) as Revision,
        };
        let request = WatchRequest { start, ..request };
        let count = self.clients.len();
        let client = &mut self.clients[client.index(count)];
        let id = client.reader.create(request.clone());
        let refusal = |reason: &str| format!("--1@{revision} refused {reason}");
        let end = &request.range.end;
        if start < 0 {
            assert_eq!(id, None);
            client.replies.push_back(refusal("etcdserver: mvcc: required revision has been compacted"));
        } else if !end.is_empty() && end.as_ref() != [0] && *end <= request.range.key {
            assert_eq!(id, None);
            client.replies.push_back(refusal("mvcc: watcher range is empty"));
        } else if request.id != 0 && client.watchers.contains_key(&request.id) {
            assert_eq!(id, None);
            client.replies.push_back(refusal("mvcc: duplicate watch ID provided on the WatchStream"));
        } else {
            let id = id.expect("accepted");
            assert!(request.id == 0 || request.id == id);
            client.replies.push_back(format!("+{id}@{revision}"));
            let cursor = if start == 0 { revision + 1 } else { start };
            let watcher = Watcher {
                cursor,
                armed_at: cursor - 1,
                future: start > revision,
                reads_past: start != 0 && start <= revision,
                header: 0,
                request,
            };
            assert!(client.watchers.insert(id, watcher).is_none(), "an id in use was given out");
        }
    }

    fn cancel(&mut self, client: Index, id: WatchId) {
        let count = self.clients.len();
        let client = &mut self.clients[client.index(count)];
        // The model may still know a watcher that the hub has cancelled for compaction: then the reply decides.
        if client.reader.cancel(id) {
            assert!(client.watchers.remove(&id).is_some(), "cancelled an unknown watcher");
            client.replies.push_back(format!("-{id}@{}", self.world.revision));
        } else {
            assert!(!client.watchers.contains_key(&id), "a known watcher was ignored");
        }
    }

    /// Takes up to `batches` batches, checking each frame; true when the reader has to wait.
    fn read(&mut self, client: usize, batches: usize) -> bool {
        for _ in 0..batches {
            let state = &mut self.clients[client];
            let revision_before = self.world.hub.revision();
            state.dropped |= state.has_future(revision_before) || state.watchers.is_empty();
            let before = state.reader.wakes();
            let waits = state.waits.take();
            match self.clients[client].reader.poll() {
                Poll::Ready(frames) => {
                    let frames = frames.expect("the stream goes on");
                    assert!(!frames.is_empty());
                    assert!(waits != Some(before), "a waiting reader was not woken for {frames:?}");
                    frames.iter().for_each(|frame| self.check(client, frame, revision_before));
                    // Compaction may have taken the last watcher, and the request with it.
                    self.clients[client].dropped |= self.clients[client].watchers.is_empty();
                }
                Poll::Pending if self.clients[client].reader.wakes() > before => {}
                Poll::Pending => {
                    self.clients[client].waits = Some(before);
                    self.check_waiting(client);
                    return true;
                }
            }
        }
        false
    }

    /// One poll in the middle of whose read of the past something else happens; after it, if it reads nothing.
    fn read_disturbed(&mut self, client: usize, after_read: bool, disturbance: Disturbance) {
        let hub = self.world.hub.clone();
        let source = self.world.source.clone();
        let revision_before = hub.revision();
        let mut cancelled = None;
        let mut snapshot = None;
        let hook: Box<dyn FnOnce() + Send> = match disturbance {
            Disturbance::Publish(group) => {
                // The source is ahead of the hub until the hook runs, as it is between view and publication.
                let events: Vec<_> = group.iter().filter_map(|changes| self.world.write(changes)).collect();
                let revision = self.world.revision;
                Box::new(move || hub.publish(&events, revision))
            }
            Disturbance::Cancel(index) => {
                let ids: Vec<WatchId> = self.clients[client].watchers.keys().copied().collect();
                if ids.is_empty() {
                    return;
                }
                let id = ids[index.index(ids.len())];
                let done = Arc::new(AtomicBool::new(false));
                cancelled = Some((id, done.clone()));
                let control = self.clients[client].reader.stream.control();
                Box::new(move || done.store(control.try_cancel(id).expect("room"), Ordering::SeqCst))
            }
            Disturbance::Compact(mark) => {
                self.mark = self.mark.max(mark.index(self.world.revision as usize + 1) as Revision);
                let mark = self.mark;
                Box::new(move || {
                    source.compact(mark);
                    hub.compacted(mark);
                })
            }
            Disturbance::Snapshot(group, mark) => {
                for changes in &group {
                    self.world.write(changes);
                }
                let revision = self.world.revision;
                self.mark = self.mark.max(mark.index(revision as usize + 1) as Revision);
                let mark = self.mark;
                snapshot = Some(revision);
                self.note_snapshot(revision);
                Box::new(move || {
                    source.compact(mark);
                    hub.reset(revision, mark);
                })
            }
        };
        self.world.hooked.during_scan(after_read, hook);
        let state = &mut self.clients[client];
        state.dropped |= state.has_future(revision_before) || state.watchers.is_empty();
        state.waits = None;
        let poll = state.reader.poll();
        if let Poll::Ready(frames) = poll {
            let frames = frames.expect("the stream goes on");
            frames.iter().for_each(|frame| self.check(client, frame, revision_before));
            self.clients[client].dropped |= self.clients[client].watchers.is_empty();
        }
        self.world.hooked.finish();
        // Once more: if the poll read nothing, the snapshot came after its frames.
        if let Some(revision) = snapshot {
            self.note_snapshot(revision);
        }
        if let Some((id, done)) = cancelled {
            if done.load(Ordering::SeqCst) {
                let state = &mut self.clients[client];
                assert!(state.watchers.remove(&id).is_some(), "cancelled an unknown watcher");
                state.replies.push_back(format!("-{id}@{}", self.world.revision));
                state.dropped |= state.watchers.is_empty();
            } else {
                assert!(!self.clients[client].watchers.contains_key(&id), "a known watcher was ignored");
            }
        }
    }

    fn check(&mut self, client: usize, frame: &Frame, revision_before: Revision) {
        self.checks += 1;
        let revision = self.world.hub.revision();
        let mark = self.mark;
        let client = &mut self.clients[client];
        match frame {
            Frame::Created { .. } => {
                assert_eq!(client.replies.pop_front(), Some(text(frame)), "IsCreate");
            }
            Frame::Canceled { id, revision: 0, compact_revision, .. } if *compact_revision != 0 => {
                assert!(*compact_revision <= mark);
                let mark = *compact_revision;
                let watcher = client.watchers.remove(id).expect("a cancelled watcher was there");
                // Since it was armed something must have happened to it, else it could not have fallen behind.
                let since = watcher.armed_at + 1;
                let touched = missing(&self.world.history, &watcher, since, revision, false).next().is_some();
                assert!(
                    watcher.cursor < mark && (watcher.reads_past || touched),
                    "Reliable: cancelled at {mark} without need, cursor {}",
                    watcher.cursor
                );
            }
            Frame::Canceled { .. } => {
                assert_eq!(client.replies.pop_front(), Some(text(frame)));
            }
            Frame::Progress { id: -1, revision: progress } => {
                assert!(std::mem::take(&mut client.asked), "a progress reply without a request");
                assert!(*progress <= revision && *progress >= revision_before, "progress {progress}");
                assert!(!client.watchers.is_empty());
                for watcher in client.watchers.values_mut() {
                    bookmark(&self.world.history, watcher, *progress);
                }
            }
            Frame::Progress { id, revision: progress } => {
                assert!(*progress <= revision && *progress >= revision_before, "progress {progress}");
                let watcher = client.watchers.get_mut(id).expect("progress of a live watcher");
                assert!(watcher.request.progress_notify);
                bookmark(&self.world.history, watcher, *progress);
            }
            Frame::Events { id, revision: header, events, fragment } => {
                assert!(
                    !client.replies.contains(&format!("+{id}@{revision}"))
                        || client.watchers.contains_key(id),
                    "IsCreate"
                );
                let watcher = client.watchers.get_mut(id).expect("events of a live watcher");
                assert_eq!(*fragment, watcher.request.fragment);
                assert_eq!(events.prev_kv(), watcher.request.prev_kv);
                let given: Vec<&Event> = events.events().collect();
                let last = given.last().expect("a batch holds events").kv.mod_revision;
                // Filter, Ordered, Unique, Atomic, Reliable and Resumable at once: exactly the next events.
                let expected: Vec<&Event> =
                    missing(&self.world.history, watcher, watcher.cursor, last, true).collect();
                assert_eq!(given, expected, "watcher {id} from {}", watcher.cursor);
                let decoded = decode(events);
                assert_eq!(decoded.len(), given.len());
                for (decoded, event) in decoded.iter().zip(&given) {
                    // What precedes the mark may be told or not: told live, not told from the past.
                    let compacted = event.kv.mod_revision <= mark && decoded.previous.is_none();
                    let previous = event.prev.as_ref().filter(|_| watcher.request.prev_kv && !compacted);
                    let expected = Decoded {
                        put: event.kind == EventKind::Put,
                        revision: event.kv.mod_revision,
                        sub: event.sub,
                        key: event.kv.key.clone(),
                        value: event.kv.value.clone(),
                        previous: previous.map(|prev| prev.value.clone()),
                    };
                    assert_eq!(*decoded, expected, "PrevKV");
                }
                assert!(*header >= last && *header <= revision, "header {header} of events up to {last}");
                assert!(*header >= watcher.header, "headers of one watcher do not go back");
                watcher.header = *header;
                watcher.cursor = last + 1;
            }
        }
    }

    /// A reader that waits has been given everything.
    fn check_waiting(&mut self, client: usize) {
        let revision = self.world.revision;
        let client = &mut self.clients[client];
        assert!(client.replies.is_empty(), "replies are missing: {:?}", client.replies);
        for (id, watcher) in &mut client.watchers {
            let missed: Vec<&Event> =
                missing(&self.world.history, watcher, watcher.cursor, revision, true).collect();
            assert!(missed.is_empty(), "Reliable: watcher {id} waits without {missed:?}");
            watcher.cursor = watcher.cursor.max(revision + 1);
            watcher.armed_at = watcher.cursor - 1;
            watcher.reads_past = false;
        }
        let dropped = client.dropped || client.has_future(revision) || client.watchers.is_empty();
        assert!(!client.asked || dropped, "a progress request was forgotten");
        client.asked = false;
    }
}

/// Everything up to `progress` was delivered, and the watcher's start is not above it.
fn bookmark(history: &[Arc<RevisionEvents>], watcher: &mut Watcher, progress: Revision) {
    let missed = missing(history, watcher, watcher.cursor, progress, true).count();
    assert_eq!(missed, 0, "Bookmarkable: progress {progress} overtakes {missed} events");
    assert!(!watcher.future || watcher.request.start <= progress, "progress before the start");
    watcher.cursor = watcher.cursor.max(progress + 1);
    watcher.armed_at = watcher.cursor - 1;
    watcher.reads_past = false;
}

/// Events of the watcher's range with revision in `cursor..=upto`; those its filters drop only if not `filtered`.
fn missing<'a>(
    history: &'a [Arc<RevisionEvents>],
    watcher: &Watcher,
    cursor: Revision,
    upto: Revision,
    filtered: bool,
) -> std::vec::IntoIter<&'a Event> {
    let start = history.partition_point(|events| events.revision < cursor);
    let revisions = history[start..].iter().take_while(|events| events.revision <= upto);
    let events = revisions
        .flat_map(|events| &events.events)
        .filter(|event| watcher.request.range.contains(&event.kv.key) && (!filtered || watcher.wants(event)));
    events.collect::<Vec<_>>().into_iter()
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Now,
    Any(Index),
    Mark,
    Negative,
}

/// What happens in the middle of a read.
#[derive(Clone, Debug)]
enum Disturbance {
    Publish(Vec<Vec<Change>>),
    Cancel(Index),
    Compact(Index),
    Snapshot(Vec<Vec<Change>>, Index),
}

#[derive(Clone, Debug)]
enum Step {
    Disturbed(Index, bool, Disturbance),
    Publish(Vec<Vec<Change>>),
    Create(Index, WatchRequest, Start),
    Cancel(Index, WatchId),
    Progress(Index),
    Read(Index, usize),
    Compact(Index),
    Snapshot(Vec<Vec<Change>>, Index),
    Tick(u64),
    Open,
    Close(Index),
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "aa", "ab", "abc", "b", "ba", "c", "d"]).prop_map(str::to_owned)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let value = prop_oneof![3 => "[a-z]{0,20}".prop_map(Some), 2 => Just(None)];
    prop::collection::vec((key(), value), 1..5)
}

fn watch_request() -> impl Strategy<Value = WatchRequest> {
    let range = prop_oneof![
        3 => key().prop_map(|key| point(&key)),
        3 => key().prop_map(|key| prefix(&key)),
        2 => (key(), key()).prop_map(|(key, end)| range(&key, &end)),
        1 => key().prop_map(|key| range(&key, "\0")),
    ];
    let id = prop_oneof![3 => Just(0), 1 => 1..6i64];
    let flags = prop::array::uniform5(prop::bool::weighted(0.3));
    (range, id, flags).prop_map(|(request, id, [prev_kv, no_put, no_delete, progress_notify, fragment])| {
        WatchRequest { id, prev_kv, no_put, no_delete, progress_notify, fragment, ..request }
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        4 => Just(Start::Now),
        6 => any::<Index>().prop_map(Start::Any),
        2 => Just(Start::Mark),
        1 => Just(Start::Negative),
    ]
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    let group = |least| prop::collection::vec(changes(), least..4);
    prop_oneof![
        4 => group(1).prop_map(Disturbance::Publish),
        3 => any::<Index>().prop_map(Disturbance::Cancel),
        2 => any::<Index>().prop_map(Disturbance::Compact),
        1 => (group(0), any::<Index>()).prop_map(|(group, mark)| Disturbance::Snapshot(group, mark)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        20 => prop::collection::vec(changes(), 1..4).prop_map(Step::Publish),
        10 => (index(), watch_request(), start()).prop_map(|(client, request, start)| Step::Create(client, request, start)),
        3 => (index(), 0..6i64).prop_map(|(client, id)| Step::Cancel(client, id)),
        4 => index().prop_map(Step::Progress),
        14 => (index(), 1..8usize).prop_map(|(client, batches)| Step::Read(client, batches)),
        2 => index().prop_map(Step::Compact),
        1 => (prop::collection::vec(changes(), 0..4), index()).prop_map(|(group, mark)| Step::Snapshot(group, mark)),
        6 => (index(), any::<bool>(), disturbance()).prop_map(|(client, after_read, disturbance)| {
            Step::Disturbed(client, after_read, disturbance)
        }),
        2 => (0..30u64).prop_map(Step::Tick),
        1 => Just(Step::Open),
        1 => index().prop_map(Step::Close),
    ]
}

fn options() -> impl Strategy<Value = HubOptions> {
    let log = prop::sample::select(vec![1usize, 2_000, 10_000, 1 << 20]);
    let soft = || prop::sample::select(vec![1usize, 500, 3_000, 1 << 20]);
    (log, soft(), soft(), prop::sample::select(vec![1usize, 30, 1 << 20]), 1..5usize).prop_map(
        |(log_bytes_max, batch_bytes_soft, frame_bytes_soft, chunk_bytes_soft, batch_frames_soft)| {
            HubOptions {
                log_bytes_max,
                batch_bytes_soft,
                frame_bytes_soft,
                chunk_bytes_soft,
                batch_frames_soft,
                progress_interval: Duration::from_secs(20),
                controls_max: 1 << 20,
                ..HubOptions::default()
            }
        },
    )
}

fn run(options: HubOptions, steps: Vec<Step>) -> u64 {
    let mut model = Model::new(options);
    for step in steps {
        let count = model.clients.len();
        match step {
            Step::Publish(group) => model.publish(&group),
            Step::Create(client, request, start) => model.create(client, request, start),
            Step::Cancel(client, id) => model.cancel(client, id),
            Step::Progress(client) => {
                let client = &mut model.clients[client.index(count)];
                client.asked = true;
                client.dropped = false;
                client.reader.progress();
            }
            Step::Read(client, batches) => {
                model.read(client.index(count), batches);
            }
            Step::Disturbed(client, after_read, disturbance) => {
                model.read_disturbed(client.index(count), after_read, disturbance);
            }
            Step::Compact(mark) => {
                model.mark = model.mark.max(mark.index(model.world.revision as usize + 1) as Revision);
                model.world.compact(model.mark);
            }
            Step::Snapshot(group, mark) => model.snapshot(&group, mark),
            Step::Tick(seconds) => {
                model.now += Duration::from_secs(seconds);
                model.world.hub.tick(model.now);
            }
            Step::Open => model.open(),
            Step::Close(client) if count > 1 => {
                model.clients.swap_remove(client.index(count));
            }
            Step::Close(_) => {}
        }
        model.world.hub.validate();
    }
    // Everybody reads to the end: nothing may be missing then.
    for client in 0..model.clients.len() {
        assert!(model.read(client, 1_000_000), "a reader comes to an end");
    }
    let stats = model.world.hub.stats();
    let watchers: usize = model.clients.iter().map(|client| client.watchers.len()).sum();
    assert_eq!((stats.watchers, stats.streams), (watchers, model.clients.len()));
    assert_eq!((stats.slow_watchers, stats.pending_events), (0, 0));
    model.clients.clear();
    let stats = model.world.hub.stats();
    assert_eq!((stats.watchers, stats.streams, stats.ranges), (0, 0, 0));
    model.checks
}

/// 2000 histories, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 2000 };
    ProptestConfig { cases, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_guarantee_holds_in_random_histories(
        options in options(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(options, steps);
    }
}
