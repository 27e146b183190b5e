//! Members on simulated disks and the memory engine, over the network in memory; on tokio or under simulation.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_mvcc::types::{Command, Event, Put, Reply};
use keelson_mvcc::{MemoryEngine, Store, StoreOptions};
use keelson_raftstore::net::memory::MemoryNetwork;
use keelson_raftstore::node::{Begin, FatalCause, NodeParts, StartError};
use keelson_raftstore::state_machine::Blocking;
use keelson_raftstore::{
    Handle, LogOptions, MemberId, NodeOptions, ProposeError, Status, StoreEvents, WalDevice, start,
};
use keelson_wal::writer::{WriterOptions, writer};
use keelson_wal::{Identity, Options, SimDisk, Wal};
use keelson_watch::{FrameCodec, Hub, HubOptions};
use openraft::async_runtime::AsyncRuntime;
use parking_lot::Mutex;

pub const CLUSTER: u64 = 0xc1;
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub type Node = Handle<MemoryEngine>;

/// Disk and engine of a member: what outlives its process.
#[derive(Clone)]
pub struct Machine {
    pub disk: SimDisk,
    pub engine: MemoryEngine,
    /// How long a sync takes.
    pub sync_us: Arc<AtomicU64>,
    /// What the member said was durable when it crashed: its log must come back at least to there.
    pub durable_index: u64,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        let sync_us = Arc::new(AtomicU64::new(200));
        Machine {
            disk: SimDisk::new(seed),
            engine: MemoryEngine::new(MemoryOptions::default()),
            sync_us,
            durable_index: 0,
        }
    }
}

/// Some members and their network.
pub struct Cluster<RT> {
    pub network: MemoryNetwork<RT>,
    pub machines: BTreeMap<MemberId, Machine>,
    pub nodes: BTreeMap<MemberId, Node>,
    /// Cleared when the process dies: what the remains of it report is not heard.
    alive: BTreeMap<MemberId, Arc<AtomicBool>>,
    pub fatal: Arc<Mutex<Vec<(MemberId, FatalCause)>>>,
    pub tune: fn(&mut NodeOptions),
    runtime: PhantomData<fn() -> RT>,
}

struct NoFrames;

impl FrameCodec for NoFrames {
    fn events(&self, _events: &[&Event], _prev_kv: bool, _out: &mut BytesMut) {}
}

pub fn urls(id: MemberId) -> Vec<String> {
    vec![format!("http://member-{id}:2380")]
}

pub fn bootstrap(ids: impl IntoIterator<Item = MemberId>) -> Begin {
    Begin::Bootstrap(ids.into_iter().map(|id| (id, urls(id))).collect())
}

/// Shorter times than in production: the tests wait for states, and elections are most of the waiting.
pub fn options(member: MemberId) -> NodeOptions {
    let mut options = NodeOptions::new(CLUSTER, member);
    options.blocking = Blocking::Inline;
    options.timing.heartbeat_ms = 50;
    options.timing.election_ms = 900;
    options.timing.keeper_ms = 20;
    options.timing.sweep_ms = 20;
    options
}

impl<RT: AsyncRuntime> Cluster<RT> {
    pub fn new() -> Self {
        Cluster {
            network: MemoryNetwork::default(),
            machines: BTreeMap::new(),
            nodes: BTreeMap::new(),
            alive: BTreeMap::new(),
            fatal: Arc::default(),
            tune: |_| {},
            runtime: PhantomData,
        }
    }

    /// First members 1..=count, started.
    pub async fn started(count: u64) -> Self {
        let mut cluster = Cluster::new();
        for id in 1..=count {
            cluster.start(id, bootstrap(1..=count)).await.expect("starts");
        }
        cluster
    }

    /// Starts a member on its machine, a new one if it has none.
    pub async fn start(&mut self, id: MemberId, begin: Begin) -> Result<Node, StartError> {
        let machine = self.machines.entry(id).or_insert_with(|| Machine::new(id)).clone();
        let (fatal, alive) = (self.fatal.clone(), Arc::new(AtomicBool::new(true)));
        let heard = alive.clone();
        let mut options = options(id);
        (self.tune)(&mut options);
        let node = start_on::<RT>(&machine, options, self.network.transport(id), begin, move |cause| {
            if heard.load(Ordering::Relaxed) {
                fatal.lock().push((id, cause));
            }
        })
        .await?;
        self.alive.insert(id, alive);
        self.network.join(id, node.peer_service());
        self.nodes.insert(id, node.clone());
        Ok(node)
    }

    pub fn node(&self, id: MemberId) -> &Node {
        &self.nodes[&id]
    }

