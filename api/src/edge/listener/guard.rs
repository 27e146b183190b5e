//! Limits on HTTP/2 control frames that the HTTP/2 library does not enforce.
//!
//! Owns: a scanner of frame heads and the policy on top. Invariants: total on any byte stream; no allocation; payloads
//! are skipped, never read; the clock is read only for PING, RST_STREAM and other control frames, so DATA and HEADERS
//! cost a few nanoseconds. The library itself bounds header lists, CONTINUATION frames and streams that are reset
//! before they are accepted.
//! Called by: [`super::stream::EdgeIo`] with every chunk read and written.
//! Source: grpc-go internal/transport (ping strikes, keepalive enforcement); CVE-2023-44487, CVE-2019-9512, -9514,
//! -9515, -9518 (reset, ping, settings and empty frame floods).

use std::time::{Duration, Instant};

use super::options::Keepalive;
use super::sniff::PREFACE;
use crate::edge::clock;

/// Pings that may come too early before the connection ends; grpc-go's number.
const PING_STRIKES_MAX: u8 = 2;

/// Streams a client may reset at once and per second. Cancelling is legitimate (a client with ten thousand watches on
/// one connection that goes away); a million a minute is an attack.
const RESETS: Bucket = Bucket { tokens: 20_000, burst: 20_000, per_second: 1_000, refilled: None };

/// SETTINGS, PRIORITY, CONTINUATION and empty DATA frames: a few per connection in normal life.
const CONTROL: Bucket = Bucket { tokens: 10_000, burst: 10_000, per_second: 500, refilled: None };

/// What a client did beyond every reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Abuse {
    #[error("pings come faster than --grpc-keepalive-min-time allows")]
    Pings,
    #[error("streams are reset at a rate no client needs")]
    Resets,
    #[error("a flood of HTTP/2 control frames")]
    ControlFrames,
}

impl Abuse {
    /// Text of the GOAWAY frame; clients act on the first one.
    pub(crate) fn goaway_text(self) -> &'static [u8] {
        match self {
            Abuse::Pings => b"too_many_pings",
            Abuse::Resets => b"too_many_resets",
            Abuse::ControlFrames => b"too_many_control_frames",
        }
    }
}

/// Head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK_OR_END_STREAM: u8 = 1;

const HEAD_BYTES: usize = 9;

/// Finds frame heads in a byte stream that arrives in arbitrary pieces.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Bytes to pass over: the preface, then payloads.
    skip: u32,
    head: [u8; HEAD_BYTES],
    head_len: u8,
}

impl Scanner {
    pub(crate) fn after(preface_bytes: u32) -> Self {
        Scanner { skip: preface_bytes, head: [0; HEAD_BYTES], head_len: 0 }
    }

    /// True between two frames.
    pub(crate) fn at_boundary(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = bytes.len().min(self.skip as usize);
                self.skip -= u32::try_from(passed).expect("bounded by skip");
                bytes = &bytes[passed..];
                continue;
            }
            let have = usize::from(self.head_len);
            let take = bytes.len().min(HEAD_BYTES - have);
            self.head[have..have + take].copy_from_slice(&bytes[..take]);
            self.head_len += u8::try_from(take).expect("at most nine");
            bytes = &bytes[take..];
            if usize::from(self.head_len) == HEAD_BYTES {
                let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
                self.skip = length;
                self.head_len = 0;
                each(Frame { length, kind: self.head[3], flags: self.head[4] });
            }
        }
    }
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    burst: u32,
    per_second: u32,
    refilled: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.duration_since(*self.refilled.get_or_insert(now));
        let earned = since.as_millis() * u128::from(self.per_second) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.refilled = Some(now);
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// The policy of one connection.
#[derive(Debug)]
pub(crate) struct Guard {
    inbound: Scanner,
    outbound: Scanner,
    ping_min: Duration,
    last_ping: Option<Instant>,
    strikes: u8,
    resets: Bucket,
    control: Bucket,
    tripped: Option<Abuse>,
}

impl Guard {
    pub(crate) fn new(keepalive: &Keepalive) -> Self {
        Guard {
            inbound: Scanner::after(u32::try_from(PREFACE.len()).expect("24")),
            outbound: Scanner::after(0),
            ping_min: keepalive.min_time,
            last_ping: None,
            strikes: 0,
            resets: RESETS,
            control: CONTROL,
            tripped: None,
        }
    }

