//! The port for distributed tracing: who is told when a call begins and ends.
//!
//! Owns: the two traits. Called by: [`crate::edge::metrics::grpc`], which knows when each call ends and how; implemented by
//! the binary. Invariants: a span is ended exactly once, on any thread; neither side blocks.

use std::fmt::Debug;

use http::HeaderMap;

use super::listener::RemoteAddress;

/// Begins spans.
pub trait CallTracer: Debug + Send + Sync + 'static {
    /// A call of `method` (`/package.Service/Method`) begins; `None` if it is not recorded. `headers` may name the
    /// caller's own span.
    fn begin(
        &self,
        method: &'static str,
        headers: &HeaderMap,
        remote: Option<RemoteAddress>,
    ) -> Option<Box<dyn CallSpan>>;
}

/// A call that is recorded.
pub trait CallSpan: Debug + Send {
    /// It ended with this gRPC status.
    fn end(self: Box<Self>, code: i32);
}
