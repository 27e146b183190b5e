//! Starts a member of the real store on simulated parts.
//!
//! Owns: the wiring, and the checks of what a start finds. Called by: [`crate::nemesis`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use keelson_mvcc::types::Event;
use keelson_mvcc::{Store, StoreOptions};
use keelson_raftstore::node::{Begin, NodeParts};
use keelson_raftstore::{Handle, LogOptions, MemberId, NodeOptions, StoreEvents, WalDevice, start};
use keelson_wal::writer::{WriterOptions, writer};
use keelson_wal::{Identity, Options, Recovered, SimDisk, Wal};
use keelson_watch::{FrameCodec, Hub, HubOptions};
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::engine::SimEngine;
use crate::life::Life;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::planted::Bug;
use crate::world::World;
use crate::{device, source, transport};

/// What the clients hold of a member.
pub(crate) type Node = Handle<SimEngine>;

/// Readers are in this process and want the events themselves.
struct NoFrames;

impl FrameCodec for NoFrames {
    fn events(&self, _events: &[&Event], _prev_kv: bool, _out: &mut BytesMut) {}
}

/// Starts member `id` on `machine`. Everything that goes wrong later ends `life`.
///
/// # Errors
/// Why it did not start, for the report.
pub(crate) async fn start_member(
    world: &Arc<World>,
    id: MemberId,
    machine: &Machine,
    begin: Begin,
    life: &Arc<Life>,
) -> Result<Node, String> {
    let options = world.plan.node_options(id);
    let (wal, recovered) = open_wal(&machine.disk, &options, machine.lives)?;
    let store = Store::open(machine.engine.clone(), StoreOptions::default()).map_err(text)?;
    world.check_recovered(id, machine, &recovered, &store);

    let reader = wal.reader();
    let failed = life.clone();
    let writer_options = WriterOptions {
        // As in production: the process ends before anybody hears of the failed write.
        on_fatal: Box::new(move |error| failed.fail(error.to_string())),
        clock: Box::new(|| Duration::ZERO),
        ..Default::default()
    };
    let (writer, handle) = writer(wal, writer_options);
    let sync_us = machine.sync_us.clone();
    drop(SimRuntime::spawn(keelson_raftstore::log_store::device::drive::<SimRuntime, SimDisk>(
        writer,
        move || Duration::from_micros(sync_us.load(Ordering::Relaxed)),
    )));

    let events = source::source(Arc::new(StoreEvents(store.reader())), world.bug);
    let hub = Hub::new(hub_options(&world.plan), events, Arc::new(NoFrames));
    let failed = life.clone();
    let node = start::<SimRuntime, SimEngine>(NodeParts {
        options,
        device: device::device(Arc::new(WalDevice::new(handle, reader)), world.bug),
        recovered,
        log: LogOptions { tail_bytes_max: 4 << 10, mark_bytes: 1 << 10, read_bytes_max: 8 << 10 },
        store,
        hub,
        transport: transport::transport(world.network.transport(id), world.bug),
        begin,
        on_fatal: Box::new(move |cause| failed.fail(cause.to_string())),
    })
    .await
    .map_err(text)?;
    Ok(node)
}

fn open_wal(disk: &SimDisk, options: &NodeOptions, lives: u64) -> Result<(Wal<SimDisk>, Recovered), String> {
    let mut salt = options.member << 32 | lives << 12;
    let salts = Box::new(move || {
        salt += 1;
        salt
    });
    let identity = Identity { cluster: options.cluster, member: options.member };
    Wal::open(disk.clone(), Path::new("wal"), Options::tiny(identity, salts)).map_err(text)
}

/// Small enough that readers fall out of the memory of the hub and read the past.
fn hub_options(plan: &Plan) -> HubOptions {
    HubOptions {
        log_revisions_max: plan.hub_revisions,
        batch_bytes_soft: 2 << 10,
        chunk_bytes_soft: 1 << 10,
        progress_interval: Duration::from_millis(100),
        hash_seed: plan.seed,
        ..HubOptions::default()
    }
}

/// The whole chain of an error.
fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Whether reading a torn block as it is, is switched on for the runs of this thread.
pub(crate) fn set_torn_tail_accepted(bug: Option<Bug>) {
    keelson_wal::planted::accept_torn_blocks(bug == Some(Bug::TornTailAccepted));
}
