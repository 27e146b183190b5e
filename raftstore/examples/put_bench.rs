//! How much one put costs below the API: members in this process, real files for the WAL, the memory engine.
//!
//! `put_bench MEMBERS CLIENTS SECONDS [VALUE_BYTES]`. Members share one disk and two workers of tokio; each client waits
//! for its reply before the next put. Prints puts per second, CPU per put of the whole process, and latencies.
//! Sketch to hold it against: 1.4 us openraft, 1 us WAL, one encoding and one oneshot, the engine's own time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_mvcc::types::{Command, Event, Put};
use keelson_mvcc::{MemoryEngine, Store, StoreOptions};
use keelson_raftstore::net::memory::MemoryNetwork;
use keelson_raftstore::{
    Begin, Handle, Lane, LogOptions, NodeOptions, NodeParts, StoreEvents, WalDevice, start,
};
use keelson_wal::{Identity, Options, RealDisk, Wal, WriterOptions, spawn_writer};
use keelson_watch::{FrameCodec, Hub, HubOptions};
use openraft_rt_tokio::TokioRuntime;

struct NoFrames;

impl FrameCodec for NoFrames {
    fn events(&self, _events: &[&Event], _prev_kv: bool, _out: &mut BytesMut) {}
}

async fn member(
    id: u64,
    count: u64,
    dir: &Path,
    network: &MemoryNetwork<TokioRuntime>,
) -> Handle<MemoryEngine> {
    let mut salt = id;
    let salts = Box::new(move || {
        salt += 1;
        salt
    });
    let dir = dir.join(id.to_string());
    let options = Options::new(Identity { cluster: 1, member: id }, salts);
    let (wal, recovered) = Wal::open(RealDisk, &dir, options).expect("opens");
    let reader = wal.reader();
    let writer = spawn_writer(wal, WriterOptions::default()).expect("a thread");
    let engine = MemoryEngine::new(MemoryOptions::default());
    let store = Store::open(engine, StoreOptions::default()).expect("opens");
    let source = Arc::new(StoreEvents(store.reader()));
    let first = (1..=count).map(|id| (id, vec![format!("http://{id}")])).collect();
    let node = start::<TokioRuntime, MemoryEngine>(NodeParts {
        options: NodeOptions::new(1, id),
        device: Arc::new(WalDevice::new(writer, reader)),
        recovered,
        log: LogOptions::default(),
        hub: Hub::new(HubOptions::default(), source, Arc::new(NoFrames)),
        store,
        transport: network.transport(id),
        begin: Begin::Bootstrap(first),
        on_fatal: Box::new(|cause| panic!("{cause}")),
    })
    .await
    .expect("starts");
    network.join(id, node.peer_service());
    node
}

fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10_000
}

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [members, clients, seconds, rest @ ..] = &arguments[..] else {
        panic!("put_bench MEMBERS CLIENTS SECONDS [VALUE_BYTES]");
    };
    let value = Bytes::from(vec![7; rest.first().copied().unwrap_or(256) as usize]);
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let raft =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
    let network = MemoryNetwork::default();
    let nodes: Vec<_> = raft.block_on(async {
        let mut nodes = Vec::new();
        for id in 1..=*members {
            nodes.push(member(id, *members, dir.path(), &network).await);
        }
        while nodes.iter().any(|node| node.status().leader.is_none()) {
            nodes[0].changed().await;
        }
        nodes
    });
    let leader = nodes[0].status().leader.expect("one") as usize - 1;
    let node = nodes[leader].clone();
    let (done, count, total_us) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let cpu_before = cpu_us();
    let serving = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runs");
    serving.block_on(async {
        let (lane, end) = Lane::new();
        tokio::spawn(end.run());
        for client in 0..*clients {
            let (node, value, lane) = (node.clone(), value.clone(), lane.clone());
            let (done, count, total_us) = (done.clone(), count.clone(), total_us.clone());
            tokio::spawn(async move {
                let mut n = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let key = Bytes::from(format!("key-{client:05}-{:05}", n % 1000));
                    let put = Command::Put(Put { key, value: value.clone(), ..Put::default() });
                    let start = tokio::time::Instant::now();
                    node.propose(&put, Duration::from_secs(30), Some(&lane)).await.expect("applied");
                    total_us.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
            });
        }
        let _ = tokio::time::timeout(Duration::from_secs(*seconds), std::future::pending::<()>()).await;
        done.store(true, Ordering::Relaxed);
    });
    let puts = count.load(Ordering::Relaxed);
    let status = node.status();
    println!(
        "{members} members, {clients} clients, {} B: {:.0} puts/s, {:.1} us CPU/put, {:.2} ms mean, {:.1} puts/entry",
        value.len(),
        puts as f64 / *seconds as f64,
        (cpu_us() - cpu_before) as f64 / puts as f64,
        total_us.load(Ordering::Relaxed) as f64 / puts as f64 / 1000.0,
        puts as f64 / status.last_index as f64,
    );
}
