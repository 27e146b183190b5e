//! Watchers that come back after every interruption where they left off.
//!
//! Owns: one record per stream, as the checker wants it. Called by: [`crate::run`]. Invariant: a watcher that resumes
//! asks for the revision after the last one it was promised to have seen, never for a later one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_checker::{KeyRange, WatchItem, WatchRecord};
use keelson_mvcc::types as store;
use keelson_raftstore::MemberId;
use keelson_watch::{Frame, WatchRequest, WatchStream};
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::convert;
use crate::random::{draw, percent};
use crate::world::{Running, World};

/// How often a waiting watcher looks whether the run is over.
const LOOK: Duration = Duration::from_millis(20);
/// Pause of a watcher without a member.
const PAUSE: Duration = Duration::from_millis(15);

/// See the module.
pub(crate) struct Watcher {
    world: Arc<World>,
    number: u32,
    /// Follows this member and nothing else; otherwise whoever is there.
    member: Option<MemberId>,
    range: KeyRange,
    prev_kv: bool,
    no_delete: bool,
    /// Reads slowly, so that the hub's memory runs ahead of it.
    slow: bool,
    /// First revision it has not seen; 0 = from now.
    next: i64,
}

impl Watcher {
    /// One that sees everything `member` publishes.
    pub(crate) fn auditor(world: Arc<World>, member: MemberId) -> Self {
        Watcher {
            world,
            number: 1000 + member as u32,
            member: Some(member),
            range: KeyRange::all(),
            prev_kv: true,
            no_delete: false,
            slow: false,
            next: 2,
        }
    }

    /// One with a range, filters and a speed of its own, from the past or from now.
    pub(crate) fn client(world: Arc<World>, number: u32) -> Self {
        let keys = world.plan.keys;
        let key = |n: u64| Bytes::from(format!("key-{n:02}"));
        let range = match draw(3) {
            0 => KeyRange::all(),
            1 => KeyRange::single(key(draw(keys))),
            _ => KeyRange { key: key(0), end: key(1 + draw(keys)) },
        };
        Watcher {
            world,
            number,
            member: None,
            range,
            prev_kv: percent(50),
            no_delete: percent(20),
            slow: percent(40),
            next: if percent(50) { 2 } else { 0 },
        }
    }

    /// Watches until the run stops.
    pub(crate) async fn run(mut self) {
        while !self.world.stopping() {
            let members = self.world.members();
            let candidates: Vec<_> = members
                .iter()
                .filter(|running| self.member.is_none_or(|member| member == running.id))
                .filter(|running| running.node.status().ready)
                .collect();
            if let Some(member) = candidates.get(draw(candidates.len().max(1) as u64) as usize) {
                self.connect(member).await;
            }
            SimRuntime::sleep(PAUSE).await;
        }
    }

    /// Everything of `member` from `from` to `through`, at the end of a run.
    pub(crate) async fn catch_up(world: Arc<World>, member: &Running, from: i64, through: i64) {
        let mut watcher = Watcher { next: from, ..Watcher::auditor(world.clone(), member.id) };
        let mut record = watcher.record(member);
        let reading = watcher.read(member, &mut record, |record| next_revision(record) > through);
        if SimRuntime::timeout(Duration::from_secs(2), reading).await.is_err() {
            world.fail(format_args!(
                "a watch from {from} on member {} gives nothing after {}, last is {through}",
                member.id,
                next_revision(&record) - 1
            ));
        }
        record.complete_through = through;
        world.recorded.lock().watches.push(record);
    }

    /// One stream, until the member ends, the run does, or the client has had enough.
    async fn connect(&mut self, member: &Running) {
        let mut record = self.record(member);
        let world = self.world.clone();
        let tired_at = match self.member {
            Some(_) => u64::MAX,
            None => world.now() + draw(600) * 1_000_000,
        };
        let watched = self.read(member, &mut record, |_| world.stopping() || world.now() >= tired_at);
        member.life.during(watched).await;
        self.next = next_revision(&record).max(self.next);
        self.world.trace(format_args!(
            "watcher {} of member {} got {} items, goes on at {}",
            self.number,
            member.id,
            record.items.len(),
            self.next
        ));
        if !record.items.is_empty() {
            self.world.recorded.lock().watches.push(record);
        }
    }

    fn record(&self, member: &Running) -> WatchRecord {
        WatchRecord {
            client: self.number,
            member: member.id as u32,
            range: self.range.clone(),
            start_revision: self.next,
            prev_kv: self.prev_kv,
            no_put: false,
            no_delete: self.no_delete,
            items: Vec::new(),
            complete_through: 0,
        }
    }

    async fn read(
        &mut self,
        member: &Running,
        record: &mut WatchRecord,
        enough: impl Fn(&WatchRecord) -> bool,
    ) {
        let mut stream = member.node.hub().open();
        let request = WatchRequest {
            range: store::KeyRange { key: self.range.key.clone(), end: self.range.end.clone() },
            start: self.next,
            prev_kv: self.prev_kv,
            no_delete: self.no_delete,
            progress_notify: true,
            ..WatchRequest::default()
        };
        let control = stream.control();
        if control.try_create(&request).is_err() {
            return;
        }
        while !enough(record) {
            let Ok(frames) = SimRuntime::timeout(LOOK, next(&mut stream)).await else {
                // Asked for as a client does that wants to know how far it is.
                if control.progress().is_err() {
                    return;
                }
                continue;
            };
            let Some(frames) = frames else { return };
            if member.life.ended() || !self.take(member, frames, record) {
                return;
            }
            if self.slow {
                SimRuntime::sleep(Duration::from_millis(draw(60))).await;
            }
        }
    }

    /// Notes what came; false at the end of the watcher.
    fn take(&self, member: &Running, frames: Vec<Frame>, record: &mut WatchRecord) -> bool {
        for frame in frames {
            let item = match frame {
                Frame::Created { revision, .. } => WatchItem::Created { revision },
                Frame::Progress { revision, .. } => WatchItem::Progress { revision },
                Frame::Canceled { compact_revision, reason, .. } => {
                    if compact_revision == 0 {
                        self.world.fail(format_args!("watcher {} was refused: {reason}", self.number));
                        return false;
                    }
                    record.items.push(WatchItem::Compacted { compact_revision });
                    return false;
                }
                Frame::Events { revision, events, .. } => {
                    let events: Vec<_> =
                        events.events().map(|event| convert::event(event, self.prev_kv)).collect();
                    if self.member.is_some() {
                        self.world.saw(member.id, &events);
                    }
                    WatchItem::Events { revision, received: self.world.now(), events }
                }
            };
            record.items.push(item);
        }
        true
    }
}

async fn next(stream: &mut WatchStream) -> Option<Vec<Frame>> {
    stream.next().await.ok()
}

/// Where a resumed watcher goes on.
fn next_revision(record: &WatchRecord) -> i64 {
    let mut next = record.start_revision;
    for item in &record.items {
        next = next.max(match item {
            WatchItem::Events { events, .. } => events.last().map_or(0, |event| event.kv.mod_revision) + 1,
            WatchItem::Progress { revision } => revision + 1,
            WatchItem::Compacted { compact_revision } => *compact_revision,
            // From now on: the promise begins here.
            WatchItem::Created { revision } if record.start_revision == 0 => revision + 1,
            WatchItem::Created { .. } => 0,
        });
    }
    next
}
