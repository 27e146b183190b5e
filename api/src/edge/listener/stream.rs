//! One type for every kind of connection, so that the HTTP code is compiled once.
//!
//! Owns: [`Transport`] (TCP or Unix), [`Stream`] (plain or TLS) and [`EdgeIo`] (replays the bytes read while the
//! protocol was detected, counts and guards HTTP/2 frames). Invariants: bytes pass in order and unchanged, but for an
//! `:authority` that is a URL ([`super::authority`]); a tripped guard ends the connection with GOAWAY where the outgoing
//! stream stands between two frames.
//! Called by: [`super::connection`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::authority::Repair;
use super::guard::{Abuse, Guard};
use super::sniff;
use super::stats::EdgeStats;

/// A socket.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket whose first bytes were read already.
#[derive(Debug)]
pub(crate) struct Replayed<T> {
    pub(crate) first: Bytes,
    pub(crate) inner: T,
}

/// A connection past its handshake.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Transport),
    Tls(Box<TlsStream<Replayed<Transport>>>),
}

/// What hyper reads from and writes to.
pub(crate) struct EdgeIo {
    stream: Replayed<Stream>,
    guard: Option<Guard>,
    /// Gone as soon as the first request was in order; boxed, because idle connections are many.
    repair: Option<Box<Repair>>,
    stats: Arc<EdgeStats>,
    worker: usize,
    abuse: Arc<parking_lot::Mutex<Option<Abuse>>>,
}

macro_rules! forward {
    ($type:ident: $($variant:ident),+) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($type::$variant(inner) => Pin::new(inner).poll_read(cx, buf),)+ }
            }
        }
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $($type::$variant(inner) => Pin::new(inner).poll_write(cx, buf),)+ }
            }
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($type::$variant(inner) => Pin::new(inner).poll_flush(cx),)+ }
            }
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($type::$variant(inner) => Pin::new(inner).poll_shutdown(cx),)+ }
            }
            fn poll_write_vectored(
                self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() { $($type::$variant(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),)+ }
            }
            fn is_write_vectored(&self) -> bool {
                match self { $($type::$variant(inner) => inner.is_write_vectored(),)+ }
            }
        }
    };
}

forward!(Transport: Tcp, Unix);
forward!(Stream: Plain, Tls);

impl<T> Replayed<T> {
    /// Nothing to replay yet.
    pub(crate) fn new(inner: T) -> Self {
        Replayed { first: Bytes::new(), inner }
    }
}

impl<T: AsyncRead + Unpin> Replayed<T> {
    /// Reads on until `judge` has seen enough (or the stream ends), and keeps every byte for the next reader.
    ///
    /// Returns the verdict, or `None` when the stream ended before any byte.
    pub(crate) async fn first_bytes(
        &mut self,
        judge: impl Fn(&[u8]) -> sniff::Verdict,
    ) -> io::Result<Option<sniff::Verdict>> {
        let mut seen = BytesMut::from(&self.first[..]);
        loop {
            let verdict = judge(&seen);
            if verdict != sniff::Verdict::More {
                self.first = seen.freeze();
                return Ok(Some(verdict));
            }
            seen.reserve(1024);
            if self.inner.read_buf(&mut seen).await? == 0 {
                let ended = (!seen.is_empty()).then_some(sniff::Verdict::Http1);
                self.first = seen.freeze();
                return Ok(ended);
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Replayed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let take = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..take]);
        self.first.advance(take);
        if self.first.is_empty() {
            self.first = Bytes::new(); // let go of the buffer
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replayed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl EdgeIo {
    /// `guard` is given for HTTP/2 connections.
    pub(crate) fn new(
        stream: Replayed<Stream>,
        guard: Option<Guard>,
        stats: Arc<EdgeStats>,
        worker: usize,
    ) -> Self {
        let repair = guard.is_some().then(|| Box::new(Repair::new()));
        EdgeIo { stream, guard, repair, stats, worker, abuse: Arc::default() }
    }

    /// Where the reason is left when the guard ends the connection.
    pub(crate) fn abuse(&self) -> Arc<parking_lot::Mutex<Option<Abuse>>> {
        Arc::clone(&self.abuse)
    }

    /// Best effort: tells the client why, if our outgoing stream is between two frames.
    fn say_goodbye(&mut self, abuse: Abuse, cx: &mut Context<'_>) {
        const ENHANCE_YOUR_CALM: u32 = 0xb;
        // All streams may have been processed: a client must not replay them as if they had not.
        const EVERY_STREAM: u32 = 0x7fff_ffff;
        if !self.guard.as_ref().is_some_and(Guard::may_insert) {
            return;
        }
        let mut frame = Vec::with_capacity(64);
        sniff::goaway(&mut frame, EVERY_STREAM, ENHANCE_YOUR_CALM, abuse.goaway_text());
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.stream).poll_write(cx, &frame) {
            drop(Pin::new(&mut self.stream).poll_flush(cx));
        }
    }

    fn count_sent<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        let Some(guard) = &mut self.guard else { return };
        let mut data_bytes = 0;
        for piece in pieces {
            let part = piece.len().min(written);
            data_bytes += guard.sent(&piece[..part]);
            written -= part;
            if written == 0 {
                break;
            }
        }
        assert_eq!(written, 0, "more was written than was given");
        if data_bytes > 0 {
            self.stats.workers[self.worker].0.sent_bytes.fetch_add(data_bytes, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for EdgeIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(repair) = &mut self.repair {
            repair.received(&mut buf.filled_mut()[before..]);
            if repair.is_settled() {
                self.repair = None;
            }
        }
        let Some(guard) = &mut self.guard else { return Poll::Ready(Ok(())) };
        match guard.received(&buf.filled()[before..]) {
            Ok(0) => {}
            Ok(data_bytes) => {
                self.stats.workers[self.worker].0.received_bytes.fetch_add(data_bytes, Ordering::Relaxed);
            }
            Err(abuse) => {
                *self.abuse.lock() = Some(abuse);
                self.say_goodbye(abuse, cx);
                return Poll::Ready(Err(io::Error::other(abuse)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EdgeIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.count_sent(std::iter::once(buf), written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.count_sent(bufs.iter().map(|piece| &**piece), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
