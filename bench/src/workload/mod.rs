//! The kinds of work, and one way to run any of them.
//!
//! Owns: the list of kinds, their options, who runs which. Called by: `cli`, `compare`.
//! Invariants: a kind works against any server that speaks the etcd v3 API; the same options give the same requests for
//! every server; what can be encoded before the clock starts is.

mod footprint;
mod kv;
mod lease;
mod list;
mod txn;
mod watch;
mod watcher_memory;

use std::time::Duration;

use clap::ValueEnum;

use crate::client::CallError;
use crate::data::Shape;
use crate::figures::{Figures, Metric};
use crate::fill::fill;
use crate::load::{self, Timing};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::target::Target;

/// The gRPC paths in use.
pub mod path {
    #![allow(missing_docs)]
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
}

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Put of one key.
    Put,
    /// Linearizable read of one key.
    Range,
    /// Serializable read of one key.
    RangeSerializable,
    /// Puts and linearizable reads of single keys, by --read-share.
    Mixed,
    /// Linearizable reads, --rate of them a second, beside --clients that put as fast as they can.
    ReadsUnderWrites,
    /// kube-apiserver's create: put if the key does not exist, else read it. Every request makes a new key.
    TxnCreate,
    /// kube-apiserver's update: put if the key is as it was last seen, else read it.
    TxnUpdate,
    /// A list in pages of --page-keys, as kube-apiserver reads it; a request is a page.
    ListPages,
    /// The whole data set in one Range.
    List,
    /// The whole data set as a RangeStream (etcd 3.7).
    ListStream,
    /// Keep-alives of one lease per client, each client on a stream of its own.
    LeaseKeepAlive,
    /// One key, watched by --watchers on each of --streams; how fast events leave.
    WatchFanOut,
    /// The same, with puts at --rate: how long after the put an event arrives.
    WatchLatency,
    /// Memory per watcher, stream and connection (needs --pids).
    WatcherMemory,
    /// Memory per key written (needs --pids).
    KeyMemory,
    /// The size of the database after every key was written --versions times and the past was compacted.
    Churn,
}

impl Kind {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// True if the keys must exist before the run.
    pub fn needs_keys(self) -> bool {
        use Kind::{List, ListPages, ListStream, Mixed, Range, RangeSerializable, ReadsUnderWrites};
        matches!(self, Range | RangeSerializable | Mixed | ReadsUnderWrites | ListPages | List | ListStream)
    }
}

/// What to do, how much of it, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The kind.
    pub kind: Kind,
    /// HTTP/2 connections in all.
    pub connections: usize,
    /// Concurrent clients in all; in an open loop the most requests in flight.
    pub clients: usize,
    /// When requests are due, and what counts.
    pub timing: Timing,
    /// Keys and values.
    pub shape: Shape,
    /// Write the data set first, if the kind needs it.
    pub fill: bool,
    /// Reads among all requests of [`Kind::Mixed`].
    pub read_share: f64,
    /// Keys per page of [`Kind::ListPages`].
    pub page_keys: u64,
    /// Watch streams.
    pub streams: usize,
    /// Watchers on each stream.
    pub watchers: usize,
    /// Versions of each key in [`Kind::Churn`].
    pub versions: u64,
    /// How long memory is given to settle before it is read.
    pub settle: Duration,
}

/// Does the work and returns what it found.
///
/// # Errors
/// The first failed call.
pub async fn run(target: &Target, options: &Options, progress: &Progress) -> Result<Figures, CallError> {
    let shape = options.shape;
    if options.fill && options.kind.needs_keys() {
        fill(target, shape, 0, progress).await?;
    }
    let connections = target.connect(options.connections).await?;
    let seats = || {
        (0..options.clients).map(|number| Seat {
            connection: connections[number % connections.len()].clone(),
            number: number as u64,
            of: options.clients as u64,
        })
    };
    let timing = options.timing;
    match options.kind {
        Kind::Put => {
            load::run(target, seats().map(|seat| kv::puts(seat, shape)).collect(), timing, progress).await
        }
        Kind::Range | Kind::RangeSerializable => {
            let serializable = options.kind == Kind::RangeSerializable;
            let clients = seats().map(|seat| kv::reads(seat, shape, serializable)).collect();
            load::run(target, clients, timing, progress).await
        }
        Kind::Mixed => {
            let clients = seats().map(|seat| kv::mixed(seat, shape, options.read_share)).collect();
            load::run(target, clients, timing, progress).await
        }
        Kind::ReadsUnderWrites => reads_under_writes(target, options, progress).await,
        Kind::TxnCreate => {
            load::run(target, seats().map(|seat| txn::Create::new(seat, shape)).collect(), timing, progress)
                .await
        }
        Kind::TxnUpdate => {
            load::run(target, seats().map(|seat| txn::Update::new(seat, shape)).collect(), timing, progress)
                .await
        }
        Kind::ListPages => {
            let clients = seats().map(|seat| list::Pages::new(seat, shape, options.page_keys)).collect();
            load::run(target, clients, timing, progress).await
        }
        Kind::List | Kind::ListStream => {
            let streamed = options.kind == Kind::ListStream;
            let clients = seats().map(|seat| list::Whole::new(seat, shape, streamed)).collect();
            load::run(target, clients, timing, progress).await
        }
        Kind::LeaseKeepAlive => {
            let mut clients = Vec::with_capacity(options.clients);
            for seat in seats() {
                clients.push(lease::KeepAlive::open(seat).await?);
            }
            load::run(target, clients, timing, progress).await
        }
        Kind::WatchFanOut => watch::fan_out(target, options, progress).await,
        Kind::WatchLatency => watch::latency(target, options, progress).await,
        Kind::WatcherMemory => watcher_memory::measure(target, options).await,
        Kind::KeyMemory => footprint::key_memory(target, options, progress).await,
        Kind::Churn => footprint::churn(target, options, progress).await,
    }
}

/// Where a client sits: its connection, its number among all.
pub(crate) struct Seat {
    pub(crate) connection: crate::client::Connection,
    pub(crate) number: u64,
    pub(crate) of: u64,
}

/// Reads at a fixed rate while writers saturate the server; latencies are those of the reads.
async fn reads_under_writes(
    target: &Target,
    options: &Options,
    progress: &Progress,
) -> Result<Figures, CallError> {
    const READERS: usize = 50;
    let rate = match options.timing.pace {
        Pace::Open { rate } => rate,
        Pace::Closed => 200.0,
    };
    let writers = Options {
        kind: Kind::Put,
        fill: false,
        timing: Timing { pace: Pace::Closed, ..options.timing },
        ..*options
    };
    let readers = Options {
        kind: Kind::Range,
        fill: false,
        connections: options.connections.min(READERS),
        clients: READERS,
        timing: Timing { pace: Pace::Open { rate }, ..options.timing },
        ..*options
    };
    let quiet = Progress::new("");
    let (writes, reads) =
        tokio::join!(Box::pin(run(target, &writers, progress)), Box::pin(run(target, &readers, &quiet)));
    let (writes, mut figures) = (writes?, reads?);
    // What the servers spent was spent on both; per write it says something, per read nothing.
    let spent = [
        Metric::CpuPerOperation,
        Metric::DiskPerOperation,
        Metric::ChargedPerOperation,
        Metric::SyncsPerOperation,
    ];
    for metric in spent {
        figures.set_from(metric, &writes);
    }
    figures.set(Metric::WritesBeside, writes.get(Metric::OperationsPerS).unwrap_or(f64::NAN));
    Ok(figures)
}
