//! Options of the load, shared by a run against given servers and by the comparison.
//!
//! Owns: their names and defaults. Called by: `cli`, `compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::data::{Data, Shape};
use crate::load::Timing;
use crate::pace::Pace;
use crate::transport::TlsFiles;
use crate::workload::{Kind, Options};

/// Keys and values.
#[derive(Args, Clone, Copy, Debug)]
pub struct ShapeOptions {
    /// What keys and values look like.
    #[arg(long, value_enum, default_value_t = Data::Pattern)]
    pub data: Data,
    /// Bytes per key (pattern data).
    #[arg(long, default_value_t = 32)]
    pub key_size: usize,
    /// Bytes per value (pattern data).
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 10_000)]
    pub key_space: u64,
    /// Start of the pseudo-random numbers: the same seed gives the same data.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl From<ShapeOptions> for Shape {
    fn from(options: ShapeOptions) -> Self {
        Shape {
            data: options.data,
            key_bytes: options.key_size,
            value_bytes: options.value_size,
            key_space: options.key_space.max(1),
            seed: options.seed,
        }
    }
}

/// Files for `https` endpoints, named as etcdctl names them.
#[derive(Args, Clone, Debug)]
pub struct TlsOptions {
    /// CA certificate to verify the server with.
    #[arg(long)]
    pub cacert: Option<PathBuf>,
    /// Certificate of the client.
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the client's certificate.
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
}

impl From<TlsOptions> for TlsFiles {
    fn from(options: TlsOptions) -> Self {
        TlsFiles { ca: options.cacert, cert: options.cert, key: options.key }
    }
}

/// How much of which work, for how long.
#[derive(Args, Clone, Copy, Debug)]
pub struct WorkOptions {
    /// HTTP/2 connections in all.
    #[arg(long, default_value_t = 10)]
    pub connections: usize,
    /// Concurrent clients in all.
    #[arg(long, default_value_t = 100)]
    pub clients: usize,
    /// Requests per second over all clients (open loop); without it each client waits for its answer (closed loop).
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds of load before the measurement.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// mixed: the share of reads among the requests.
    #[arg(long, default_value_t = 0.8)]
    pub read_share: f64,
    /// list-pages: keys per page.
    #[arg(long, default_value_t = 500)]
    pub page_keys: u64,
    /// watch workloads: streams in all.
    #[arg(long, default_value_t = 100)]
    pub streams: usize,
    /// watch workloads: watchers on each stream (watcher-memory: on the one shared stream).
    #[arg(long, default_value_t = 1)]
    pub watchers: usize,
    /// churn: how often every key is written.
    #[arg(long, default_value_t = 10)]
    pub versions: u64,
    /// Memory workloads: seconds the server is left alone before its memory is read.
    #[arg(long, default_value_t = 3.0)]
    pub settle: f64,
    /// Keys and values.
    #[command(flatten)]
    pub shape: ShapeOptions,
}

impl WorkOptions {
    /// The options of a run of `kind`.
    pub fn of(self, kind: Kind, fill: bool) -> Options {
        Options {
            kind,
            connections: self.connections.max(1),
            clients: self.clients.max(1),
            timing: Timing {
                pace: self.rate.filter(|&rate| rate > 0.0).map_or(Pace::Closed, |rate| Pace::Open { rate }),
                warm_up: Duration::from_secs_f64(self.warm_up.max(0.0)),
                duration: Duration::from_secs_f64(self.duration.max(0.1)),
            },
            shape: self.shape.into(),
            fill,
            read_share: self.read_share,
            page_keys: self.page_keys.max(1),
            streams: self.streams.max(1),
            watchers: self.watchers.max(1),
            versions: self.versions.max(1),
            settle: Duration::from_secs_f64(self.settle.max(0.0)),
        }
    }
}
