//! Free ports for servers under test.
//!
//! Owns: the search. Invariant: ports come from below the kernel's ephemeral range, so that an outgoing connection never
//! takes one between the search and the server's bind; one process never hands out a port twice.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// First port of the searched range and its length; Linux gives out ephemeral ports from 32768 on.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on.
///
/// # Panics
/// If the whole range is taken.
pub fn free_port() -> u16 {
    // Test binaries that run side by side start at different places.
    let start = std::process::id().wrapping_mul(601);
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = port as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