    /// Stops a member in good order.
    pub async fn stop(&mut self, id: MemberId) {
        let node = self.nodes.remove(&id).expect("runs");
        node.shutdown().await;
        self.network.leave(id);
        // What an earlier life had may have been cut by a leader since.
        let machine = self.machines.get_mut(&id).expect("has a machine");
        machine.durable_index = node.diagnostics().durable_index;
    }

    /// The process of a member dies, or the machine loses power if `power_loss`: nothing of it is heard any more, and
    /// it starts again from what its disk has.
    pub fn crash(&mut self, id: MemberId, how: keelson_wal::disk::Crash) {
        let node = self.nodes.remove(&id).expect("runs");
        self.alive[&id].store(false, Ordering::Relaxed);
        self.network.leave(id);
        let machine = self.machines.get_mut(&id).expect("has a machine");
        *machine = Machine {
            disk: machine.disk.crash(how),
            engine: machine.engine.crashed_copy(),
            sync_us: Arc::new(AtomicU64::new(200)),
            durable_index: node.diagnostics().durable_index,
        };
    }

    /// The member all others agree leads, once there is one.
    pub async fn leader(&self) -> MemberId {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        self.wait("a leader", || {
            let leaders: Vec<_> = ids.iter().map(|id| self.nodes[id].status().leader).collect();
            let leader = leaders[0]?;
            (ids.contains(&leader) && leaders.iter().all(|other| *other == Some(leader))).then_some(leader)
        })
        .await
    }

    /// Waits until `look` finds something.
    pub async fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait::<RT, T>(what, look).await
    }

    pub async fn put(&self, id: MemberId, key: &str, value: &str) -> Result<Reply, ProposeError> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        put(self.node(id), key, value).await
    }

    pub fn get(&self, id: MemberId, key: &str) -> Option<Bytes> {
        get(self.node(id), key)
    }

    pub fn statuses(&self) -> Vec<Status> {
        self.nodes.values().map(|node| node.status()).collect()
    }
}

pub async fn wait<RT: AsyncRuntime, T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        RT::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited too long for {what}");
}

pub async fn put(node: &Node, key: &str, value: Bytes) -> Result<Reply, ProposeError> {
    let put = Put { key: Bytes::copy_from_slice(key.as_bytes()), value, ..Put::default() };
    node.propose(&Command::Put(put), TIMEOUT, None).await
}

pub fn get(node: &Node, key: &str) -> Option<Bytes> {
    node.reader().view().get(key.as_bytes()).expect("reads").map(|kv| kv.value)
}

pub async fn start_on<RT: AsyncRuntime>(
    machine: &Machine,
    options: NodeOptions,
    transport: Arc<dyn keelson_raftstore::net::Transport>,
    begin: Begin,
    on_fatal: impl Fn(FatalCause) + Send + Sync + 'static,
) -> Result<Node, StartError> {
    let mut salt = options.member;
    let salts = Box::new(move || {
        salt += 1;
        salt
    });
    let identity = Identity { cluster: options.cluster, member: options.member };
    let wal_options = Options::tiny(identity, salts);
    let (wal, recovered) = Wal::open(machine.disk.clone(), Path::new("wal"), wal_options).expect("opens");
    let reader = wal.reader();
    let writer_options = WriterOptions {
        on_fatal: Box::new(|_| {}),
        clock: Box::new(|| Duration::ZERO),
        ..Default::default()
    };
    let (writer, handle) = writer(wal, writer_options);
    let sync_us = machine.sync_us.clone();
    drop(RT::spawn(keelson_raftstore::log_store::device::drive::<RT, SimDisk>(writer, move || {
        Duration::from_micros(sync_us.load(Ordering::Relaxed))
    })));

    let store = Store::open(machine.engine.clone(), StoreOptions::default()).expect("opens");
    let last = recovered.last_index.or(recovered.purged.as_ref().map(|(purged, _)| *purged)).unwrap_or(0);
    // An installed snapshot takes the place of the log up to its end.
    let last = last.max(store.applied().map_or(0, |applied| applied.index));
    assert!(
        last >= machine.durable_index,
        "member {}: the log came back to {last}, but was durable to {}",
        options.member,
        machine.durable_index
    );
    let source = Arc::new(StoreEvents(store.reader()));
    let hub = Hub::new(HubOptions::default(), source, Arc::new(NoFrames));
    start::<RT, MemoryEngine>(NodeParts {
        options,
        device: Arc::new(WalDevice::new(handle, reader)),
        recovered,
        log: LogOptions { tail_bytes_max: 8 << 10, mark_bytes: 4 << 10, ..LogOptions::default() },
        store,
        hub,
        transport,
        begin,
        on_fatal: Box::new(on_fatal),
    })
    .await
}
