//! Numbers for operators, under etcd's names.
//!
//! Owns: a registry with Prometheus' text format, the instruments (counter, gauge, histogram, labelled sets), etcd's
//! metric catalogue and the per-method gRPC counts. Invariants: hot paths touch plain atomics only (no label lookup, no
//! lock, no allocation); the text has the form Go's client library writes, so that scrapers, dashboards and scripts
//! made for etcd work unchanged; a family without samples is not written.
//! Called by: every component through handles it is given; [`crate::edge::http`] writes the text.
//! Source: names, labels and buckets from etcd's metrics.go files; form from a scrape of etcd 3.7.3. The
//! `prometheus-client` crate writes OpenMetrics (`_total` appended to every counter, `# EOF`) and therefore cannot
//! produce names such as `etcd_server_health_success`; hence the writer of our own in [`text`].

pub mod edge;
pub mod etcd;
pub mod grpc;
pub mod instruments;
pub(crate) mod methods;
pub mod process;
pub mod registry;
pub mod text;

pub use etcd::EtcdMetrics;
pub use grpc::{GrpcLayer, GrpcMetrics, Metered};
pub use instruments::{Counter, Gauge, Histogram, Labeled};
pub use registry::Registry;

#[cfg(test)]
pub(crate) mod scrape;
#[cfg(test)]
mod tests;