    /// Judges received bytes; returns the bytes of DATA frames that begin in them, or what the client did.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Result<u64, Abuse> {
        let Guard { inbound, ping_min, last_ping, strikes, resets, control, tripped, .. } = self;
        let mut data_bytes = 0;
        inbound.feed(bytes, |frame| {
            let found = match frame.kind {
                DATA if frame.length > 0 || frame.flags & ACK_OR_END_STREAM != 0 => {
                    data_bytes += u64::from(frame.length);
                    None
                }
                RST_STREAM => (!resets.take(clock::now())).then_some(Abuse::Resets),
                PING if frame.flags & ACK_OR_END_STREAM == 0 && !ping_min.is_zero() => {
                    let now = clock::now();
                    let early = last_ping.is_some_and(|last| now.duration_since(last) < *ping_min);
                    *strikes = strikes.saturating_add(u8::from(early));
                    *last_ping = Some(now);
                    (*strikes > PING_STRIKES_MAX).then_some(Abuse::Pings)
                }
                DATA | PRIORITY | CONTINUATION | SETTINGS => {
                    (!control.take(clock::now())).then_some(Abuse::ControlFrames)
                }
                _ => None,
            };
            *tripped = tripped.or(found);
        });
        self.tripped.map_or(Ok(data_bytes), Err)
    }

    /// Follows sent bytes; returns the bytes of DATA frames that begin in them.
    ///
    /// A client may ping as often as it likes while we send: that is how it measures bandwidth.
    pub(crate) fn sent(&mut self, bytes: &[u8]) -> u64 {
        let Guard { outbound, strikes, last_ping, .. } = self;
        let mut data_bytes = 0;
        outbound.feed(bytes, |frame| {
            if matches!(frame.kind, DATA | HEADERS) {
                *strikes = 0;
                *last_ping = None;
            }
            if frame.kind == DATA {
                data_bytes += u64::from(frame.length);
            }
        });
        data_bytes
    }

    /// True when a frame of ours may be inserted.
    pub(crate) fn may_insert(&self) -> bool {
        self.outbound.at_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        out.extend(std::iter::repeat_n(0xab, payload));
        out
    }

    #[test]
    fn scanner_finds_the_same_frames_however_the_stream_is_cut() {
        let mut stream = PREFACE.to_vec();
        for (kind, payload) in
            [(SETTINGS, 6), (HEADERS, 300), (DATA, 0), (DATA, 70_000), (PING, 8), (RST_STREAM, 4)]
        {
            stream.extend(frame(kind, 0, payload));
        }
        let scan = |piece: usize| {
            let mut scanner = Scanner::after(24);
            let mut found = Vec::new();
            stream.chunks(piece).for_each(|chunk| scanner.feed(chunk, |f| found.push((f.kind, f.length))));
            assert!(scanner.at_boundary());
            found
        };
        let whole = scan(stream.len());
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[3], (DATA, 70_000));
        for piece in [1, 2, 3, 7, 8, 9, 10, 23, 24, 25, 1000] {
            assert_eq!(scan(piece), whole, "pieces of {piece}");
        }
    }

    fn guard() -> Guard {
        let mut guard = Guard::new(&Keepalive::default());
        guard.received(PREFACE).unwrap();
        guard
    }

    #[test]
    fn early_pings_are_forgiven_twice_and_while_we_send() {
        let ping = frame(PING, 0, 8);
        let mut guard = guard();
        for _ in 0..3 {
            guard.received(&ping).unwrap(); // the first is free, two strikes follow
        }
        assert_eq!(guard.received(&ping), Err(Abuse::Pings));

        let mut guard = self::guard();
        for _ in 0..100 {
            guard.received(&ping).unwrap();
            assert_eq!(guard.sent(&frame(DATA, 0, 10)), 10);
        }
        for _ in 0..1000 {
            guard.received(&frame(PING, 1, 8)).unwrap(); // answers to our pings do not count
        }
    }

    #[test]
    fn floods_trip_and_traffic_does_not() {
        let mut one = guard();
        let reset = frame(RST_STREAM, 0, 4);
        let tripped_at = (0..100_000).position(|_| one.received(&reset).is_err());
        assert!(tripped_at.is_some_and(|at| (20_000..30_000).contains(&at)), "{tripped_at:?}");
        let mut two = guard();
        assert!((0..100_000).any(|_| two.received(&frame(SETTINGS, 0, 0)).is_err()));
        let mut three = guard();
        assert!((0..100_000).any(|_| three.received(&frame(DATA, 0, 0)).is_err()));
        let mut four = guard();
        let request =
            [frame(HEADERS, 4, 40), frame(DATA, 0, 300), frame(DATA, 1, 0), frame(8, 0, 4)].concat();
        for _ in 0..100_000 {
            assert_eq!(four.received(&request), Ok(300));
        }
    }
}
